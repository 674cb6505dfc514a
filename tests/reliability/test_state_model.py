"""The services in any order against the model, and planted bugs that it must find."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from agency.scope import agency_scope
from clearing.models import Run
from tests.clearing.machine import REPORTED
from tests.conftest import NOW
from tests.reliability.model import Engine, Worker


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
            lambda intent, row: True,
            _call_it_done,
            id="the proof",
        ),
        pytest.param(
            "clearing.periods.is_cleared_all",
            lambda controls, period: True,
            _say_cleared_because_of_a_return_code,
            id="the read-back",
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
