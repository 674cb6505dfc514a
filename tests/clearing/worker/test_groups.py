"""Slots of which one is active at a time: a switch that plugs the rack's disks in and out."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clearing.worker.client import ServerClient
from clearing.worker.config import MachineConfig
from clearing.worker.hardware import Group
from clearing.worker.inventory import Inventory
from clearing.worker.runner import Runner
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.house import House

#: The box: whatever is in the group's slots is pulled, and the wanted disk plugged in.
_SWITCH = """
import sys, pathlib
from devices.simulator.rack_client import RackControl, list_slots
socket, log, wanted, *disks = sys.argv[1:]
socket, homes = pathlib.Path(socket), dict(pair.split("=") for pair in disks)
open(log, "a").write(wanted + chr(10))
rack, seen = RackControl(socket), {view.slot: view for view in list_slots(socket)}
for slot in homes:
    if slot != wanted and seen[slot].device_no:
        rack.pull(slot)
if not seen[wanted].device_no:
    rack.insert(wanted, homes[wanted])
"""


class Box:
    """A group of Alice's and Bob's slots behind a switch, and a worker's parts around it."""

    def __init__(self, house: House, client: ServerClient, folder: Path) -> None:
        self.house = house
        self.log = folder / "switched"
        self.homes = {card.slot: card.device_no for card in (house.alices, house.bobs)}
        self.config = replace(house.config, groups=(self._group(),))
        self.runner = Runner(self.config, client, house.journal, house.places)
        self.inventory = Inventory(self.config, client, house.places, self.runner)

    def _group(self) -> Group:
        command = (sys.executable, "-c", _SWITCH, str(self.house.socket), str(self.log), "{slot}")
        homes = tuple(f"{slot}={device_no}" for slot, device_no in self.homes.items())
        return Group("box", tuple(self.homes), (*command, *homes))

    @property
    def switched(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def look(self) -> dict[str, str]:
        """One look with its questions; who was told to be where."""
        for _ in range(2):
            self.inventory.step()
            if self.inventory._prober is not None:
                self.inventory._prober.join()
        self.inventory.step()
        slots = self.house.server.of("presence")[-1].body["slots"]
        return {slot["name"]: slot["device_no"] for slot in slots}

    def orders(self, **changes: Any) -> None:
        house = self.house
        bobs = {"slot": house.bobs.slot, "device_no": house.bobs.device_no}
        house.server.orders = [
            house.order(1, **changes),
            house.order(2, tax_id=house.bobs.tax_id, **bobs, **changes),
        ]


@pytest.fixture
def box(house: House, tmp_path: Path) -> Iterator[Box]:
    with house.client() as client:
        made = Box(house, client, tmp_path)
        yield made
        made.runner.stop(0.0)
        made.runner.wait()


def test_each_slot_is_made_the_active_one_and_asked_who_it_is(house: House, box: Box) -> None:
    assert box.look() == box.homes
    assert sorted(box.switched) == sorted(box.homes)
    assert house.writes() == house.writes(house.bobs) == []  # no PIN was sent
    told = len(box.switched)
    assert box.look() == box.homes  # both, though only one can be seen
    assert len(box.switched) == told


def test_an_empty_slot_of_a_group_is_empty_and_no_problem(house: House, box: Box) -> None:
    alone = (sys.executable, "-c", "pass", "{slot}")
    group = replace(box.config.groups[0], activate=alone)
    config = replace(box.config, groups=(group,))
    house.rack.pull(house.alices.slot)
    with house.client() as client:
        box.inventory = Inventory(config, client, house.places, box.runner)
        assert box.look() == {house.alices.slot: "", house.bobs.slot: house.bobs.device_no}
    last = house.server.of("presence")[-1].body["slots"]
    assert {slot["problem"] for slot in last} == {""}


def test_a_run_switches_to_its_disk_and_checks_who_it_is(house: House, box: Box) -> None:
    house.rack.pull(house.alices.slot)  # Bob's is the active one
    house.server.orders = [house.order()]
    box.runner.work()
    assert house.server.of("settle")[0].body["outcome"]["end"] == "done"
    assert house.disk().clears == 1
    assert box.switched == [house.alices.slot]


def test_a_switch_that_brings_another_disk_sends_no_pin(house: House, box: Box) -> None:
    """The box's cables were changed over: Alice's slot brings Bob's disk."""
    house.rack.swap(house.alices.slot, house.bobs.device_no)
    group = replace(box.config.groups[0], activate=(sys.executable, "-c", "pass", "{slot}"))
    with house.client() as client:
        config = replace(box.config, groups=(group,))
        runner = Runner(config, client, house.journal, house.places)
        house.server.orders = [house.order()]
        runner.work()
    assert house.server.of("settle")[0].body["outcome"]["code"] == "wrong_disk"
    assert house.writes() == house.writes(house.bobs) == []


def test_a_switch_that_fails_is_a_reader_without_an_answer(house: House, box: Box) -> None:
    group = replace(box.config.groups[0], activate=(sys.executable, "-c", "exit(4)", "{slot}"))
    with house.client() as client:
        config = replace(box.config, groups=(group,))
        runner = Runner(config, client, house.journal, house.places)
        house.server.orders = [house.order()]
        runner.work()
    outcome = house.server.of("settle")[0].body["outcome"]
    assert (outcome["code"], outcome["raw_code"]) == ("no_answer", "switch")
    assert house.commands() == []


def test_runs_of_a_group_come_one_after_another_and_hold_up_no_one_else(
    house: House, box: Box
) -> None:
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY", seconds=1.0)
    box.orders()
    first = threading.Thread(target=box.runner.work)
    first.start()
    house.wait_until_hanging()
    second = threading.Thread(target=box.runner.work)  # claims Bob's run, and waits for the box
    second.start()
    house.server.wait_for("claim", 3)  # … while another looks for more
    assert box.switched == [house.alices.slot]
    first.join()
    second.join()
    box.runner.wait()
    assert box.switched == [house.alices.slot, house.bobs.slot]
    assert house.disk().clears == house.disk(house.bobs).clears == 1
    ends = [call.body["outcome"]["end"] for call in house.server.of("settle")]
    assert ends == ["done", "done"]


def test_who_waits_for_the_box_keeps_the_lease_and_gives_it_back_at_a_stop(
    house: House, box: Box
) -> None:
    house.hang(Mode.HANG_BEFORE, "SELECT EF02")
    limits = replace(house.order().limits, lease=0.3)
    box.orders(limits=limits)
    threads = [threading.Thread(target=box.runner.work) for _ in range(2)]
    threads[0].start()
    house.wait_until_hanging()
    threads[1].start()
    house.server.wait_for("claim", 3)
    renewed = {call.run_id for call in house.server.of("renew")}
    while 2 not in renewed:
        house.server.wait_for("renew", len(house.server.of("renew")) + 1)
        renewed = {call.run_id for call in house.server.of("renew")}
    box.runner.stop(0.0)
    for thread in threads:
        thread.join()
    box.runner.wait()
    details = {call.run_id: call.body["detail"] for call in house.server.of("release")}
    assert details[2] == "gave up waiting for box"
    assert box.switched == [house.alices.slot]


def test_the_inventory_leaves_a_group_in_a_run_alone(house: House, box: Box) -> None:
    assert box.look() == box.homes
    told = len(box.switched)
    with box.runner._lock:
        box.runner._overseers[object()] = house.alices.slot  # type: ignore[index]
    box.inventory._tried.clear()
    box.inventory._known.clear()
    box.inventory.step()
    assert box.inventory._prober is None or not box.inventory._prober.is_alive()
    assert len(box.switched) == told
    with box.runner._lock:
        box.runner._overseers.clear()


def test_a_group_that_another_process_has_is_not_switched(house: House, box: Box) -> None:
    with house.places.hold_group("box", 0.0) as ours:
        assert ours
        assert set(box.look().values()) == {""}
        assert box.switched == []


def test_the_lock_of_a_group_ends_with_the_child(house: House, box: Box) -> None:
    child = _child(house, box.config)
    house.wait_until_hanging()
    with house.places.hold_group("box", 0.0) as ours:
        assert not ours
    child.kill()
    with house.places.hold_group("box", 20.0) as ours:
        assert ours


def _child(house: House, config: MachineConfig) -> Any:
    house.hang(Mode.HANG_BEFORE, "SELECT EF02")
    return house.child(house.order(), config)
