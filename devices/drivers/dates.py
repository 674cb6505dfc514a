"""Dates as the kinds write them, and as we mean them: the one table of offsets.

Owns the normalising of domain.md §3: every kind is off by its own number of days, and only here
is that put right. A driver keeps the raw text beside the result (``ControlData.raw``).

Must never: guess. Text that is not a date raises Failure(device_garbled) with the field's name.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass

from devices.protocol.failures import Code, Failure
from devices.protocol.iccard_layouts import decode_bcd_date
from devices.protocol.month import LAST_YEAR


class Kind(enum.StrEnum):
    """The kinds of disk whose dates are known."""

    IC_CARD = "ic_card"
    BAIWANG = "baiwang"
    UKEY = "ukey"
    AISINO = "aisino"


@dataclass(frozen=True, slots=True)
class Offsets:
    """Days to add to a kind's raw date; the names are those of ``ControlData``."""

    issue_deadline: int = 0
    period_start: int = 0
    period_end: int = 0
    last_reported_on: int = 0


#: Sources: domain.md §3 "Normalising"; the card's ``last_reported_on`` is protocol-ic-card.md with
#: our choice ◇ that its raw value is the last day of the last declaration.
OFFSETS: Mapping[Kind, Offsets] = {
    Kind.BAIWANG: Offsets(last_reported_on=+1),
    Kind.UKEY: Offsets(last_reported_on=+1),
    Kind.AISINO: Offsets(issue_deadline=-1, period_end=-1),
    Kind.IC_CARD: Offsets(last_reported_on=+1),
}


def issue_deadline(kind: Kind, raw: str | bytes) -> dt.date:
    """开票截止日期: the last day on which the type may issue."""
    return _shifted("issue_deadline", raw, OFFSETS[kind].issue_deadline)


def period_start(kind: Kind, raw: str | bytes) -> dt.date:
    """数据报送起始日期: first day of the open period."""
    return _shifted("period_start", raw, OFFSETS[kind].period_start)


def period_end(kind: Kind, raw: str | bytes) -> dt.date:
    """数据报送终止日期: last day of the open period."""
    return _shifted("period_end", raw, OFFSETS[kind].period_end)


def last_reported_on(kind: Kind, raw: str | bytes) -> dt.date:
    """最新报税日期: once a period is reported, not before the first day of its window."""
    return _shifted("last_reported_on", raw, OFFSETS[kind].last_reported_on)


def parse_date(raw: str | bytes, name: str = "date") -> dt.date:
    """A date of 8 or 14 digits (``YYYYMMDD[hhmmss]``), or of 4 bytes BCD.

    The time of day must be a time, then it is dropped. Raises Failure(device_garbled).
    """
    if isinstance(raw, bytes):
        return decode_bcd_date(raw, name)
    return parse_moment(raw, name).date()


def parse_moment(raw: str, name: str = "moment") -> dt.datetime:
    """A moment of 8 or 14 digits, Beijing time without a zone; 8 digits are midnight.

    Raises Failure(device_garbled).
    """
    if not (raw.isascii() and raw.isdigit() and len(raw) in (8, 14)):
        raise Failure(Code.DEVICE_GARBLED, detail=name)
    digits = raw.ljust(14, "0")
    parts = (digits[0:4], digits[4:6], digits[6:8], digits[8:10], digits[10:12], digits[12:14])
    year, month, day, hour, minute, second = map(int, parts)
    if year > LAST_YEAR:
        raise Failure(Code.DEVICE_GARBLED, detail=name)
    try:
        return dt.datetime(year, month, day, hour, minute, second)
    except ValueError:
        raise Failure(Code.DEVICE_GARBLED, detail=name) from None


def _shifted(name: str, raw: str | bytes, days: int) -> dt.date:
    try:
        shifted = parse_date(raw, name) + dt.timedelta(days=days)
    except OverflowError:  # 0001-01-01 or 9999-12-31: a cleared field, not a date
        raise Failure(Code.DEVICE_GARBLED, detail=name) from None
    if shifted.year > LAST_YEAR:
        raise Failure(Code.DEVICE_GARBLED, detail=name)
    return shifted
