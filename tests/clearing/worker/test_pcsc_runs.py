"""Whole runs by real children through real pcscd: two daemons, a hang, a restart in mid-clear."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clearing.wire import Order
from clearing.worker.config import MachineConfig
from clearing.worker.overseer import Verdict
from clearing.worker.prober import Found, probe_slots
from clearing.worker.readers import readers_of
from clearing.worker.runner import Runner
from devices.simulator.pcscd import VirtualReaders
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.house import LIMITS, House, Street
from tests.devices.pcsc.desk import missing, until

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

MONTH = ["VERIFY_FISCAL_PIN", "DECLARE_DUTY", "VERIFY_FISCAL_PIN", "UPDATE_CONTROLS"]


class PcscStreet(Street):
    """Its cards are in PC/SC readers, one after another over the daemons."""

    def __init__(self, folder: Path, virtual: VirtualReaders) -> None:
        super().__init__(folder)
        self.virtual = virtual

    def _spawn(self, command: list[str]) -> None:
        if "devices.simulator.rack" in command:
            for number, reader in enumerate(self.virtual.slots, 1):
                host, port = reader.address
                command += ["--vpcd", f"A-{number:03d}={host}:{port}"]
            command = self.virtual.inside(command)
        super()._spawn(command)


class PcscHouse(House):
    """Alice's disk at the first daemon, Bob's at the second."""

    def __init__(self, street: PcscStreet, folder: Path) -> None:
        super().__init__(street, folder)
        self.virtual = street.virtual

    @property
    def config(self) -> MachineConfig:
        return replace(
            super().config,
            rack_socket=None,
            readers="pcsc",
            pcsc_sockets=tuple(map(str, self.virtual.sockets)),
            pcsc_names={
                f"A-{number:03d}": f"{reader.daemon + 1}/{reader.reader}"
                for number, reader in enumerate(self.virtual.slots, 1)
            },
        )

    def bobs_order(self) -> Order:
        bob = self.bobs
        return self.order(2, device_no=bob.device_no, tax_id=bob.tax_id, slot=bob.slot)

    def probe(self, *slots: str, seconds: float = 20.0) -> dict[str, Found]:
        return probe_slots(self.config, slots, self.places, seconds=seconds)

    def wait_seen(self) -> None:
        readers = readers_of(self.config.hardware)
        try:
            # A daemon's entry makes two readers; the second is empty.
            until(lambda: all(readers.look().get(slot) for slot in self.config.pcsc_names))
        finally:
            readers.close()


@pytest.fixture
def house(_importable: None, tmp_path: Path) -> Iterator[PcscHouse]:
    with (
        tempfile.TemporaryDirectory(prefix="qk") as folder,
        VirtualReaders(Path(folder) / "d", 2, per_daemon=1) as virtual,
    ):
        street = PcscStreet(Path(folder), virtual)
        try:
            street.start()
            house = PcscHouse(street, tmp_path)
            house.wait_seen()
            yield house
            house.close()
        finally:
            street.close()


def run(house: PcscHouse, *orders: Order) -> list[Verdict]:
    """Have the orders run, one after another, as the worker does."""
    house.server.orders = list(orders)
    verdicts: list[Verdict] = []
    with house.client() as client:
        runner = Runner(house.config, client, house.journal, house.places)
        runner.ended = lambda order, verdict: verdicts.append(verdict)
        runner.work()
    return verdicts


def test_disks_at_two_daemons_are_found_and_cleared(house: PcscHouse) -> None:
    alice, bob = house.alices, house.bobs
    found = house.probe(alice.slot, bob.slot)
    assert {slot: answer["device_no"] for slot, answer in found.items()} == {
        alice.slot: alice.device_no,
        bob.slot: bob.device_no,
    }
    verdicts = run(house, house.order(), house.bobs_order())
    assert [(verdict.told, verdict.code) for verdict in verdicts] == [(True, ""), (True, "")]
    assert house.writes(alice) == house.writes(bob) == MONTH


def test_a_hung_reader_is_cut_and_stays_shut_until_its_card_answers(house: PcscHouse) -> None:
    alice, bob = house.alices, house.bobs
    house.hang(Mode.HANG_BEFORE, "UPDATE_CONTROLS", seconds=12)
    began = time.monotonic()
    (verdict,) = run(house, replace(house.order(), limits=replace(LIMITS, call=2.0)))
    assert verdict.cut
    assert time.monotonic() - began < 10
    assert house.places.is_marked(alice.slot)

    # pcscd holds the reader for the dead process: to a probe that is no answer.
    answer = house.probe(alice.slot)[alice.slot]
    assert (answer["problem"], answer["hung"]) == ("no_answer", True)
    assert house.places.is_marked(alice.slot)
    (bobs,) = run(house, house.bobs_order())
    assert (bobs.told, house.writes(bob)) == (True, MONTH)

    until(lambda: not house.probe(alice.slot)[alice.slot]["problem"], seconds=30)
    assert not house.places.is_marked(alice.slot)
    (again,) = run(house, house.order(3))
    assert again.told
    assert house.writes(alice) == MONTH  # the card had the command: it was read, not sent again


def test_a_daemon_restarted_in_mid_clear_clears_nothing_twice(house: PcscHouse) -> None:
    house.hang(Mode.HANG_AFTER, "UPDATE_CONTROLS", seconds=30)
    verdicts: list[Verdict] = []
    thread = threading.Thread(target=lambda: verdicts.extend(run(house, house.order())))
    thread.start()
    house.wait_until_hanging()
    house.virtual.kill(0)
    house.virtual.start(0)
    thread.join(60)
    assert house.writes() == MONTH
    assert verdicts[0].told
    house.wait_seen()
    (again,) = run(house, house.order(3))
    assert again.told
    assert house.writes() == MONTH
