"""The one place where a run's state changes: the table decides, the row keeps its invariants."""

from __future__ import annotations

import datetime as dt

from django.db.models import Q

from clearing.models import Batch, Run
from clearing.states import BUSY, ENDED, RunState, may_move
from devices.selectors import present_numbers

# How long an unknown run whose disk is away holds its batch open, and one whose disk is there goes
# without a notice.
UNKNOWN_PATIENCE = dt.timedelta(hours=1)


class MoveRefused(Exception):
    """The table of states does not allow the move: a defect of the caller."""


def move(
    run: Run,
    state: RunState,
    *,
    now: dt.datetime,
    reason: str = "",
    next_try_at: dt.datetime | None = None,
    code: str = "",
    raw_code: str = "",
    raw_text: str = "",
    detail: str = "",
) -> None:
    """Move a locked run and save it; ``now`` is real time. Raises MoveRefused."""
    before = RunState(run.state)
    if not may_move(before, state):
        raise MoveRefused(f"run {run.pk}: {before} → {state}")
    run.state = state
    run.reason = reason
    run.next_try_at = next_try_at
    run.code, run.raw_code = code, raw_code[:40]
    run.raw_text, run.detail = raw_text[:400], detail[:200]
    if state != RunState.CLAIMED:
        run.lease_until = None
    if state not in {RunState.CLAIMED, RunState.UNKNOWN}:
        run.open_intent = None
    if state != RunState.UNKNOWN:
        run.noticed_at = None
    run.ended_at = now if state in ENDED else None
    run.save()


def end_batches(*, now: dt.datetime) -> list[Batch]:
    """Close the batches none of whose runs is busy any more; returns those closed."""
    busy = Run.objects.filter(state__in=BUSY).exclude(
        # An unknown run whose disk has been away for an hour: "N to be verified".
        ~Q(disk__device_no__in=present_numbers(now)),
        state=RunState.UNKNOWN,
        attempt__ended_at__lt=now - UNKNOWN_PATIENCE,
    )
    ended = list(
        Batch.objects.select_for_update(skip_locked=True)
        .filter(ended_at__isnull=True)
        .exclude(entries__run__in=busy)
    )
    for batch in ended:
        batch.ended_at = now
        batch.save(update_fields=["ended_at"])
    return ended
