"""Control data of a disk, per invoice type, and the rule that says what they mean.

Owns the state rule of domain.md §3. ``cleared`` and ``reported`` are proven by the dates on the
disk alone; no clock takes part, so a read after midnight or in the next month gives the same
answer. Only the *view* of a disk (:func:`device_state`) looks at a clock.

Must never: shift a date (that is done once, by the drivers, ``devices/drivers/dates.py``), read a
clock, or believe a return code.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

Plain = TypeVar("Plain", str, int)
Day = TypeVar("Day", bound=dt.date)

BEIJING = dt.timezone(dt.timedelta(hours=8), "Asia/Shanghai")

#: More than this many days since the last report: the disk must be seen by the tax hall.
DORMANT_AFTER_DAYS = 90


@dataclass(frozen=True, slots=True)
class ControlData:
    """What a disk says of one invoice type; dates normalised by its driver, amounts in fen.

    ``device_clock`` is Beijing time; ``clock_source`` is ``device``, or ``host`` for a kind
    without a clock of its own. ``uncleared_through``: last day of a declaration that the disk
    itself marks as not cleared; None where there is none, or where a kind does not say.
    """

    invoice_type: str
    issue_deadline: dt.date
    period_start: dt.date
    period_end: dt.date
    last_reported_on: dt.date | None
    device_clock: dt.datetime | None = None
    clock_source: str = "device"
    pending_uploads: int = 0
    uncleared_through: dt.date | None = None
    limits: Mapping[str, int] = field(default_factory=dict)
    raw: Mapping[str, str] = field(default_factory=dict)


class DeviceState(enum.StrEnum):
    """How a disk stands, seen from its own dates and a clock."""

    CLEARED = "cleared"
    TO_CLEAR = "to_clear"
    TO_REPORT = "to_report"
    OVERDUE = "overdue"
    DORMANT = "dormant"
    UNKNOWN = "unknown"
    TRAINING = "training"
    RETIRED = "retired"


#: From best to worst; a disk stands where its worst type stands.
_SEVERITY = (
    DeviceState.CLEARED,
    DeviceState.TO_CLEAR,
    DeviceState.TO_REPORT,
    DeviceState.OVERDUE,
    DeviceState.DORMANT,
    DeviceState.UNKNOWN,
)


# --- the rule: no clock -------------------------------------------------------------------------


def is_reported(control: ControlData, period: Month) -> bool:
    """Whether this type has reported ``period``: last report on or after the window's first day."""
    reported_on = control.last_reported_on
    return reported_on is not None and reported_on >= period.window.first


def is_cleared(control: ControlData, period: Month) -> bool:
    """Whether this type is cleared for ``period``, whoever wrote it.

    The issue deadline must lie in a month *after* the window: a deadline moved within the window's
    month is a holiday extension, not a clear. And the period must be reported. A deadline that a
    tax hall moved further *before* the report would pass for a clear by the dates alone: a disk
    that itself says "declared, not cleared" is believed.
    """
    open_through = control.uncleared_through
    declared_open = (
        open_through is not None
        and control.period_start <= period.last
        and open_through >= period.first
    )
    return (
        Month.of(control.issue_deadline) > period.window
        and is_reported(control, period)
        and not declared_open
    )


def is_reported_all(controls: Mapping[str, ControlData], period: Month) -> bool:
    """Whether every type has reported ``period``. Nothing read proves nothing."""
    return bool(controls) and all(is_reported(control, period) for control in controls.values())


def is_cleared_all(controls: Mapping[str, ControlData], period: Month) -> bool:
    """Whether every type is cleared for ``period``. Nothing read proves nothing."""
    return bool(controls) and all(is_cleared(control, period) for control in controls.values())


def open_period(controls: Mapping[str, ControlData]) -> Month:
    """The period now open on the disk: that of the type that is furthest behind.

    Raises Failure(device_garbled) for a disk that told of no type at all.
    """
    if not controls:
        raise Failure(Code.DEVICE_GARBLED, detail="no invoice type in the control data")
    return Month.of(min(control.period_start for control in controls.values()))


# --- the view: dates against a clock ------------------------------------------------------------


def beijing(moment: dt.datetime) -> dt.datetime:
    """``moment`` as Beijing time; one without a zone already is."""
    return moment if moment.tzinfo is None else moment.astimezone(BEIJING)


def device_view(control: ControlData, clock: dt.datetime) -> DeviceState:
    """What the disk itself would show: to_report, to_clear or cleared.

    ``clock``: the disk's clock (or the host's, for a kind without one).
    """
    month = Month.of(beijing(clock))
    if month < Month.of(control.issue_deadline):
        return DeviceState.CLEARED
    reported_on = control.last_reported_on
    if reported_on is None or month > Month.of(reported_on):
        return DeviceState.TO_REPORT
    return DeviceState.TO_CLEAR


def type_state(control: ControlData, clock: dt.datetime) -> DeviceState:
    """The state of one type: the disk's own view, and overdue, dormant or unknown on top of it."""
    today = beijing(clock).date()
    if control.period_start > control.period_end:
        return DeviceState.UNKNOWN
    reported_on = control.last_reported_on
    if reported_on is not None and (today - reported_on).days > DORMANT_AFTER_DAYS:
        return DeviceState.DORMANT
    if today > control.issue_deadline:
        return DeviceState.OVERDUE
    return device_view(control, clock)


def device_state(
    controls: Mapping[str, ControlData],
    *,
    clock: dt.datetime | None,
    training: bool = False,
    retired: bool = False,
) -> DeviceState:
    """The state of the whole disk: that of its worst type.

    What the identity says goes first (a retired disk, then one for training); a disk of which
    nothing was read, or without any clock to hold it against, is ``unknown``.
    """
    if retired:
        return DeviceState.RETIRED
    if training:
        return DeviceState.TRAINING
    if not controls or clock is None:
        return DeviceState.UNKNOWN
    states = [type_state(control, clock) for control in controls.values()]
    return max(states, key=_SEVERITY.index)


# --- as JSON: in the machine API and in storage ---------------------------------------------------


def to_json(control: ControlData) -> dict[str, Any]:
    """``control`` as plain JSON values; dates ``YYYY-MM-DD``, the clock in ISO 8601."""
    return {
        "invoice_type": control.invoice_type,
        "issue_deadline": control.issue_deadline.isoformat(),
        "period_start": control.period_start.isoformat(),
        "period_end": control.period_end.isoformat(),
        "last_reported_on": _iso(control.last_reported_on),
        "device_clock": _iso(control.device_clock),
        "clock_source": control.clock_source,
        "pending_uploads": control.pending_uploads,
        "uncleared_through": _iso(control.uncleared_through),
        "limits": dict(control.limits),
        "raw": dict(control.raw),
    }


def from_json(value: object) -> ControlData:
    """The inverse of :func:`to_json`, for values that came over a wire or out of storage.

    Unknown names are ignored, so that a machine one version ahead is understood. Anything else
    that does not fit raises Failure(device_garbled) naming the field, never its content.
    """
    if not isinstance(value, dict):
        raise _garbled("control data")
    clock_source = _typed(value, "clock_source", str)
    if clock_source not in ("device", "host"):
        raise _garbled("clock_source")
    pending = _typed(value, "pending_uploads", int)
    if pending < 0:
        raise _garbled("pending_uploads")
    return ControlData(
        invoice_type=_invoice_type(value),
        issue_deadline=_moment(value, "issue_deadline", dt.date.fromisoformat),
        period_start=_moment(value, "period_start", dt.date.fromisoformat),
        period_end=_moment(value, "period_end", dt.date.fromisoformat),
        last_reported_on=_moment_or_none(value, "last_reported_on", dt.date.fromisoformat),
        device_clock=_moment_or_none(value, "device_clock", dt.datetime.fromisoformat),
        clock_source=clock_source,
        pending_uploads=pending,
        uncleared_through=_moment_or_none(value, "uncleared_through", dt.date.fromisoformat),
        limits=_mapping(value, "limits", int),
        raw=_mapping(value, "raw", str),
    )


def _garbled(name: str) -> Failure:
    return Failure(Code.DEVICE_GARBLED, detail=name)


def _typed(value: Mapping[str, Any], name: str, wanted: type[Plain]) -> Plain:
    found = value.get(name)
    if type(found) is not wanted:  # exact: True is not a count
        raise _garbled(name)
    return found


def _invoice_type(value: Mapping[str, Any]) -> str:
    invoice_type = _typed(value, "invoice_type", str)
    if len(invoice_type) != 3 or not (invoice_type.isascii() and invoice_type.isdigit()):
        raise _garbled("invoice_type")
    return invoice_type


def _moment(value: Mapping[str, Any], name: str, parse: Callable[[str], Day]) -> Day:
    try:
        return parse(_typed(value, name, str))
    except ValueError:
        raise _garbled(name) from None


def _moment_or_none(value: Mapping[str, Any], name: str, parse: Callable[[str], Day]) -> Day | None:
    return None if value.get(name) is None else _moment(value, name, parse)


def _iso(day: dt.date | None) -> str | None:
    return None if day is None else day.isoformat()


def _mapping(value: Mapping[str, Any], name: str, wanted: type[Plain]) -> dict[str, Plain]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise _garbled(name)
    if not all(type(key) is str and type(entry) is wanted for key, entry in found.items()):
        raise _garbled(name)
    return dict(found)
