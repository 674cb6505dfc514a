"""Claiming, limits, killing, giving back: the worker's own thread around real children."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from clearing.wire import Order
from clearing.worker.overseer import COMMAND, Verdict
from clearing.worker.runner import Runner
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.fake_server import Answer, Call
from tests.clearing.worker.house import LIMITS, PIN, House

#: A call may take a second here; a child on a busy machine starts well inside the run's limit.
SHORT = replace(LIMITS, call=1.0)


def python(code: str) -> tuple[str, ...]:
    """A child that does something else than a run."""
    return (sys.executable, "-c", code)


Made = Callable[..., Runner]


@pytest.fixture
def made(house: House) -> Any:
    clients = []

    def make(command: tuple[str, ...] = COMMAND, **changes: Any) -> Runner:
        clients.append(house.client())
        config = replace(house.config, **changes)
        return Runner(config, clients[-1], house.journal, house.places, command=command)

    yield make
    for client in clients:
        client.close()


def verdicts_of(runner: Runner) -> list[Verdict]:
    found: list[Verdict] = []

    def note(order: Order, verdict: Verdict) -> None:
        found.append(verdict)

    runner.ended = note
    return found


def test_it_works_until_nothing_is_left(house: House, made: Made) -> None:
    bobs = house.order(
        2, device_no=house.bobs.device_no, tax_id=house.bobs.tax_id, slot=house.bobs.slot
    )
    house.server.orders = [house.order(1), bobs]
    made().work()
    assert [call.run_id for call in house.server.of("settle")] == [1, 2]
    assert house.disk().clears == house.disk(house.bobs).clears == 1
    assert house.server.verbs()[-1] == "claim"


def test_a_call_over_its_limit_is_ended_and_its_slot_must_be_probed(
    house: House, made: Made
) -> None:
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY")
    house.server.orders = [house.order(limits=SHORT), house.order(2, limits=SHORT)]
    runner = made()
    verdicts = verdicts_of(runner)
    runner.work()

    assert verdicts[0].cut and verdicts[0].killed
    release = house.server.of("release")[0]
    assert release.body["detail"] == "over the limit in disk.report"
    assert [fact["kind"] for fact in release.body["facts"]].count("pin") == 1
    assert house.places.is_marked(house.alices.slot)
    assert house.disk().declares == 0
    assert len(house.server.of("claim")) == 1  # nothing spins on a slot that hangs

    runner.work()  # the next bell, before any probe: the disk is not opened
    assert verdicts[1].busy
    assert house.commands()[-1] == "DECLARE_DUTY"
    house.places.unmark(house.alices.slot)


def test_a_run_over_its_limit_is_ended(house: House, made: Made) -> None:
    house.hang(Mode.HANG_BEFORE, "SELECT EF02")
    house.server.orders = [house.order(limits=replace(LIMITS, run=1.5))]
    made().work()
    assert house.server.of("release")[0].body["detail"].startswith("over the limit of the run")


def test_the_lease_is_renewed_while_a_call_is_inside_its_limit(house: House, made: Made) -> None:
    house.hang(Mode.HANG_BEFORE, "SELECT EF02")
    house.server.orders = [house.order(limits=replace(LIMITS, lease=0.3))]
    runner = made()
    thread = threading.Thread(target=runner.work)
    thread.start()
    house.server.wait_for("renew", 3)
    runner.stop(0.0)
    thread.join()
    # A call that is over its limit was ended: after the release nothing is renewed.
    assert "renew" not in house.server.verbs()[house.server.verbs().index("release") :]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(3)", "child ended with 3"),
        ("import os; os.kill(os.getpid(), 9)", "child ended with -9"),
        ("print('no event at all', flush=True)", "child ended with 0"),
    ],
)
def test_a_child_that_dies_by_itself_leaves_no_claimed_run(
    house: House, made: Made, code: str, said: str
) -> None:
    house.server.orders = [house.order()]
    made(python(code)).work()
    (release,) = house.server.of("release")
    assert release.body["detail"] == said
    assert house.journal_files() == []


def test_a_child_that_cannot_be_started_leaves_no_claimed_run(house: House, made: Made) -> None:
    house.server.orders = [house.order()]
    made(("/nowhere/python",)).work()
    assert house.server.of("release")[0].run_id == 1


def test_what_cannot_be_given_back_now_is_given_back_later(house: House, made: Made) -> None:
    house.server.scripts["release"] = lambda call: (403, {})
    house.server.orders = [house.order()]
    runner = made(python("raise SystemExit(3)"))
    runner.work()
    assert len(house.journal_files()) == 1
    house.server.scripts.clear()
    runner.work()
    assert house.server.of("release")[0].body["detail"] == "child ended with 3"


def test_a_claim_whose_answer_was_lost_is_asked_again_under_its_own_id(
    house: House, made: Made
) -> None:
    attempts: list[str] = []

    def lose(call: Call) -> Answer | None:
        attempts.append(call.body["attempt"])
        if len(attempts) == 1:
            house.server.answer_unheard(call)
            return 403, {}
        return None

    house.server.scripts["claim"] = lose
    house.server.orders = [house.order()]
    runner = made()
    runner.work()
    assert house.server.of("settle") == []
    runner.work()
    assert attempts[0] == attempts[1]
    assert house.server.of("settle")[0].body["attempt"] == attempts[0]


def test_no_more_runs_than_places(house: House, made: Made) -> None:
    house.hang(Mode.HANG_BEFORE, "SELECT EF02", seconds=2)
    bobs = house.order(
        2, device_no=house.bobs.device_no, tax_id=house.bobs.tax_id, slot=house.bobs.slot
    )
    house.server.orders = [house.order(), bobs]
    runner = made(parallel=1)
    thread = threading.Thread(target=runner.work)
    thread.start()
    house.wait_until_hanging()
    assert runner.free == 0
    runner.work()  # returns at once; whoever holds the place looks again
    assert len(house.server.of("claim")) == 1
    thread.join()
    assert [call.run_id for call in house.server.of("settle")] == [1, 2]


def test_a_bell_in_vain_is_answered_by_who_leaves(house: House, made: Made) -> None:
    runner = made(parallel=1)

    def ring_while_busy(call: Call) -> None:
        if len(house.server.of("claim")) == 0:
            runner.work()  # every place is taken: in vain

    house.server.scripts["claim"] = ring_while_busy
    runner.work()
    assert len(house.server.of("claim")) == 2


def test_the_server_may_lower_the_bound_and_never_raise_it(house: House, made: Made) -> None:
    runner = made(parallel=4)
    runner.set_limit(2)
    assert runner.free == 2
    runner.set_limit(99)
    assert runner.free == 4


def test_a_stop_lets_a_write_finish_and_claims_nothing_more(house: House, made: Made) -> None:
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY", seconds=1.5)
    house.server.orders = [house.order(), house.order(2)]
    runner = made()
    thread = threading.Thread(target=runner.work)
    thread.start()
    house.wait_until_hanging()
    runner.stop(0.0)
    thread.join()
    runner.wait()
    assert house.disk().declares == 1
    assert len(house.server.of("claim")) == 1
    (release,) = house.server.of("release")
    assert any("pin" in fact["data"] for fact in house.server.facts_of(release.body["attempt"]))


def test_no_secret_stands_in_the_log(
    house: House, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY")
    house.server.orders = [house.order(limits=SHORT)]
    made().work()
    made(python("raise SystemExit(3)")).work()
    assert "over the limit" in caplog.text
    assert house.config.token not in caplog.text
    assert PIN.decode() not in caplog.text
    house.places.unmark(house.alices.slot)
