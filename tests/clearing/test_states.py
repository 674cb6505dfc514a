"""The table of run states: every move, allowed and refused; the database repeats the rules."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from agency.models import Agency
from agency.scope import agency_scope
from clearing.models import Attempt, Run
from clearing.services.moves import MoveRefused, move
from clearing.states import BUSY, COLOURS, ENDED, MOVES, OPEN, Reason, RunState, may_move
from devices.models import TaxDisk
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import PlayedMachine
from tests.conftest import MakeCompany, MakeDisk

MOMENT = dt.datetime(2026, 11, 9, 3, tzinfo=dt.UTC)


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company())


def test_every_state_has_a_label_a_colour_and_a_row_of_moves() -> None:
    assert set(COLOURS) == set(MOVES) == set(RunState)
    assert all(state.label for state in RunState)
    assert all(reason.label for reason in Reason)


def test_an_ended_run_never_moves_and_an_open_one_can_end() -> None:
    assert all(not MOVES[state] for state in ENDED)
    assert all(MOVES[state] & ENDED or RunState.CLAIMED in MOVES[state] for state in OPEN)
    assert BUSY < OPEN


def test_an_unknown_run_is_never_cancelled() -> None:
    assert not may_move(RunState.UNKNOWN, RunState.CANCELLED)


def _in_state(run: Run, state: RunState, attempt: Attempt) -> None:
    """Put the row into a state as the constraints want it."""
    values: dict[str, Any] = {
        "state": state,
        "attempt": attempt,
        "lease_until": MOMENT if state == RunState.CLAIMED else None,
        "reason": Reason.DISK if state == RunState.WAITING else "",
        "code": "no_answer" if state == RunState.FAILED else "",
        "ended_at": MOMENT if state in ENDED else None,
        "open_intent": {"stage": "report"} if state == RunState.UNKNOWN else None,
    }
    Run.objects.filter(pk=run.pk).update(**values)


@pytest.mark.parametrize(
    ("before", "after"), list(itertools.product(RunState, RunState)), ids=lambda state: str(state)
)
def test_a_move_is_made_or_refused_as_the_table_says(
    agency: Agency,
    machine: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    before: RunState,
    after: RunState,
) -> None:
    (run,) = start(disk)
    with agency_scope(agency.pk):
        attempt = Attempt.objects.create(
            agency=agency,
            run=run,
            machine=machine.machine,
            key=uuid.uuid4(),
            ordinal=1,
            intent=run.intent,
            claimed_at=MOMENT,
        )
        _in_state(run, before, attempt)
        run = Run.objects.get(pk=run.pk)
        run.lease_until = MOMENT if after == RunState.CLAIMED else run.lease_until
        if after == RunState.UNKNOWN:
            run.open_intent = {"stage": "report"}
        reason = Reason.RETRY if after == RunState.WAITING else ""
        code = "no_answer" if after == RunState.FAILED else ""
        if after in MOVES[before]:
            move(run, after, now=MOMENT, reason=reason, code=code)
            assert Run.objects.get(pk=run.pk).state == after
        else:
            with pytest.raises(MoveRefused):
                move(run, after, now=MOMENT, reason=reason, code=code)
            assert Run.objects.get(pk=run.pk).state == before


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"state": "claimed", "lease_until": None}, "claimed_has_a_lease"),
        ({"state": "queued", "reason": "", "lease_until": MOMENT}, "claimed_has_a_lease"),
        ({"state": "waiting", "reason": ""}, "waiting_says_why"),
        ({"state": "queued", "reason": "disk"}, "waiting_says_why"),
        ({"state": "failed", "reason": "", "code": "", "ended_at": MOMENT}, "failed_has_a_code"),
        ({"state": "done", "reason": "", "ended_at": None}, "ended_has_a_time"),
        ({"state": "queued", "reason": "", "ended_at": MOMENT}, "ended_has_a_time"),
        ({"state": "queued", "reason": "", "open_intent": {"stage": "x"}}, "intent_only_in_hand"),
        ({"state": "unknown", "reason": "", "open_intent": None}, "unknown_has_an_intent"),
    ],
)
def test_the_database_refuses_a_row_that_breaks_an_invariant(
    agency: Agency, disk: TaxDisk, start: StartBatch, values: dict[str, Any], constraint: str
) -> None:
    (run,) = start(disk)
    with (
        agency_scope(agency.pk),
        pytest.raises(IntegrityError, match=constraint),
        transaction.atomic(),
    ):
        Run.objects.filter(pk=run.pk).update(**values)


def test_a_disk_has_at_most_one_open_run(agency: Agency, disk: TaxDisk, start: StartBatch) -> None:
    (run,) = start(disk)
    with (
        agency_scope(agency.pk),
        pytest.raises(IntegrityError, match="one_open_run_per_disk"),
        transaction.atomic(),
    ):
        Run.objects.create(
            agency=agency,
            disk=disk,
            disk_period=run.disk_period,
            batch=run.batch,
            intent="read",
            created_at=MOMENT,
        )
