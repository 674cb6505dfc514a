"""How a run ends or waits: by a failure of the catalogue, by a denial, by the time of day.

One table for each. Pure: the procedure asks it on the reader machine, the server asks it for the
quiet hours; neither decides such things anywhere else.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

from clearing.wire import Denial, End, Outcome
from devices.protocol.catalogue.retries import patience_of
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

# No irreversible step at the turn of a day or a month: date-change errors (706).
QUIET_AFTER_MIDNIGHT = dt.timedelta(minutes=5)
QUIET_BEFORE_MONTH_END = dt.timedelta(minutes=10)


def quiet_for(now: dt.datetime) -> float:
    """Seconds until irreversible steps are allowed again, 0 when they are; Beijing time."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if now - midnight < QUIET_AFTER_MIDNIGHT:
        return (midnight + QUIET_AFTER_MIDNIGHT - now).total_seconds()
    turn = dt.datetime.combine(Month.of(now).plus(1).first, dt.time(), now.tzinfo)
    if turn - now <= QUIET_BEFORE_MONTH_END:
        return (turn + QUIET_AFTER_MIDNIGHT - now).total_seconds()
    return 0.0


def check_disk_clock(now: dt.datetime, ahead: dt.timedelta) -> None:
    """A disk dates what it writes by its own clock, which is ``ahead`` of ``now`` (Beijing time).

    Raises Failure: device_clock_wrong on another day than ours, quiet_hours where only the turn of
    a day lies between two clocks that agree."""
    theirs = now + ahead
    if theirs.date() == now.date():
        return
    if abs(ahead) >= QUIET_AFTER_MIDNIGHT:
        raise Failure(Code.DEVICE_CLOCK_WRONG, detail=theirs.date().isoformat())
    midnight = dt.datetime.combine(max(theirs, now).date(), dt.time(), now.tzinfo)
    seconds = (midnight + QUIET_AFTER_MIDNIGHT - now).total_seconds()
    raise Failure(Code.QUIET_HOURS, detail=f"{seconds:.0f}")


# What a failure waits for when it is not simply an end; how long is the table of retries' word.
_REASONS: dict[Code, str] = {
    Code.DISK_ABSENT: "disk",
    Code.PIN_HELD: "pin",
    Code.NOT_FILED: "filing",
    Code.COMPARISON_FAILED: "filing",
    Code.OUTSIDE_WINDOW: "window",
    Code.BUREAU_UNREACHABLE: "bureau",
    Code.BUREAU_GARBLED: "bureau",
    Code.NOT_SUPPORTED: "by_hand",
}


def outcome_of(failure: Failure) -> Outcome:
    """How a failure of the catalogue settles a run, once nothing is in doubt on the disk."""
    plain = said(failure)
    patience = patience_of(failure.code)
    seconds = patience.first if patience is not None else None
    if failure.code in _REASONS:
        return replace(plain, end=End.WAITING, reason=_REASONS[failure.code], retry_after=seconds)
    if failure.code == Code.QUIET_HOURS:
        return replace(
            plain, end=End.WAITING, reason="quiet", retry_after=float(failure.detail or 300)
        )
    if failure.code in {Code.TRAINING_DISK, Code.RETIRED_DISK}:
        return replace(plain, end=End.SKIPPED)
    if patience is not None:
        return replace(plain, end=End.WAITING, reason="retry", retry_after=seconds)
    return plain


def said(failure: Failure) -> Outcome:
    """A failed outcome with the failure's own words."""
    return Outcome(
        End.FAILED,
        code=failure.code.value,
        raw_code=failure.raw_code,
        raw_text=failure.raw_text,
        detail=failure.detail,
    )


DENIALS: dict[Denial, Outcome] = {
    Denial.CANCELLED: Outcome(End.CANCELLED),
    Denial.LEASE_LOST: Outcome(End.LOST),
    Denial.REVOKED: Outcome(End.LOST),
    Denial.WRONG_DISK: Outcome(End.FAILED, code=Code.WRONG_DISK),
    # Proven by a read that the server has: there is nothing left to write.
    Denial.ALREADY_CLEARED: Outcome(End.DONE),
    Denial.NO_BACKUP: Outcome(End.FAILED, code=Code.BACKUP_FAILED),
    Denial.BUREAU_PAUSED: Outcome(
        End.WAITING, reason="bureau", code=Code.BUREAU_UNREACHABLE, retry_after=60.0
    ),
    Denial.HELD: Outcome(End.WAITING, reason="hold"),
    Denial.PIN_HELD: Outcome(End.WAITING, reason="pin", code=Code.PIN_HELD, retry_after=60.0),
    Denial.QUIET_HOURS: Outcome(
        End.WAITING, reason="quiet", code=Code.QUIET_HOURS, retry_after=300.0
    ),
}
