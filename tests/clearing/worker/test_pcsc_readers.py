"""PC/SC readers as slots of a worker: names, looks, groups; with real pcscd where it is there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from clearing.worker.config import ConfigError, read
from clearing.worker.hardware import Group, Hardware
from clearing.worker.pcsc_readers import PcscReaders, PcscSlots
from devices.protocol.failures import Code
from tests.devices.pcsc.desk import Desk, failure_of, missing, number, slot, until

TWO = PcscSlots(
    (Path("/run/a.comm"), Path("/run/b.comm")), {"A-01": "1/ACS 00 00", "A-02": "2/ACS 00 00"}
)

with_pcscd = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


def test_slots_are_named_by_reader_by_daemon_and_by_people() -> None:
    assert PcscSlots().slot_of(0, "ACS 00 00") == "ACS 00 00"
    assert PcscSlots().place_of("ACS 00 00") == (0, "ACS 00 00")
    assert PcscSlots(names={"A-01": "ACS 00 00"}).slot_of(0, "ACS 00 00") == "A-01"
    assert (TWO.slot_of(1, "ACS 00 00"), TWO.place_of("A-02")) == ("A-02", (1, "ACS 00 00"))
    assert (TWO.slot_of(1, "HID 00 00"), TWO.place_of("2/HID 00 00")) == (
        "2/HID 00 00",
        (1, "HID 00 00"),
    )


def test_a_slot_of_a_daemon_that_is_not_configured_has_no_disk() -> None:
    assert failure_of(lambda: TWO.place_of("3/ACS 00 00")).code is Code.DISK_ABSENT
    assert failure_of(lambda: TWO.channel("3/ACS 00 00")).code is Code.DISK_ABSENT


def test_slots_are_asked_daemon_by_daemon() -> None:
    assert TWO.groups(["A-01", "2/HID 00 00", "1/HID 00 00", "A-02"]) == [
        ["A-01", "1/HID 00 00"],
        ["2/HID 00 00", "A-02"],
    ]


def test_they_travel_to_another_process_as_json() -> None:
    assert PcscSlots.from_json(json.loads(json.dumps(TWO.to_json()))) == TWO


# --- the configuration ---------------------------------------------------------------------------

BASE = {"server": "https://h", "token": "t", "data_dir": "/d"}


def test_readers_are_pcsc_where_there_is_neither_rack_nor_component() -> None:
    assert read(BASE).hardware.pcsc == PcscSlots()
    rack = read(BASE | {"rack_socket": "/r"}).hardware
    assert (rack.pcsc, rack.rack_socket) == (None, Path("/r"))
    component = {"slot": "C-01", "kind": "baiwang", "address": "http://127.0.0.1:1"}
    assert read(BASE | {"components": [component]}).hardware.pcsc is None
    both = read(BASE | {"components": [component], "readers": "pcsc"}).hardware
    assert (both.pcsc, len(both.components)) == (PcscSlots(), 1)


def test_a_component_may_be_the_way_to_the_bureau_and_says_so_on_its_way() -> None:
    component = {"slot": "C-01", "kind": "aisino", "address": "http://127.0.0.1:1"}
    plain = read(BASE | {"components": [component]}).hardware
    through = read(BASE | {"components": [component | {"operate_net": True}]}).hardware
    assert [hardware.components[0].operate_net for hardware in (plain, through)] == [False, True]
    assert Hardware.from_json(through.to_json()) == through


def test_daemons_names_and_atrs_are_configured_and_travel_with_the_hardware() -> None:
    config = read(
        BASE
        | {"rack_socket": "/r", "readers": "pcsc", "pcsc_sockets": ["/a", "/b"]}
        | {"pcsc_names": {"A-01": "1/ACS 00 00"}, "pcsc_atrs": ["3B00"]}
    )
    wanted = PcscSlots((Path("/a"), Path("/b")), {"A-01": "1/ACS 00 00"}, ("3B00",))
    assert config.hardware == Hardware(pcsc=wanted)
    travelled = json.loads(json.dumps(config.hardware.to_json()))
    assert Hardware.from_json(travelled) == config.hardware


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("readers", "usb"),
        ("readers", "rack"),  # and no rack_socket
        ("pcsc_sockets", [1]),
        ("pcsc_names", {"A-01": ""}),
        ("pcsc_names", {"A-01": "x", "A-02": "x"}),
        ("pcsc_atrs", ["no hex"]),
    ],
)
def test_a_wrong_reader_setting_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        read(BASE | {key: value})


def test_slots_of_a_group_are_asked_where_their_reader_is() -> None:
    group = Group("G", ("G-1", "G-2"), ("switch", "{slot}"), reader="2/ACS 00 00")
    hardware = Hardware(groups=(group,), pcsc=PcscSlots((Path("/a"), Path("/b"))))
    assert hardware.parties(["1/ACS 00 00", "G-1", "G-2"]) == [["1/ACS 00 00"], ["G-1", "G-2"]]
    assert Hardware().parties(["A", "B"]) == [["A", "B"]]
    assert Hardware().parties([]) == []


# --- looks, with real daemons --------------------------------------------------------------------


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qk") as folder:
        yield Path(folder)


@pytest.fixture
def desk(scratch: Path) -> Iterator[Desk]:
    """Two daemons with two readers each; disks in three of the four."""
    desk = Desk(scratch, scratch, readers=4, disks=3, per_daemon=2)
    yield desk
    desk.close()


@with_pcscd
def test_looks_show_insertions_of_all_daemons_and_wake_who_waits(desk: Desk) -> None:
    woken = threading.Event()
    slots = PcscSlots(tuple(desk.virtual.sockets))
    readers = PcscReaders(slots, woken=woken)
    try:
        first = readers.look()
        assert list(first) == [f"{n}/QK virtual 00 00 0{m}" for n in (1, 2) for m in (0, 1)]
        assert [bool(who) for who in first.values()] == [True, True, True, False]
        woken.clear()
        desk.control.swap(slot(1), number(3))
        assert woken.wait(10)  # long before the next look by itself
        until(
            lambda: all(list(readers.look().values())[:3]) and changed(first, readers.look()) == 2
        )
    finally:
        readers.close()


def changed(before: dict[str, str], after: dict[str, str]) -> int:
    return sum(before[name] != after[name] for name in before)


@with_pcscd
def test_a_daemon_that_dies_takes_only_its_own_slots(desk: Desk) -> None:
    readers = PcscReaders(PcscSlots(tuple(desk.virtual.sockets)))
    try:
        before = readers.look()
        desk.virtual.kill(1)
        until(lambda: readers.look()["2/QK virtual 00 00 00"].startswith("away"))
        during = readers.look()
        assert list(during) == list(before)
        assert changed(before, during) == 2  # an empty slot of a dead daemon is not known empty
        desk.virtual.kill(0)
        until(lambda: all(not watcher.view().up for watcher in readers._watchers))
        assert failure_of(readers.look).code is Code.NO_ANSWER
        assert list(readers.look(though_away=True)) == list(before)
        for daemon in (0, 1):
            desk.virtual.start(daemon)
        until(lambda: sum(map(bool, _looked(readers).values())) == 3)
        assert changed(before, readers.look()) == 3  # whoever was there may be somebody else
    finally:
        readers.close()


def _looked(readers: PcscReaders) -> dict[str, str]:
    try:
        return readers.look()
    except Exception:
        return {}


_ASK = """
import json, sys
from clearing.worker.pcsc_readers import PcscSlots
from devices.drivers.ic_card import IcCardDisk
from tests.devices.cards import IN_WINDOW
slots = PcscSlots.from_json(json.loads(sys.argv[1]))
for slot in sys.argv[2:]:
    disk = IcCardDisk(slots.channel(slot), pins=None, host_now=lambda: IN_WINDOW)
    print(disk.identify().device_no)
    disk.close()
"""


@with_pcscd
def test_each_group_is_opened_by_a_process_of_its_own(desk: Desk) -> None:
    slots = PcscSlots(tuple(desk.virtual.sockets), {"A-01": "1/QK virtual 00 00 01"})
    wanted = ["1/QK virtual 00 00 00", "A-01", "2/QK virtual 00 00 00"]
    found: list[str] = []
    for group in slots.groups(wanted):
        command = [sys.executable, "-c", _ASK, json.dumps(slots.to_json()), *group]
        found += subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert found == [number(1), number(2), number(3)]
