"""What a simulated component disk remembers (模拟): its types, dates, invoices, and its writes.

Owns the state and its form as JSON, and how a world file's disk becomes one. It is pure; where it
is kept is the stand-in component's business.

Must never: be shown as it is. The JSON holds the passwords, for the disk must know them.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from devices.protocol.control import BEIJING
from devices.protocol.month import Month
from devices.simulator.world import WorldDisk, WorldType

#: How many wrong passwords in a row a disk takes before it locks.
MAX_TRIES = 3

_DEFAULT_TYPE = "007"
_TAX_PERCENT = 13


class Quirk(enum.StrEnum):
    """Oddities of real disks, asked for in the world file."""

    SHORT_DATES = "short_dates"  # 8 digits, whatever the kind
    LONG_DATES = "long_dates"  # 14 digits
    EMPTY_HAS_NO_SUMMARY = "empty_has_no_summary"  # a month without invoices: 195 / 09d11b
    KEEPS_NO_SUMMARY = "keeps_no_summary"  # 202 / 1086 comes without the summary
    DATE_CHANGE = "date_change"  # 706 around midnight


@dataclass(frozen=True, slots=True)
class Day:
    """What was issued of one type on one day: pieces, and amounts in fen."""

    day: dt.date
    valid: int = 0
    returned: int = 0
    voided: int = 0
    valid_fen: int = 0
    return_fen: int = 0
    valid_tax_fen: int = 0
    return_tax_fen: int = 0


@dataclass(frozen=True, slots=True)
class TypeState:
    """One invoice type. ``reported_at``: when it was last reported (empty: before this world), and
    ``reported_before`` what the report date was until then. ``accepted``: hexadecimal of the clear
    data last taken."""

    issue_deadline: dt.date
    cleared_through: dt.date
    reported_through: dt.date
    reported_before: dt.date
    reported_at: str = ""
    pending: int = 0
    pending_fen: int = 0
    days: tuple[Day, ...] = ()
    accepted: str = ""

    @property
    def open_period(self) -> Month:
        """The oldest period that is not cleared."""
        return Month.of(self.cleared_through + dt.timedelta(days=1))

    def is_reported(self, period: Month) -> bool:
        return self.reported_through >= period.last

    def within(self, first: dt.date, last: dt.date) -> list[Day]:
        return [day for day in self.days if first <= day.day <= last]


@dataclass(frozen=True, slots=True)
class ComponentState:
    """One disk. ``skew``: how many seconds its clock is ahead. The passwords stay out of the
    representation."""

    device_no: str
    kind: str
    tax_id: str
    name: str
    terminal_no: int
    training: bool
    retired: bool
    password: str = field(repr=False)
    tries: int
    certificate_password: str = field(repr=False)
    certificate_tries: int
    skew: float
    offline_hours: int
    offline_count: int
    offline_fen: int
    quirks: tuple[str, ...]
    types: dict[str, TypeState]
    written: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    last_write: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> ComponentState:
        """The inverse; a file that was damaged raises KeyError, ValueError or TypeError."""
        types = {found: _type_from(entry) for found, entry in raw["types"].items()}
        return cls(**{**raw, "types": types, "quirks": tuple(raw["quirks"])})

    @classmethod
    def of_world(cls, disk: WorldDisk, now: dt.datetime) -> ComponentState:
        """A disk as the world file says, plugged in first at ``now``. ValueError where it cannot
        be."""
        if len(disk.device_no) != 12 or not 0 <= disk.tries <= 0x0F or not disk.pin:
            raise ValueError(f"{disk.device_no}: 12 digits, a password, 0…15 tries")
        skew = disk.clock_skew_seconds
        if disk.clock_at:
            shown = dt.datetime.fromisoformat(disk.clock_at)
            shown = shown if shown.tzinfo else shown.replace(tzinfo=BEIJING)
            skew += (shown - now).total_seconds()
        return cls(
            device_no=disk.device_no,
            kind=disk.kind,
            tax_id=disk.tax_id,
            name=disk.taxpayer_name,
            terminal_no=disk.terminal_no,
            training=disk.training,
            retired=disk.retired,
            password=disk.pin,
            tries=disk.tries,
            certificate_password=disk.certificate_password,
            certificate_tries=disk.certificate_tries,
            skew=skew,
            offline_hours=disk.offline_hours,
            offline_count=disk.offline_count,
            offline_fen=disk.offline_fen,
            quirks=tuple(Quirk(quirk).value for quirk in disk.quirks),
            types={found.invoice_type: _type_of(disk, found) for found in _types(disk)},
        )


def total(days: Iterable[Day], name: str) -> int:
    """The sum of one number over ``days``."""
    return sum(getattr(day, name) for day in days)


def _types(disk: WorldDisk) -> list[WorldType]:
    return disk.types or [WorldType(_DEFAULT_TYPE, invoices=disk.invoices)]


def _type_of(disk: WorldDisk, found: WorldType) -> TypeState:
    reported = dt.date.fromisoformat(found.reported_through or disk.reported_through)
    return TypeState(
        issue_deadline=dt.date.fromisoformat(found.issue_deadline or disk.issue_deadline),
        cleared_through=dt.date.fromisoformat(found.cleared_through or disk.cleared_through),
        reported_through=reported,
        reported_before=reported,
        pending=found.pending,
        pending_fen=found.pending_fen,
        days=tuple(_day_of(entry) for entry in found.invoices),
    )


def _day_of(entry: dict[str, Any]) -> Day:
    valid, returned = entry.get("valid_fen", 0), entry.get("return_fen", 0)
    return Day(
        day=dt.date.fromisoformat(entry["date"]),
        valid=entry.get("valid", 0),
        returned=entry.get("returned", 0),
        voided=entry.get("voided", 0),
        valid_fen=valid,
        return_fen=returned,
        valid_tax_fen=entry.get("valid_tax_fen", valid * _TAX_PERCENT // 100),
        return_tax_fen=entry.get("return_tax_fen", returned * _TAX_PERCENT // 100),
    )


_DATES = ("issue_deadline", "cleared_through", "reported_through", "reported_before")


def _type_from(raw: dict[str, Any]) -> TypeState:
    moments = {name: dt.date.fromisoformat(raw[name]) for name in _DATES}
    days = tuple(Day(**{**day, "day": dt.date.fromisoformat(day["day"])}) for day in raw["days"])
    return TypeState(**{**raw, **moments, "days": days})


def _plain(value: Any) -> Any:
    """Dates as ISO texts, all the way down."""
    if isinstance(value, dt.date):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
