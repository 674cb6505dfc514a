"""How soon the next claim comes after a run that did not come to its end; and nothing spins."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from clearing.worker.inventory import Inventory
from clearing.worker.overseer import COMMAND, Verdict
from clearing.worker.runner import Runner
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.house import LIMITS, House

LOST = Verdict(detail="child ended with 1")
DONE = Verdict(told=True)

#: A child that fails at its first start, and then is the real one.
_FAILS_ONCE = """
import os, sys
try:
    os.mkdir(sys.argv[1])
except FileExistsError:
    from clearing.worker.child import main
    sys.exit(main())
sys.exit(3)
"""


@pytest.fixture
def inventory(house: House) -> Iterator[Inventory]:
    with house.client() as client:
        runner = Runner(house.config, client, house.journal, house.places)
        yield Inventory(house.config, client, house.places, runner)


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> float:
    """The inventory's clock stands still."""
    monkeypatch.setattr("clearing.worker.inventory.steady", lambda: 5000.0)
    return 5000.0


def test_the_first_stumble_is_followed_up_at_once_the_next_later_and_later(
    house: House, inventory: Inventory, noon: float
) -> None:
    waits: list[float] = []
    for _ in range(6):
        inventory._due = noon + 1000.0
        inventory.run_ended(house.order(), LOST)
        waits.append(inventory._due - noon)
    assert waits == [0, 1, 2, 4, 8, 16]
    for _ in range(50):
        inventory.run_ended(house.order(), LOST)
    inventory._due = noon + 15.0
    inventory.run_ended(house.order(), LOST)
    assert inventory._due == noon + 15.0  # never later than presence would come anyway

    inventory.run_ended(house.order(), DONE)
    inventory.run_ended(house.order(), LOST)
    assert inventory._due == noon  # a run that came to its end starts afresh


def test_one_slot_s_stumbles_are_not_another_s(
    house: House, inventory: Inventory, noon: float
) -> None:
    for _ in range(5):
        inventory.run_ended(house.order(), LOST)
    inventory.run_ended(house.order(slot=house.bobs.slot), DONE)
    inventory._due = noon + 1000.0
    inventory.run_ended(house.order(), LOST)
    assert inventory._due == noon + 16.0


class Worker:
    """Inventory and runner as in the program; presence says that something can run while it can."""

    def __init__(self, house: House, client: Any, command: tuple[str, ...]) -> None:
        house.server.presence_answer = {"runnable": 0, "parallel": 8, "interval": 600}
        house.server.scripts["presence"] = lambda call: (200, self._presence(house))
        self.runner = Runner(house.config, client, house.journal, house.places, command=command)
        self.inventory = Inventory(house.config, client, house.places, self.runner)
        self.thread = threading.Thread(target=self.inventory.run)

    @staticmethod
    def _presence(house: House) -> dict[str, Any]:
        return house.server.presence_answer | {"runnable": len(house.server.orders)}

    def stop(self) -> None:
        self.runner.stop(0.0)
        self.inventory.stop()
        self.runner.wait()
        if self.thread.is_alive():
            self.thread.join()


@pytest.fixture
def worker(house: House) -> Iterator[Any]:
    started: list[Worker] = []
    clients = []

    def start(command: tuple[str, ...] = COMMAND) -> Worker:
        clients.append(house.client())
        started.append(Worker(house, clients[-1], command))
        started[-1].thread.start()
        return started[-1]

    yield start
    for each in started:
        each.stop()
    for client in clients:
        client.close()


def test_a_child_that_fails_is_followed_up_without_waiting_for_the_next_presence(
    house: House, worker: Any
) -> None:
    """Presence would come in ten minutes; the server queues the run again when it is released."""
    again = house.order(2)
    house.server.scripts["release"] = lambda call: house.server.orders.append(again)
    house.server.orders = [house.order()]
    worker((sys.executable, "-c", _FAILS_ONCE, str(house.data_dir / "failed")))
    assert house.server.wait_for("settle").run_id == 2
    assert house.server.of("release")[0].body["detail"] == "child ended with 3"


def test_a_disk_that_hung_is_probed_and_its_run_goes_on(house: House, worker: Any) -> None:
    """Cut in a write, probed, free again, claimed again: all without a person."""
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY")
    limits = replace(LIMITS, call=1.0)

    def requeue(call: Any) -> None:
        if call.body["detail"].startswith("over the limit"):
            house.rack.clear_faults(house.alices.device_no)
            house.server.orders.append(house.order(2))
        else:  # it came while the disk was still asked who it is
            house.server.orders.append(house.order(limits=limits))

    house.server.scripts["release"] = requeue
    house.server.orders = [house.order(limits=limits)]
    worker()
    assert house.server.wait_for("settle", timeout=40.0).run_id == 2
    assert house.disk().clears == 1
    problems = [
        slot["problem"]
        for call in house.server.of("presence")
        for slot in call.body["slots"]
        if slot["name"] == house.alices.slot
    ]
    assert "no_answer" in problems
