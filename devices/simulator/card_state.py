"""What a simulated card remembers (模拟): its files, its PIN, and what was written to it.

Owns the state and its form as JSON. It is pure; where it is kept is the rack's business.

Must never: be shown as it is. The JSON holds the PIN, for the card must know it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import Any

from devices.protocol import iccard_choices
from devices.protocol.iccard import InvoiceKind, IssueInvoice, card_no_of
from devices.protocol.iccard_choices import CLEARED, DECLARED
from devices.protocol.iccard_layouts import (
    TAX_SLOTS,
    ControlFile,
    DailyTotals,
    Declaration,
    IdentityFile,
    InvoiceRoll,
    Totals,
)
from devices.protocol.month import Month
from devices.simulator.world import WorldDisk

#: How many wrong PINs in a row a card takes before it locks.
MAX_TRIES = 3

_TAX_INDEX = bytes([1, 2, 3, 0, 0, 0])
_SINGLE_FEN, _TOTAL_FEN, _RETURN_FEN = 10_000_000, 1_000_000_000, 100_000_000


@dataclass(slots=True)
class CardState:
    """``generation``: how often the PIN rolled. ``written``: how many writes there were, and
    ``last_write`` the last of them, as it stands in the write log. ``accepted``: hexadecimal of the
    clear data last taken, to know a replay."""

    identity: IdentityFile
    controls: ControlFile
    declarations: list[Declaration]
    daily: list[DailyTotals]
    rolls: list[InvoiceRoll]
    pin: bytes = field(repr=False)
    tries: int
    generation: int = 0
    accepted: str = ""
    written: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    last_write: dict[str, Any] | None = None

    @property
    def cleared_through(self) -> dt.date | None:
        return max((d.end for d in self.declarations if d.cleared), default=None)

    @property
    def reported_through(self) -> dt.date | None:
        return max((d.end for d in self.declarations), default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "EF01": self.controls.encode().hex(),
            "EF02": self.identity.encode().hex(),
            "EF03": [record.encode().hex() for record in self.daily],
            "EF04": [record.encode().hex() for record in self.declarations],
            "EF05": [record.encode().hex() for record in self.rolls],
            "pin": self.pin.hex(),
            "tries": self.tries,
            "generation": self.generation,
            "accepted": self.accepted,
            "written": self.written,
            "counts": self.counts,
            "last_write": self.last_write,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> CardState:
        """The inverse; a file that was damaged raises KeyError, ValueError or Failure."""
        unhex = bytes.fromhex
        return cls(
            identity=IdentityFile.decode(unhex(raw["EF02"])),
            controls=ControlFile.decode(unhex(raw["EF01"])),
            declarations=[Declaration.decode(unhex(record)) for record in raw["EF04"]],
            daily=[DailyTotals.decode(unhex(record)) for record in raw["EF03"]],
            rolls=[InvoiceRoll.decode(unhex(record)) for record in raw["EF05"]],
            pin=unhex(raw["pin"]),
            tries=int(raw["tries"]),
            generation=int(raw["generation"]),
            accepted=str(raw["accepted"]),
            written=int(raw["written"]),
            counts=dict(raw["counts"]),
            last_write=raw["last_write"],
        )

    @classmethod
    def of_world(cls, disk: WorldDisk) -> CardState:
        """A card as the world file says it stands at the start. ValueError where that cannot be."""
        pin = disk.pin.encode("ascii")
        if len(pin) != 8 or not 0 <= disk.tries <= 0x0F:
            raise ValueError(f"{disk.device_no}: PIN of 8 characters, 0…15 tries")
        cleared = dt.date.fromisoformat(disk.cleared_through)
        reported = dt.date.fromisoformat(disk.reported_through)
        daily = [_day(entry) for entry in disk.invoices]
        declarations = [_declaration([], Month.of(cleared).first, cleared, CLEARED)]
        if reported > cleared:
            start = cleared + dt.timedelta(days=1)
            declarations.append(_declaration(daily, start, reported, DECLARED))
        return cls(
            identity=_identity(disk),
            controls=ControlFile(
                dt.date.fromisoformat(disk.issue_deadline),
                _SINGLE_FEN,
                _TOTAL_FEN,
                _RETURN_FEN,
                _TAX_INDEX,
            ),
            declarations=declarations,
            daily=daily,
            rolls=[InvoiceRoll(0, "0440025001", 1, 10_000)],
            pin=pin,
            tries=disk.tries,
        )


def sums(
    daily: list[DailyTotals], start: dt.date, end: dt.date
) -> tuple[list[DailyTotals], int, int]:
    """The days in a span, and their valid and return amounts in fen."""
    days = [day for day in daily if start <= day.day <= end]
    valid = sum(sum(day.totals.valid) for day in days)
    returned = sum(sum(day.totals.returned) for day in days)
    return days, valid, returned


def with_invoice(day: DailyTotals, invoice: IssueInvoice, code: bytes) -> DailyTotals:
    """``day`` with one invoice more. ValueError for a tax index that no slot holds."""
    valid, returned = list(day.totals.valid), list(day.totals.returned)
    counted = {
        InvoiceKind.NORMAL: (1, 0, 0, valid),
        InvoiceKind.RETURN: (0, 1, 0, returned),
        InvoiceKind.VOID: (0, 0, 1, [0] * TAX_SLOTS),
    }
    plus_valid, plus_return, plus_void, amounts = counted[invoice.kind]
    for index, fen in invoice.lines:
        if fen:
            amounts[list(day.totals.tax_index).index(index)] += fen
    return replace(
        day,
        valid_count=day.valid_count + plus_valid,
        return_count=day.return_count + plus_return,
        void_count=day.void_count + plus_void,
        totals=Totals(day.totals.tax_index, tuple(valid), tuple(returned)),
        last_invoice_no=invoice.number,
        last_fiscal_code=code,
    )


def _declaration(
    daily: list[DailyTotals], start: dt.date, end: dt.date, status: int
) -> Declaration:
    days, valid, returned = sums(daily, start, end)
    return Declaration(
        start,
        end,
        sum(day.valid_count for day in days),
        sum(day.return_count for day in days),
        sum(day.void_count for day in days),
        _totals(valid, returned),
        status,
    )


def _day(entry: dict[str, Any]) -> DailyTotals:
    return DailyTotals(
        dt.date.fromisoformat(entry["date"]),
        entry.get("valid", 0),
        entry.get("returned", 0),
        entry.get("voided", 0),
        _totals(entry.get("valid_fen", 0), entry.get("return_fen", 0)),
    )


def _totals(valid_fen: int, return_fen: int) -> Totals:
    """Everything under the card's first tax index: the world does not tell rates apart."""
    return Totals(_TAX_INDEX, (valid_fen, 0, 0, 0, 0, 0), (return_fen, 0, 0, 0, 0, 0))


def _identity(disk: WorldDisk) -> IdentityFile:
    training = disk.training
    return IdentityFile(
        card_type=iccard_choices.CARD_TRAINING if training else iccard_choices.CARD_FISCAL,
        registered=iccard_choices.REGISTERED,
        card_no=card_no_of(disk.device_no),
        machine_no=iccard_choices.machine_no_of(disk.terminal_no),
        taxpayer_no=bytes(8),
        tax_id=disk.tax_id,
        valid_from=dt.date(2020, 1, 1),
        valid_to=dt.date(2039, 12, 31),
        application_type=1,
        version=1,
        fci=0,
        taxpayer_name=_fitting(disk.taxpayer_name, IdentityFile.NAME_BYTES),
        office_code=bytes(4),
        declare_mode=1,
        pin_mode=1,
    )


def _fitting(name: str, length: int) -> str:
    """As much of ``name`` as the card has room for, cut between characters."""
    while len(name.encode("gb18030")) > length:
        name = name[:-1]
    return name
