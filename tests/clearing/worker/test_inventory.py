"""Who is plugged in where, and how presence answers start runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from clearing.worker.client import ServerClient
from clearing.worker.config import MachineConfig
from clearing.worker.hardware import Hardware
from clearing.worker.inventory import EMPTY, Inventory, Slot
from clearing.worker.overseer import Verdict
from clearing.worker.places import Places
from clearing.worker.prober import probe_slots
from clearing.worker.readers import BLIND, readers_of
from clearing.worker.runner import Runner
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.house import House


class PlayedRunner(Runner):
    """Notes what it is told to start, and starts nothing."""

    started: list[int]
    in_use: frozenset[str]

    def __init__(self, house: House, client: ServerClient) -> None:
        super().__init__(house.config, client, house.journal, house.places)
        self.started = []
        self.in_use = frozenset()

    def start(self, count: int) -> None:
        self.started.append(count)

    def slots_in_use(self) -> frozenset[str]:
        return self.in_use


class Probes:
    """The real probe, counted."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.seconds = 20.0

    def __call__(
        self, config: MachineConfig, slots: list[str], places: Places
    ) -> Mapping[str, Slot]:
        self.asked += slots
        return probe_slots(config, slots, places, seconds=self.seconds)


class Looks:
    def __init__(self, house: House, client: ServerClient) -> None:
        self.house = house
        self.runner = PlayedRunner(house, client)
        self.probes = Probes()
        self.inventory = Inventory(
            house.config, client, house.places, self.runner, probe=self.probes
        )

    def look(self) -> None:
        """One look; what it has to ask is asked and told."""
        self.inventory.step()
        if self.inventory._prober is not None:
            self.inventory._prober.join()
        self.inventory.step()

    @property
    def told(self) -> dict[str, dict[str, Any]]:
        """The last presence."""
        slots = self.house.server.of("presence")[-1].body["slots"]
        return {slot["name"]: slot for slot in slots}


@pytest.fixture
def looks(house: House) -> Iterator[Looks]:
    with house.client() as client:
        yield Looks(house, client)


def test_everybody_is_asked_once_and_told(house: House, looks: Looks) -> None:
    looks.look()
    assert looks.told == {
        card.slot: {
            "name": card.slot,
            "device_no": card.device_no,
            "tax_id": card.tax_id,
            "kind": "ic_card",
            "terminal_no": 0,
            "problem": "",
        }
        for card in (house.alices, house.bobs)
    }
    told = len(house.server.of("presence"))
    looks.look()
    assert len(looks.probes.asked) == 2
    assert len(house.server.of("presence")) == told  # nothing changed, and it is not time


def test_no_pin_is_sent_to_ask_who_is_there(house: House, looks: Looks) -> None:
    looks.look()
    assert "VERIFY_FISCAL_PIN" not in house.commands()
    assert house.commands()


def test_a_pulled_disk_and_a_swapped_one_are_told_at_once(house: House, looks: Looks) -> None:
    looks.look()
    house.rack.pull(house.alices.slot)
    looks.look()
    assert looks.told[house.alices.slot]["device_no"] == ""
    house.rack.swap(house.alices.slot, house.bobs.device_no)
    looks.look()
    assert looks.told[house.alices.slot]["device_no"] == house.bobs.device_no
    assert looks.told[house.bobs.slot]["device_no"] == ""


def test_a_disk_in_a_run_is_not_opened_and_told_as_known(house: House, looks: Looks) -> None:
    looks.look()
    looks.runner.in_use = frozenset({house.alices.slot})
    house.places.mark(house.alices.slot)
    looks.probes.asked.clear()
    looks.look()
    assert looks.probes.asked == []
    house.places.unmark(house.alices.slot)
    looks.look()
    assert looks.told[house.alices.slot]["device_no"] == house.alices.device_no


def test_a_slot_locked_by_a_run_answers_nothing_and_is_not_opened(house: House) -> None:
    with house.places.hold_slot(house.alices.slot) as ours:
        assert ours
        found = probe_slots(house.config, [house.alices.slot, house.bobs.slot], house.places)
    assert list(found) == [house.bobs.slot]
    assert house.commands() == []


def test_a_reader_that_hangs_costs_only_its_own_slot(house: House) -> None:
    house.hang(Mode.HANG_BEFORE, "SELECT EF02")
    slots = [house.alices.slot, house.bobs.slot]
    found = probe_slots(house.config, slots, house.places, seconds=2.0)
    assert found[house.alices.slot]["problem"] == "no_answer"
    assert found[house.bobs.slot]["device_no"] == house.bobs.device_no
    assert house.places.is_marked(house.alices.slot)

    house.wait_until_free()
    probe_slots(house.config, slots, house.places)
    assert not house.places.is_marked(house.alices.slot)


def test_a_cut_call_is_a_problem_until_the_probe_answered(house: House, looks: Looks) -> None:
    looks.look()
    house.places.mark(house.alices.slot)
    looks.inventory.run_ended(house.order(), Verdict(cut=True, killed=True))
    looks.look()
    problems = [
        slot["problem"]
        for call in house.server.of("presence")
        for slot in call.body["slots"]
        if slot["name"] == house.alices.slot
    ]
    assert problems[-2:] == ["no_answer", ""]
    assert not house.places.is_marked(house.alices.slot)


def test_a_mark_goes_with_the_disk_that_was_pulled(house: House, looks: Looks) -> None:
    house.places.mark(house.alices.slot)
    house.rack.pull(house.alices.slot)
    looks.look()
    assert not house.places.is_marked(house.alices.slot)


def test_a_run_that_met_another_disk_makes_it_look_again(house: House, looks: Looks) -> None:
    looks.look()
    looks.probes.asked.clear()
    looks.inventory.run_ended(house.order(), Verdict(told=True, code="wrong_disk"))
    looks.look()
    assert looks.probes.asked == [house.alices.slot]


def test_readers_that_are_gone_are_a_problem_of_every_slot(house: House, looks: Looks) -> None:
    looks.look()
    looks.inventory._readers = readers_of(Hardware(rack_socket=house.data_dir / "nobody"))
    looks.look()
    assert {slot["problem"] for slot in looks.told.values()} == {"no_answer"}
    assert {slot["device_no"] for slot in looks.told.values()} == {""}


def test_the_answer_rings(house: House, looks: Looks) -> None:
    house.server.presence_answer = {"runnable": 3, "parallel": 2, "interval": 15}
    looks.look()
    assert looks.runner.started[-1] == 3
    assert looks.runner.free == 2


@pytest.mark.parametrize("status", [401, 403, 426, 503])
def test_a_server_that_does_not_answer_stops_no_look(
    house: House, looks: Looks, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clearing.worker.inventory._PRESENCE_SECONDS", 0.2)
    house.server.scripts["presence"] = lambda call: (status, {})
    looks.look()
    assert looks.runner.started == []
    house.server.scripts.clear()
    looks.inventory.run_ended(house.order(), Verdict(killed=True))  # it is time
    looks.look()
    assert looks.told[house.alices.slot]["device_no"] == house.alices.device_no


def test_the_journal_is_delivered_before_presence(house: House, looks: Looks) -> None:
    house.journal.open(7, "a1", house.alices.device_no).close()
    looks.look()
    assert house.server.verbs()[0] == "release"


def test_what_a_look_raises_does_not_end_the_loop(
    house: House, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Semaphore(0)

    def fail() -> None:
        looked.release()
        raise RuntimeError

    monkeypatch.setattr("clearing.worker.inventory._LOOK_SECONDS", 0.01)
    monkeypatch.setattr(looks.inventory, "step", fail)
    thread = threading.Thread(target=looks.inventory.run)
    thread.start()
    for _ in range(3):
        assert looked.acquire(timeout=20)
    looks.inventory.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_a_child_that_never_answers_a_probe_marks_its_slot(house: House) -> None:
    silent = (sys.executable, "-c", "import time; time.sleep(60)")
    found = probe_slots(
        house.config, [house.alices.slot], house.places, seconds=0.2, command=silent
    )
    assert found == {}  # it never came to the slot: nothing is known of the reader
    assert not house.places.is_marked(house.alices.slot)


class BlindSlot:
    """A probe and readers of one slot that cannot be looked into, and who is really there."""

    def __init__(self, slot: str) -> None:
        self._slot = slot
        self.there: Slot = dict(EMPTY)
        self.asked = 0

    def look(self) -> Mapping[str, str]:
        return {self._slot: BLIND}

    def close(self) -> None:
        pass

    def __call__(
        self, config: MachineConfig, slots: list[str], places: Places
    ) -> Mapping[str, Slot]:
        self.asked += 1
        return {self._slot: dict(self.there)}


def test_a_disk_plugged_in_behind_a_component_is_found_within_a_minute(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the storm: the slot had been empty when the machine started, and the disk stayed
    unseen for ten minutes."""
    passed = 0.0
    monkeypatch.setattr("clearing.worker.inventory.steady", lambda: 1000.0 + passed)
    slot = BlindSlot(house.alices.slot)
    with house.client() as client:
        runner = PlayedRunner(house, client)
        inventory = Inventory(house.config, client, house.places, runner, probe=slot, readers=slot)

        def look() -> str:
            inventory.step()
            if inventory._prober is not None:
                inventory._prober.join()
            return str(inventory.slots()[0]["device_no"])

        assert look() == ""
        slot.there["device_no"] = "661900000006"
        passed = 60.0
        assert look() == "661900000006"
        passed = 120.0
        look()
        assert slot.asked == 2  # who is known is not asked again and again
