"""The command set of the tax-control IC card (GB/T 18240.2): what is sent and what comes back.

Owns the commands of protocol-ic-card.md with their exact data and answers; structures shared with
the card's files are in ``iccard_layouts``, the bytes of an APDU in ``apdu``. Each command has a
function that builds it; each data block and answer encodes and decodes both ways, because the
driver speaks one side and the simulated card the other.

Must never: send anything, or make sense of bytes that do not fit (Failure(device_garbled)).
"""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass

from devices.protocol.apdu import Command
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard_layouts import (
    CARD_NO_BYTES,
    TAX_SLOTS,
    Cursor,
    Totals,
    checked,
    encode_bcd_date,
    encode_number,
)


class Application(enum.Enum):
    """Names for SELECT: which kind of card this is."""

    FISCAL = b"TSAM01"  # 税控卡
    USER = b"TID01"
    INSPECTION = b"CHECK01"


class FileId(enum.IntEnum):
    """Elementary files of the fiscal card; the first two are transparent, the rest hold records."""

    CONTROL = 0xEF01
    IDENTITY = 0xEF02
    DAILY = 0xEF03
    DECLARATIONS = 0xEF04
    ROLLS = 0xEF05


class Ins(enum.IntEnum):
    """Instruction bytes; those from F0 on belong to class C0, the others are ISO 7816-4."""

    VERIFY = 0x20
    GET_CHALLENGE = 0x84
    SELECT = 0xA4
    READ_BINARY = 0xB0
    READ_RECORD = 0xB2
    GET_RESPONSE = 0xC0
    GET_REGISTER_NB = 0xF0
    ISSUE_INVOICE = 0xF2
    DECLARE_DUTY = 0xF4
    UPDATE_CONTROLS = 0xF6
    VERIFY_FISCAL_PIN = 0xF9
    DAILY_COLLECT_SIGN = 0xFB


FISCAL_CLA = 0xC0
ISO_CLA = 0x00
PIN_BYTES = 8
SIGNATURE_BYTES = 128
MAC_BYTES = 4
#: Records are numbered 1…254.
MAX_RECORDS = 254

#: A command with one of these may have changed the card when its answer is lost.
CHANGING = frozenset(
    {
        Ins.VERIFY,
        Ins.ISSUE_INVOICE,
        Ins.DECLARE_DUTY,
        Ins.UPDATE_CONTROLS,
        Ins.VERIFY_FISCAL_PIN,
        Ins.DAILY_COLLECT_SIGN,
    }
)


def changes_card(apdu: bytes) -> bool:
    """Whether the card may be another after this APDU: what ``outcome_unknown`` follows from."""
    return len(apdu) >= 2 and apdu[1] in CHANGING


def command_name(apdu: bytes) -> str:
    """A name for logs and fault hooks: ``SELECT TSAM01``, ``READ_RECORD 3`` … never any data."""
    try:
        command = Command.decode(apdu)
        name = Ins(command.ins).name
    except ValueError:
        return "?"
    if command.ins == Ins.SELECT and command.p1 == 4:
        known = {application.value for application in Application}
        return f"{name} {command.data.decode('ascii')}" if command.data in known else name
    if command.ins == Ins.SELECT and len(command.data) == 2:
        return f"{name} {command.data.hex().upper()}"
    return f"{name} {command.p1}" if command.ins == Ins.READ_RECORD else name


# --- commands without a structure of their own ----------------------------------------------------


def select_application(application: Application) -> Command:
    return Command(ISO_CLA, Ins.SELECT, 0x04, 0x00, application.value, le=256)


def select_file(file: FileId) -> Command:
    return Command(ISO_CLA, Ins.SELECT, 0x00, 0x00, int(file).to_bytes(2, "big"), le=256)


def read_binary(length: int, offset: int = 0) -> Command:
    if not 0 <= offset <= 0xFF:
        raise ValueError("offset in one byte")
    return Command(ISO_CLA, Ins.READ_BINARY, 0x00, offset, le=length)


def read_record(number: int) -> Command:
    """Record ``number`` (1…254) of the selected file, whatever its length."""
    if not 1 <= number <= MAX_RECORDS:
        raise ValueError("records are numbered 1…254")
    return Command(ISO_CLA, Ins.READ_RECORD, number, 0x04, le=256)


def get_challenge() -> Command:
    return Command(ISO_CLA, Ins.GET_CHALLENGE, le=8)


def verify(pin: bytes, reference: int) -> Command:
    """VERIFY of a user PIN (not the rolling one)."""
    return Command(ISO_CLA, Ins.VERIFY, 0x00, reference, pin)


def get_register_number() -> Command:
    return Command(FISCAL_CLA, Ins.GET_REGISTER_NB, le=RegisterNumber.LENGTH)


def verify_fiscal_pin(pin: bytes) -> Command:
    """The command that rolls: the answer is the next PIN (8 bytes)."""
    if len(pin) != PIN_BYTES:
        raise ValueError("a fiscal PIN has 8 bytes")
    return Command(FISCAL_CLA, Ins.VERIFY_FISCAL_PIN, data=pin, le=PIN_BYTES)


# --- command data and answers ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RegisterNumber:
    """Answer of GET_REGISTER_NB, 16 bytes."""

    random: bytes
    card_no: bytes
    mac1: bytes

    LENGTH = 0x10

    def encode(self) -> bytes:
        if (len(self.random), len(self.card_no), len(self.mac1)) != (4, CARD_NO_BYTES, MAC_BYTES):
            raise ValueError("4, 8 and 4 bytes")
        return self.random + self.card_no + self.mac1

    @classmethod
    def decode(cls, raw: bytes) -> RegisterNumber:
        at = Cursor(raw, cls.LENGTH, "GET_REGISTER_NB")
        return cls(at.bytes(4), at.bytes(CARD_NO_BYTES), at.bytes(MAC_BYTES))


class InvoiceKind(enum.IntEnum):
    NORMAL = 1
    RETURN = 2
    VOID = 3


@dataclass(frozen=True, slots=True)
class IssueInvoice:
    """Data of ISSUE_INVOICE, 0x2C bytes. ``lines``: six of (tax index, amount in fen)."""

    day: dt.date
    kind: InvoiceKind
    number: int
    lines: tuple[tuple[int, int], ...]
    total: int

    LENGTH = 0x2C
    ANSWER_LENGTH = 0x08

    def encode(self) -> bytes:
        if len(self.lines) != TAX_SLOTS:
            raise ValueError("six lines")
        return checked(
            encode_bcd_date(self.day)
            + bytes([self.kind])
            + encode_number(self.number, 4)
            + b"".join(encode_number(i, 1) + encode_number(fen, 4) for i, fen in self.lines)
            + encode_number(self.total, 4)
        )

    def command(self) -> Command:
        return Command(FISCAL_CLA, Ins.ISSUE_INVOICE, data=self.encode(), le=self.ANSWER_LENGTH)

    @classmethod
    def decode(cls, raw: bytes) -> IssueInvoice:
        at = Cursor(raw, cls.LENGTH, "ISSUE_INVOICE", check=True)
        day, kind, number = at.date("date"), at.number(1), at.number(4)
        lines = tuple((at.number(1), at.number(4)) for _ in range(TAX_SLOTS))
        if kind not in list(InvoiceKind):
            raise Failure(Code.DEVICE_GARBLED, detail="ISSUE_INVOICE kind")
        return cls(day, InvoiceKind(kind), number, lines, at.number(4))


@dataclass(frozen=True, slots=True)
class DeclareDuty:
    """Data of DECLARE_DUTY, 0x47 bytes: the totals of ``start`` … ``end``, summed by the driver."""

    start: dt.date
    end: dt.date
    valid_count: int
    return_count: int
    void_count: int
    totals: Totals

    LENGTH = 0x47

    def encode(self) -> bytes:
        return checked(
            encode_bcd_date(self.start)
            + encode_bcd_date(self.end)
            + encode_number(self.valid_count, 4)
            + encode_number(self.return_count, 2)
            + encode_number(self.void_count, 2)
            + self.totals.encode()
        )

    def command(self) -> Command:
        return Command(FISCAL_CLA, Ins.DECLARE_DUTY, data=self.encode(), le=DeclareAnswer.LENGTH)

    @classmethod
    def decode(cls, raw: bytes) -> DeclareDuty:
        at = Cursor(raw, cls.LENGTH, "DECLARE_DUTY", check=True)
        duty = cls(
            start=at.date("start"),
            end=at.date("end"),
            valid_count=at.number(4),
            return_count=at.number(2),
            void_count=at.number(2),
            totals=Totals.read(at),
        )
        if duty.end < duty.start:
            raise Failure(Code.DEVICE_GARBLED, detail="DECLARE_DUTY dates")
        return duty


@dataclass(frozen=True, slots=True)
class DeclareAnswer:
    """Answer of DECLARE_DUTY, 0x8E bytes: the card's own totals in fen, signed."""

    total_valid: int
    total_return: int
    status: int
    mac1: bytes
    signature: bytes

    LENGTH = 0x8E

    def encode(self) -> bytes:
        if (len(self.mac1), len(self.signature)) != (MAC_BYTES, SIGNATURE_BYTES):
            raise ValueError("mac of 4, signature of 128 bytes")
        return checked(
            encode_number(self.total_valid, 4)
            + encode_number(self.total_return, 4)
            + encode_number(self.status, 1)
            + self.mac1
            + self.signature
        )

    @classmethod
    def decode(cls, raw: bytes) -> DeclareAnswer:
        at = Cursor(raw, cls.LENGTH, "DECLARE_DUTY answer", check=True)
        return cls(
            at.number(4), at.number(4), at.number(1), at.bytes(MAC_BYTES), at.bytes(SIGNATURE_BYTES)
        )


@dataclass(frozen=True, slots=True)
class UpdateControls:
    """Data of UPDATE_CONTROLS, 0x1D bytes, as the bureau made it; the driver never looks inside."""

    key_id: int
    ciphertext: bytes
    mac2: bytes

    LENGTH = 0x1D
    CIPHERTEXT_BYTES = 24

    def encode(self) -> bytes:
        if (len(self.ciphertext), len(self.mac2)) != (self.CIPHERTEXT_BYTES, MAC_BYTES):
            raise ValueError("ciphertext of 24, mac of 4 bytes")
        return encode_number(self.key_id, 1) + self.ciphertext + self.mac2

    def command(self) -> Command:
        return Command(FISCAL_CLA, Ins.UPDATE_CONTROLS, data=self.encode())

    @classmethod
    def decode(cls, raw: bytes) -> UpdateControls:
        at = Cursor(raw, cls.LENGTH, "UPDATE_CONTROLS")
        return cls(at.number(1), at.bytes(cls.CIPHERTEXT_BYTES), at.bytes(MAC_BYTES))


@dataclass(frozen=True, slots=True)
class DailyCollect:
    """Data of DAILY_COLLECT_SIGN, 0x41 bytes: the totals of one day to be signed."""

    day: dt.date
    valid_count: int
    return_count: int
    void_count: int
    totals: Totals

    LENGTH = 0x41

    def encode(self) -> bytes:
        counts = (self.valid_count, self.return_count, self.void_count)
        return checked(
            encode_bcd_date(self.day)
            + b"".join(encode_number(count, 2) for count in counts)
            + self.totals.encode()
        )

    def command(self) -> Command:
        return Command(
            FISCAL_CLA, Ins.DAILY_COLLECT_SIGN, data=self.encode(), le=DailySignature.LENGTH
        )

    @classmethod
    def decode(cls, raw: bytes) -> DailyCollect:
        at = Cursor(raw, cls.LENGTH, "DAILY_COLLECT_SIGN", check=True)
        return cls(at.date("date"), at.number(2), at.number(2), at.number(2), Totals.read(at))


@dataclass(frozen=True, slots=True)
class DailySignature:
    """Answer of DAILY_COLLECT_SIGN, 0x81 bytes."""

    signature: bytes

    LENGTH = 0x81

    def encode(self) -> bytes:
        if len(self.signature) != SIGNATURE_BYTES:
            raise ValueError("signature of 128 bytes")
        return checked(self.signature)

    @classmethod
    def decode(cls, raw: bytes) -> DailySignature:
        at = Cursor(raw, cls.LENGTH, "DAILY_COLLECT_SIGN answer", check=True)
        return cls(at.bytes(SIGNATURE_BYTES))


def decode_next_pin(raw: bytes) -> bytes:
    """Answer of VERIFY_FISCAL_PIN: exactly 8 bytes, the next PIN. Failure(device_garbled)."""
    if len(raw) != PIN_BYTES:
        raise Failure(Code.DEVICE_GARBLED, raw_text=f"{len(raw)} bytes", detail="next PIN")
    return raw


def device_no_of(card_no: bytes) -> str:
    """The device number we write: 8 bytes as 16 upper-case hexadecimal digits."""
    return card_no.hex().upper()


def card_no_of(device_no: str) -> bytes:
    """The inverse of :func:`device_no_of`; ValueError for anything else."""
    raw = bytes.fromhex(device_no)
    if len(raw) != CARD_NO_BYTES or device_no_of(raw) != device_no:
        raise ValueError("16 upper-case hexadecimal digits")
    return raw
