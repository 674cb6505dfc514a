"""Byte layouts of the tax-control IC card: files, records, command data and answers.

Owns lengths, order and check bytes as in protocol-ic-card.md (GB/T 18240.2), encoded and decoded
both ways. Numbers are big-endian, dates 4 bytes BCD ``YYYYMMDD``, amounts unsigned in fen ◇, texts
GB 18030 padded with spaces ◇, the last byte of a checked structure the XOR of all before it.

Must never: accept bytes it cannot explain. Decoding any bytes gives a value or raises
Failure(device_garbled) naming the field. Encoding raises ValueError: such a value is our mistake.
"""

from __future__ import annotations

import datetime as dt
import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field

from devices.protocol.failures import Code, Failure
from devices.protocol.iccard_choices import CLEARED, DECLARED
from devices.protocol.month import LAST_YEAR

CARD_NO_BYTES = 8
TAX_SLOTS = 6


# --- the small parts ----------------------------------------------------------------------------


def xor(data: bytes) -> int:
    """The check byte of ``data``."""
    return functools.reduce(operator.xor, data, 0)


def checked(data: bytes) -> bytes:
    """``data`` with its check byte appended."""
    return data + bytes([xor(data)])


def encode_bcd_date(day: dt.date) -> bytes:
    return bytes.fromhex(f"{day:%Y%m%d}".zfill(8))


def decode_bcd_date(raw: bytes, name: str = "date") -> dt.date:
    """4 bytes BCD. Raises Failure(device_garbled)."""
    digits = raw.hex()
    if len(raw) != 4 or not digits.isdigit():
        raise _garbled(name)
    try:
        return dt.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise _garbled(name) from None


def encode_text(text: str, length: int) -> bytes:
    """GB 18030, padded with spaces to ``length`` bytes; ValueError when it does not fit."""
    raw = text.encode("gb18030")
    if len(raw) > length:
        raise ValueError(f"text longer than {length} bytes")
    return raw.ljust(length, b" ")


def encode_number(value: int, length: int) -> bytes:
    """Unsigned, big-endian; ValueError when it does not fit."""
    if not 0 <= value < 1 << (8 * length):
        raise ValueError(f"number does not fit into {length} bytes")
    return value.to_bytes(length, "big")


def _garbled(name: str) -> Failure:
    return Failure(Code.DEVICE_GARBLED, detail=name)


class Cursor:
    """Reads fields of one structure one after another; every mistake is a Failure with its name."""

    def __init__(self, raw: bytes, length: int, name: str, *, check: bool = False) -> None:
        if len(raw) != length or (check and xor(raw) != 0):
            raise _garbled(name)
        self._raw = raw
        self._at = 0
        self._name = name

    def bytes(self, length: int) -> bytes:
        self._at += length
        return self._raw[self._at - length : self._at]

    def number(self, length: int) -> int:
        return int.from_bytes(self.bytes(length), "big")

    def amounts(self) -> tuple[int, ...]:
        return tuple(self.number(4) for _ in range(TAX_SLOTS))

    def date(self, name: str) -> dt.date:
        return decode_bcd_date(self.bytes(4), f"{self._name} {name}")

    def text(self, length: int, name: str) -> str:
        try:
            text = self.bytes(length).decode("gb18030")
        except UnicodeDecodeError:
            raise _garbled(f"{self._name} {name}") from None
        text = text.rstrip(" \0")
        if not text.isprintable():
            raise _garbled(f"{self._name} {name}")
        return text


@dataclass(frozen=True, slots=True)
class Totals:
    """Amounts in fen per tax index: six slots, each with the index it stands for (0 = unused)."""

    tax_index: bytes = bytes(TAX_SLOTS)
    valid: tuple[int, ...] = (0,) * TAX_SLOTS
    returned: tuple[int, ...] = (0,) * TAX_SLOTS

    LENGTH = TAX_SLOTS + 2 * 4 * TAX_SLOTS  # 54

    def encode(self) -> bytes:
        if {len(self.tax_index), len(self.valid), len(self.returned)} != {TAX_SLOTS}:
            raise ValueError("six tax slots")
        amounts = (encode_number(amount, 4) for amount in (*self.valid, *self.returned))
        return self.tax_index + b"".join(amounts)

    @classmethod
    def read(cls, cursor: Cursor) -> Totals:
        return cls(cursor.bytes(TAX_SLOTS), cursor.amounts(), cursor.amounts())


# --- files --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ControlFile:
    """EF01, 23 bytes: the card's control data. Limits in fen."""

    issue_deadline: dt.date
    single_limit: int
    total_limit: int
    return_limit: int
    tax_index: bytes = bytes(TAX_SLOTS)
    detail_mode: int = 1

    LENGTH = 23

    def encode(self) -> bytes:
        limits = (self.single_limit, self.total_limit, self.return_limit)
        if len(self.tax_index) != TAX_SLOTS:
            raise ValueError("six tax slots")
        return (
            encode_bcd_date(self.issue_deadline)
            + b"".join(encode_number(limit, 4) for limit in limits)
            + self.tax_index
            + encode_number(self.detail_mode, 1)
        )

    @classmethod
    def decode(cls, raw: bytes) -> ControlFile:
        at = Cursor(raw, cls.LENGTH, "EF01")
        return cls(
            issue_deadline=at.date("issue deadline"),
            single_limit=at.number(4),
            total_limit=at.number(4),
            return_limit=at.number(4),
            tax_index=at.bytes(TAX_SLOTS),
            detail_mode=at.number(1),
        )


@dataclass(frozen=True, slots=True)
class IdentityFile:
    """EF02, 103 bytes: whose card it is, readable without a PIN."""

    card_type: int
    registered: int
    card_no: bytes
    machine_no: bytes
    taxpayer_no: bytes
    tax_id: str
    valid_from: dt.date
    valid_to: dt.date
    application_type: int
    version: int
    fci: int
    taxpayer_name: str
    office_code: bytes
    declare_mode: int
    pin_mode: int

    LENGTH = 103
    TAX_ID_BYTES = 20
    NAME_BYTES = 40

    def encode(self) -> bytes:
        if {len(self.card_no), len(self.machine_no), len(self.taxpayer_no)} != {CARD_NO_BYTES}:
            raise ValueError("numbers of 8 bytes")
        if len(self.office_code) != 4:
            raise ValueError("office code of 4 bytes")
        return (
            bytes([self.card_type, self.registered])
            + self.card_no
            + self.machine_no
            + self.taxpayer_no
            + encode_text(self.tax_id, self.TAX_ID_BYTES)
            + encode_bcd_date(self.valid_from)
            + encode_bcd_date(self.valid_to)
            + bytes([self.application_type, self.version, self.fci])
            + encode_text(self.taxpayer_name, self.NAME_BYTES)
            + self.office_code
            + bytes([self.declare_mode, self.pin_mode])
        )

    @classmethod
    def decode(cls, raw: bytes) -> IdentityFile:
        at = Cursor(raw, cls.LENGTH, "EF02")
        return cls(
            card_type=at.number(1),
            registered=at.number(1),
            card_no=at.bytes(CARD_NO_BYTES),
            machine_no=at.bytes(8),
            taxpayer_no=at.bytes(8),
            tax_id=at.text(cls.TAX_ID_BYTES, "tax id"),
            valid_from=at.date("valid from"),
            valid_to=at.date("valid to"),
            application_type=at.number(1),
            version=at.number(1),
            fci=at.number(1),
            taxpayer_name=at.text(cls.NAME_BYTES, "taxpayer name"),
            office_code=at.bytes(4),
            declare_mode=at.number(1),
            pin_mode=at.number(1),
        )


@dataclass(frozen=True, slots=True)
class DailyTotals:
    """One record of EF03, 76 bytes: what was issued on one day."""

    day: dt.date
    valid_count: int
    return_count: int
    void_count: int
    totals: Totals
    last_invoice_no: int = 0
    last_fiscal_code: bytes = bytes(8)

    LENGTH = 76

    def encode(self) -> bytes:
        if len(self.last_fiscal_code) != 8:
            raise ValueError("fiscal code of 8 bytes")
        counts = (self.valid_count, self.return_count, self.void_count)
        return (
            encode_bcd_date(self.day)
            + b"".join(encode_number(count, 2) for count in counts)
            + self.totals.encode()
            + encode_number(self.last_invoice_no, 4)
            + self.last_fiscal_code
        )

    @classmethod
    def decode(cls, raw: bytes) -> DailyTotals:
        at = Cursor(raw, cls.LENGTH, "EF03")
        return cls(
            day=at.date("date"),
            valid_count=at.number(2),
            return_count=at.number(2),
            void_count=at.number(2),
            totals=Totals.read(at),
            last_invoice_no=at.number(4),
            last_fiscal_code=at.bytes(8),
        )


@dataclass(frozen=True, slots=True)
class Declaration:
    """One record of EF04, 75 bytes: what was declared, and whether it is cleared."""

    start: dt.date
    end: dt.date
    valid_count: int
    return_count: int
    void_count: int
    totals: Totals = field(default_factory=Totals)
    status: int = DECLARED
    mac1: bytes = bytes(4)

    LENGTH = 75

    @property
    def cleared(self) -> bool:
        return self.status == CLEARED

    def encode(self) -> bytes:
        if len(self.mac1) != 4 or self.status not in (DECLARED, CLEARED):
            raise ValueError("mac of 4 bytes, known status")
        return (
            encode_bcd_date(self.start)
            + encode_bcd_date(self.end)
            + encode_number(self.valid_count, 4)
            + encode_number(self.return_count, 2)
            + encode_number(self.void_count, 2)
            + self.totals.encode()
            + bytes([self.status])
            + self.mac1
        )

    @classmethod
    def decode(cls, raw: bytes) -> Declaration:
        at = Cursor(raw, cls.LENGTH, "EF04")
        record = cls(
            start=at.date("start"),
            end=at.date("end"),
            valid_count=at.number(4),
            return_count=at.number(2),
            void_count=at.number(2),
            totals=Totals.read(at),
            status=at.number(1),
            mac1=at.bytes(4),
        )
        if record.end < record.start or record.status not in (DECLARED, CLEARED):
            raise _garbled("EF04 dates or status")
        return record


@dataclass(frozen=True, slots=True)
class InvoiceRoll:
    """One record of EF05, 19 bytes: a roll of invoice numbers."""

    used_up: int
    invoice_code: str
    first_no: int
    last_no: int

    LENGTH = 19

    def encode(self) -> bytes:
        return (
            encode_number(self.used_up, 1)
            + encode_text(self.invoice_code, 10)
            + encode_number(self.first_no, 4)
            + encode_number(self.last_no, 4)
        )

    @classmethod
    def decode(cls, raw: bytes) -> InvoiceRoll:
        at = Cursor(raw, cls.LENGTH, "EF05")
        return cls(at.number(1), at.text(10, "invoice code"), at.number(4), at.number(4))


def is_blank(record: bytes) -> bool:
    """Whether a record was allocated but never written: all 00 or all FF ◇."""
    return set(record) in ({0x00}, {0xFF})


def open_start(declarations: Sequence[Declaration], valid_from: dt.date) -> dt.date:
    """First day of the period now open ◇: the day after the last cleared declaration.

    An uncleared declaration is thus declared again from the same start. Failure(device_garbled)
    for a declaration that ends with the calendar.
    """
    cleared = [declaration.end for declaration in declarations if declaration.cleared]
    start = valid_from
    if cleared and (end := max(cleared)) < dt.date.max:
        start = end + dt.timedelta(days=1)
    if start.year > LAST_YEAR:
        raise _garbled("EF04 end")
    return start
