"""How an attempt ends: settled by its machine, released by it, or its lease over."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from django.conf import settings
from django.db import transaction

from agency import audit
from agency.choices import Action
from clearing import bell
from clearing.choices import Intent, PeriodState
from clearing.models import Attempt, BureauPause, DiskPeriod, Run
from clearing.periods import forget_unwritten
from clearing.selectors.stops import address_of
from clearing.services.facts import Fact, Held, take
from clearing.services.grants import hold
from clearing.services.moves import end_batches, move
from clearing.states import WOKEN, Reason, RunState
from clearing.wire import End, Outcome
from devices.models import Machine
from devices.protocol.catalogue.retries import CONFIRM, GIVEN_BACK, Patience, patience_of
from devices.protocol.failures import Code

_ENDS: dict[End, RunState] = {
    End.DONE: RunState.DONE,
    End.WAITING: RunState.WAITING,
    End.FAILED: RunState.FAILED,
    End.SKIPPED: RunState.SKIPPED,
    End.SUPERSEDED: RunState.SUPERSEDED,
    End.CANCELLED: RunState.CANCELLED,
    End.UNKNOWN: RunState.UNKNOWN,
}


@transaction.atomic
def settle(
    *,
    machine: Machine,
    run_id: int,
    attempt_key: uuid.UUID,
    outcome: Outcome,
    facts: Sequence[Fact],
    real_now: dt.datetime,
) -> RunState | None:
    """End the newest attempt by its outcome, proven by what was read; None when it is not ours.

    The outcome is the machine's word; "done" stands only where the disk's period says so."""
    held = hold(machine, run_id, attempt_key)
    take(held, facts, now=real_now)
    run = held.run
    if held.newest and held.attempt.end == "settled":
        # Told before, and the answer was lost: what has become of the run since stands.
        return RunState(run.state)
    if not held.newest or run.state not in {
        RunState.CLAIMED,
        RunState.UNKNOWN,
        RunState.QUEUED,
    }:
        return None
    if outcome.end == End.LOST:
        return None
    _end_attempt(held, "settled", real_now)
    if run.open_intent is not None:
        # Something irreversible was permitted and nothing was read since: only a read can tell.
        if run.state == RunState.CLAIMED:
            move(run, RunState.UNKNOWN, now=real_now, code=outcome.code)
    else:
        _settle_by(held, outcome, real_now)
    _after(held, outcome.code, real_now)
    return RunState(run.state)


def _settle_by(held: Held, outcome: Outcome, now: dt.datetime) -> None:
    run, attempt = held.run, held.attempt
    wanted, ordered = Intent(run.intent), Intent(attempt.intent)
    row = DiskPeriod.objects.select_for_update().get(pk=run.disk_period_id)
    forget_unwritten(row)
    if (
        row.confirm_owed
        and run.intent == Intent.REPORT_AND_CLEAR
        and outcome.end in {End.DONE, End.FAILED}
    ):  # cleared, whatever else went wrong: all that is left is to tell the bureau
        outcome = replace(outcome, end=End.WAITING, reason=Reason.CONFIRM, retry_after=60.0)
    end_as = partial(
        move,
        run,
        now=now,
        code=outcome.code,
        raw_code=outcome.raw_code,
        raw_text=outcome.raw_text,
        detail=outcome.detail,
    )
    done = outcome.end == End.DONE
    if ordered.wider_than(wanted) or (
        done and wanted.wider_than(ordered) and _proven(ordered, attempt, row)
    ):
        # A click widened it meanwhile; or the order was cancelled and less is wanted since.
        if _proven(wanted, attempt, row):
            move(run, RunState.DONE, now=now)
        else:
            _queue_again(run, now)
    elif done and not _proven(ordered, attempt, row):
        move(run, RunState.FAILED, now=now, code=_unproven(ordered))
    elif outcome.end == End.UNKNOWN or (outcome.end == End.CANCELLED and not _cancelled(run)):
        # The machine could not tell, but the server has a read since: nothing is in doubt. Or it
        # stopped for a cancel that a new click has taken back.
        _give_back(run, outcome.detail, now)
    elif outcome.end == End.WAITING:
        _wait(run, outcome, end_as, now)
    elif outcome.end == End.FAILED and not outcome.code:
        end_as(RunState.FAILED, code=Code.MACHINE_FAULT.value)
    else:
        end_as(_ENDS[outcome.end])


def _cancelled(run: Run) -> bool:
    """Whether somebody cancelled it while it was claimed: it neither waits nor queues again."""
    return bool(run.cancel_requested_by)


def _queue_again(run: Run, now: dt.datetime) -> None:
    state = RunState.CANCELLED if _cancelled(run) else RunState.QUEUED
    if run.state != state:
        move(run, state, now=now)


def _wait(run: Run, outcome: Outcome, end_as: Callable[..., None], now: dt.datetime) -> None:
    if _cancelled(run):
        move(run, RunState.CANCELLED, now=now)
        return
    reason = Reason(outcome.reason)
    pause = _pause_of(run) if reason == Reason.BUREAU else None
    if pause is not None:  # not the run's own trouble: it is not counted
        end_as(RunState.WAITING, reason=reason, next_try_at=pause.next_probe_at)
        return
    patience = _patience(reason, outcome)
    if patience is None:
        seconds = outcome.retry_after
    else:
        _count(run, reason if reason == Reason.CONFIRM else outcome.code)
        if patience.exhausted(run.retries):
            end_as(RunState.FAILED)
            return
        seconds = patience.pause(run.retries, scale=settings.LIMITS_SCALE)
    end_as(
        RunState.WAITING,
        reason=reason,
        next_try_at=now + dt.timedelta(seconds=seconds) if seconds is not None else None,
    )


def _count(run: Run, cause: str) -> None:
    """Count a try. Another cause, or a period that got further, begins anew: waiting for a return
    uses up nobody's patience with the bureau."""
    state = DiskPeriod.objects.values_list("state", flat=True).get(pk=run.disk_period_id)
    of = f"{cause}:{state}"
    if run.retries_of != of:
        run.retries_of, run.retries = of, 0
    run.retries += 1


def _patience(reason: Reason, outcome: Outcome) -> Patience | None:
    """The table of retries' word; None where the machine says how long (to the end of an hour that
    allows no writing) and where something else than time is the waker."""
    if reason in WOKEN or (reason == Reason.QUIET and outcome.retry_after is not None):
        return None
    if reason == Reason.CONFIRM:
        return CONFIRM
    known = patience_of(Code(outcome.code)) if outcome.code in set(Code) else None
    return known or patience_of(Code.NO_ANSWER)


def _pause_of(run: Run) -> BureauPause | None:
    return BureauPause.objects.filter(address=address_of(run), opened_at__isnull=False).first()


def _proven(intent: Intent, attempt: Attempt, row: DiskPeriod) -> bool:
    """Whether the disk itself says so. To read is only proven by a read of this attempt."""
    return {
        Intent.READ: attempt.last_read > 0,
        Intent.REPORT: row.state in {PeriodState.TO_CLEAR, PeriodState.CLEARED},
        Intent.REPORT_AND_CLEAR: row.state == PeriodState.CLEARED,
    }[intent]


def _unproven(intent: Intent) -> str:
    return {
        Intent.READ: Code.NO_ANSWER,
        Intent.REPORT: Code.REPORT_NOT_SEEN,
        Intent.REPORT_AND_CLEAR: Code.CLEAR_NOT_SEEN,
    }[intent].value


@transaction.atomic
def release(
    *,
    machine: Machine,
    run_id: int,
    attempt_key: uuid.UUID,
    facts: Sequence[Fact],
    detail: str,
    real_now: dt.datetime,
) -> RunState | None:
    """The machine gives the claim back (its child died); the same effect as a lease over."""
    held = hold(machine, run_id, attempt_key)
    take(held, facts, now=real_now)
    if not held.newest or held.run.state != RunState.CLAIMED:
        return None
    _end_attempt(held, "released", real_now)
    _give_back(held.run, detail, real_now)
    audit.record(
        Action.RUN_RELEASED,
        held.disk,
        company_id=held.disk.company_id,
        data={"run": run_id, "state": held.run.state, "detail": detail[:100]},
    )
    bell.ring(held.run.agency_id)
    bell.wake_sweeper(held.run.agency_id)
    return RunState(held.run.state)


def lease_over(run: Run, *, real_now: dt.datetime) -> None:
    """Take a locked, claimed run back from a machine that gave no sign of life."""
    attempt = run.attempt
    if attempt is not None:
        attempt.ended_at, attempt.end = real_now, "lease_over"
        attempt.save(update_fields=["ended_at", "end"])
    _give_back(run, "lease over", real_now)
    audit.record(
        Action.RUN_LEASE_OVER,
        run.disk,
        company_id=run.disk.company_id,
        data={"run": run.pk, "state": run.state},
    )


def _give_back(run: Run, detail: str, now: dt.datetime) -> None:
    """With an open intent → unknown; without → queued, but not for ever."""
    if run.open_intent is not None:
        move(run, RunState.UNKNOWN, now=now)
        return
    if run.state != RunState.QUEUED and not _cancelled(run):
        _count(run, "given_back")
        if GIVEN_BACK.exhausted(run.retries):
            move(run, RunState.FAILED, now=now, code=Code.MACHINE_FAULT.value, detail=detail)
            return
    _queue_again(run, now)


def _end_attempt(held: Held, how: str, now: dt.datetime) -> None:
    held.attempt.ended_at, held.attempt.end = now, how
    held.attempt.save(update_fields=["ended_at", "end"])


def _after(held: Held, code: str, now: dt.datetime) -> None:
    run = held.run
    audit.record(
        Action.RUN_SETTLED,
        held.disk,
        company_id=held.disk.company_id,
        data={"run": run.pk, "state": run.state, "reason": run.reason, "code": run.code or code},
    )
    note_ended_batches(now=now)
    if run.state == RunState.QUEUED:
        bell.ring(run.agency_id)
    bell.wake_sweeper(run.agency_id)


def note_ended_batches(*, now: dt.datetime) -> None:
    """Close what has no busy run any more, with its entry."""
    for batch in end_batches(now=now):
        audit.record(Action.BATCH_ENDED, batch, data={"period": batch.period})
