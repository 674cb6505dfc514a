"""The services in any order against the model, and planted bugs that it must find."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from agency.scope import agency_scope
from clearing.choices import Intent
from clearing.models import Hold, Run
from clearing.services import run_cancel
from devices.protocol.catalogue.retries import BUREAU_DOWN_LIMIT
from tests.clearing.machine import REPORTED
from tests.conftest import NOW
from tests.reliability.model import Engine
from tests.reliability.truths import BY_ITSELF, Worker


def _play(examples: int) -> None:
    run_state_machine_as_test(
        Engine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=True,
        ),
    )


@pytest.fixture(autouse=True)
def _on_the_ninth(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    monkeypatch.setattr("clearing.api.machine.domain_now", lambda: NOW)
    # How long an example takes says nothing.
    monkeypatch.setattr("devices.selectors.PRESENCE_AGE", dt.timedelta(days=1))


@pytest.mark.timeout(300)
def test_the_services_keep_their_promises_in_any_order() -> None:
    _play(12)


def _clear_without_a_backup(engine: Engine, worker: Worker) -> None:
    engine._ask(worker, "clear")
    engine._write(worker)


def _ask_when_the_lease_is_over(engine: Engine, worker: Worker) -> None:
    engine._read(worker)
    engine.sweep(leases=False)
    worker.alive = False
    with agency_scope(engine.agency.pk):
        Run.objects.filter(pk=worker.run_id).update(
            lease_until=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        )
    engine._keep(worker)
    engine._ask(worker, "clear")


def _call_it_done(engine: Engine, worker: Worker) -> None:
    worker.machine.settle("done")
    engine._gone(worker)


def _say_cleared_because_of_a_return_code(engine: Engine, worker: Worker) -> None:
    """The write does nothing, and what is read back is believed to be what it should be."""
    worker.machine.on_run("record", worker.machine.read(REPORTED))


def _ask_to_clear_a_held_one(engine: Engine, worker: Worker) -> None:
    engine.keep_back({engine.disks.index(worker.disk)})
    engine._keep(worker)
    engine._ask(worker, "clear")


def _ask_to_clear_in_a_pause(engine: Engine, worker: Worker) -> None:
    engine.pause(True)
    engine._keep(worker)
    engine._ask(worker, "clear")


def _the_bureau_goes_down(engine: Engine, worker: Worker) -> None:
    """Two clients find it down, turn and turn about; then one of them asks to write."""
    engine.claim(0)
    other = engine.workers[1]
    for number in range(BUREAU_DOWN_LIMIT):
        engine._called((worker, other)[number % 2], down=True)
    assert engine.truth.paused == BY_ITSELF
    engine._keep(worker)
    engine._ask(worker, "clear")


def _a_probe_at_every_round(engine: Engine, worker: Worker) -> None:
    """The bureau is down for all three clients; one probes, and before it is back it is time
    again."""
    engine.claim(0)
    engine.claim(0)
    one, two, three = engine.workers
    for number in range(BUREAU_DOWN_LIMIT):
        engine._called((one, two)[number % 2], down=True)
    for each in (one, two, three):
        machine = each.machine
        machine.run_id, machine.attempt, machine.number = each.run_id, each.attempt, each.number
        machine.settle("waiting", reason="bureau", code="bureau_unreachable", retry_after=60.0)
        engine._gone(each)
    engine.sweep(leases=False)
    engine.time_to_probe()
    assert engine.truth.probe is not None
    engine.claim(0)
    engine.time_to_probe()


def _wait_although_it_was_cancelled(engine: Engine, worker: Worker) -> None:
    with agency_scope(engine.agency.pk):
        run_cancel(run_id=worker.run_id, by="会计", now=NOW)
    engine.wishes.cancelled.add(worker.run_id)
    _end(engine, worker, "waiting", reason="filing", code="not_filed", retry_after=7200.0)


def _retry_a_read(engine: Engine, worker: Worker) -> None:
    """What failed last only read."""
    _end(engine, worker, "failed", code="no_answer")
    engine.click({engine.disks.index(worker.disk)}, "read")
    while engine.workers[-1:] == [] or engine.workers[-1].disk is not worker.disk:
        engine.claim(0)
    _end(engine, engine.workers[-1], "failed", code="no_answer")
    engine.retry()


def _wait_for_no_time(engine: Engine, worker: Worker) -> None:
    _end(engine, worker, "waiting", reason="retry", code="no_answer")


def _end(engine: Engine, worker: Worker, end: str, **outcome: Any) -> None:
    machine = worker.machine
    machine.run_id, machine.attempt, machine.number = worker.run_id, worker.attempt, worker.number
    assert machine.settle(end, **outcome).status_code == 200
    engine._gone(worker)


@pytest.mark.parametrize(
    ("place", "broken", "story"),
    [
        pytest.param(
            "clearing.services.grants._backed_up",
            lambda held: True,
            _clear_without_a_backup,
            id="the backup",
        ),
        pytest.param(
            "clearing.services.grants.lives",
            lambda held, now: True,
            _ask_when_the_lease_is_over,
            id="the fence",
        ),
        pytest.param(
            "clearing.services.ends._proven",
            lambda intent, attempt, row: True,
            _call_it_done,
            id="the proof",
        ),
        pytest.param(
            "clearing.periods.is_cleared_all",
            lambda controls, period: True,
            _say_cleared_because_of_a_return_code,
            id="the read-back",
        ),
        pytest.param(
            "clearing.selectors.stops.open_holds",
            lambda: Hold.objects.none(),
            _ask_to_clear_a_held_one,
            id="the hold",
        ),
        pytest.param(
            "clearing.selectors.stops.paused_addresses",
            lambda: [],
            _ask_to_clear_in_a_pause,
            id="the pause",
        ),
        pytest.param(
            "clearing.services.facts.note_call",
            lambda run, code, *, now: None,
            _the_bureau_goes_down,
            id="the breaker",
        ),
        pytest.param(
            "clearing.services.parked._probing",
            lambda row, now: False,
            _a_probe_at_every_round,
            id="the one probe",
        ),
        pytest.param(
            "clearing.services.ends._cancelled",
            lambda run: False,
            _wait_although_it_was_cancelled,
            id="the cancel",
        ),
        pytest.param(
            "clearing.services.batches._wanted_again",
            lambda failed: {run.disk_id: Intent.REPORT_AND_CLEAR for run in failed},
            _retry_a_read,
            id="the intent of a retry",
        ),
        pytest.param(
            "clearing.services.ends._patience",
            lambda reason, outcome: None,
            _wait_for_no_time,
            id="the waker",
        ),
    ],
)
@pytest.mark.parametrize("planted", [False, True], ids=["whole", "broken"])
def test_an_invariant_breaks_with_a_planted_bug_and_only_then(
    monkeypatch: pytest.MonkeyPatch, place: str, broken: Any, story: Any, planted: bool
) -> None:
    """The same story, with one promise switched off and with all of them on."""
    engine = Engine()
    try:
        engine.claim(0)
        worker = engine.workers[0]
        for step in ("fresh", "reporting", "claimed", "reported"):
            engine._advance(worker)
            assert worker.step == step
        if planted:
            monkeypatch.setattr(place, broken)
        if planted:
            with pytest.raises(AssertionError):
                _tell(engine, worker, story)
        else:
            _tell(engine, worker, story)
    finally:
        engine.teardown()


def _tell(engine: Engine, worker: Worker, story: Any) -> None:
    story(engine, worker)
    engine.no_row_says_cleared_where_the_disk_is_not()
    engine.what_is_called_done_is_so()
    engine.no_disk_is_cleared_twice_or_without_a_backup()
    engine.every_open_run_says_where_it_stands()
    engine.every_open_run_is_what_people_want()
    engine.every_waiting_run_has_a_waker()
