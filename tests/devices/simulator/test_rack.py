"""The rack process: a month through its socket, exclusive sessions, hands at the slots."""

from __future__ import annotations

import stat
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devices.drivers.ic_card import UNIT
from devices.protocol.control import is_cleared_all, is_reported_all
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import Application, select_application
from devices.simulator import crypto, evidence
from devices.simulator.rack_client import RackChannel, RackControl, list_slots, rack_command
from devices.simulator.rack_disks import STAGE_SHARES
from devices.simulator.rack_faults import Mode
from devices.simulator.rack_wire import MAX_SOCKET_PATH
from tests.devices.cards import (
    DEVICE_NO,
    FIRST_PIN,
    KEY,
    NEXT_DEADLINE,
    OTHER_NO,
    PERIOD,
    Bench,
    KeptPins,
    bench,
    clear_data,
    world_disk,
    world_of,
)
from tests.devices.simulator.racks import RackProcess

SELECT = select_application(Application.FISCAL).encode()


def failure_of(action: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        action()
    return caught.value


def slots_of(rack: RackProcess) -> dict[str, str]:
    return {view.slot: view.device_no for view in list_slots(rack.socket)}


# --- a month ------------------------------------------------------------------------------------


def test_a_month_is_reported_cleared_and_proven_from_outside(rack: RackProcess) -> None:
    pins = KeptPins()
    disk = rack.disk(pins)
    assert disk.identify().device_no == DEVICE_NO
    package = disk.report(UNIT, PERIOD)
    declared, answer = (bytes.fromhex(package.fields[name]) for name in ("fphz", "qtxx"))
    assert crypto.verify_declaration(KEY, DEVICE_NO, declared, answer).end == PERIOD.last
    assert is_reported_all(disk.read_control(), PERIOD)
    disk.clear(UNIT, clear_data())
    assert is_cleared_all(disk.read_control(), PERIOD)
    disk.close()

    found = evidence.read_state(rack.folder, DEVICE_NO)
    assert found.issue_deadline == NEXT_DEADLINE
    assert found.cleared_through == found.reported_through == PERIOD.last
    assert (found.declares, found.clears, found.tries, found.pin_generation) == (1, 1, 3, 2)
    log = evidence.read_log(rack.folder, DEVICE_NO)
    assert [(write.n, write.command, write.period) for write in log] == [
        (1, "VERIFY_FISCAL_PIN", ""),
        (2, "DECLARE_DUTY", "2026-02"),
        (3, "VERIFY_FISCAL_PIN", ""),
        (4, "UPDATE_CONTROLS", "2026-02"),
    ]
    assert evidence.holds_pin(rack.folder, DEVICE_NO, pins.pin.value)
    assert not evidence.holds_pin(rack.folder, DEVICE_NO, FIRST_PIN.encode())


def test_no_pin_stands_in_a_log_and_the_files_are_private(rack: RackProcess) -> None:
    pins = KeptPins()
    disk = rack.disk(pins)
    disk.report(UNIT, PERIOD)
    log = (rack.folder / f"{DEVICE_NO}.log").read_bytes()
    for pin in (FIRST_PIN.encode(), pins.pin.value):
        assert pin not in log
        assert pin.hex().encode() not in log.lower()
    for path in (rack.socket, *rack.folder.glob(f"{DEVICE_NO}.*")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_many_disks_work_at_the_same_time(short_folder: Path) -> None:
    numbers = [f"{0xB000 + n:016X}" for n in range(24)]
    world = world_of(*(world_disk(number, slot=f"S-{number[-3:]}") for number in numbers))
    rack = RackProcess(short_folder, world)
    together = threading.Barrier(len(numbers))

    def month(device_no: str) -> bool:
        disk = rack.disk(KeptPins(), device_no)
        together.wait(timeout=90)  # every session is open before any of them reports
        disk.report(UNIT, PERIOD)
        disk.clear(UNIT, clear_data(device_no=device_no))
        return is_cleared_all(disk.read_control(), PERIOD)

    try:
        with ThreadPoolExecutor(len(numbers)) as pool:
            assert all(pool.map(month, numbers))
        assert evidence.devices_in(rack.folder) == numbers
        assert {evidence.read_state(rack.folder, number).clears for number in numbers} == {1}
    finally:
        rack.end()


def test_each_stage_of_the_driver_costs_about_one_stage_time() -> None:
    on = bench()

    def cost(action: Callable[[Bench], object]) -> float:
        on.channel.sent.clear()
        action(on)
        return sum(STAGE_SHARES.get(name, 0.0) for name in on.channel.sent)

    costs = [
        cost(lambda on: on.disk.identify()),
        cost(lambda on: on.disk.read_control()),
        cost(lambda on: on.disk.report(UNIT, PERIOD)),
        cost(lambda on: on.disk.clear(UNIT, clear_data())),
    ]
    assert costs == pytest.approx([1.0, 0.8, 1.1, 1.0])


# --- sessions -----------------------------------------------------------------------------------


def test_a_disk_has_one_session_at_a_time(rack: RackProcess) -> None:
    first = rack.channel()
    assert failure_of(rack.channel).code is Code.DISK_IN_USE
    assert [view.in_use for view in list_slots(rack.socket)] == [True, False]
    rack.channel(OTHER_NO).close()
    first.close()
    first.close()
    rack.control.wait_until_free(DEVICE_NO)
    rack.channel().close()
    assert failure_of(lambda: first.transmit(SELECT)).code is Code.NO_ANSWER


def test_a_disk_is_found_by_its_slot_and_an_empty_slot_is_absent(rack: RackProcess) -> None:
    RackChannel(rack.socket, "S-01").close()
    for slot in ("S-99", ""):
        assert failure_of(lambda slot=slot: RackChannel(rack.socket, slot)).code is Code.DISK_ABSENT  # type: ignore[misc]


def test_without_a_rack_the_link_is_broken(short_folder: Path) -> None:
    failure = failure_of(lambda: list_slots(short_folder / "none.sock"))
    assert (failure.code, failure.raw_code, failure.outcome_unknown) == (
        Code.NO_ANSWER,
        "rack",
        False,
    )


# --- hands at the slots ---------------------------------------------------------------------------


def test_a_card_pulled_between_commands_is_absent_and_nothing_is_in_doubt(
    rack: RackProcess,
) -> None:
    pins = KeptPins()
    disk = rack.disk(pins)
    disk.identify()
    rack.control.pull("S-01")
    failure = failure_of(lambda: disk.report(UNIT, PERIOD))
    assert (failure.code, failure.outcome_unknown) == (Code.DISK_ABSENT, False)
    assert failure_of(disk.read_control).code is Code.DISK_ABSENT
    assert pins.calls == []
    assert slots_of(rack)["S-01"] == ""


@pytest.mark.parametrize(("mode", "happened"), [(Mode.HANG_BEFORE, False), (Mode.HANG_AFTER, True)])
@pytest.mark.parametrize("command", ["VERIFY_FISCAL_PIN", "DECLARE_DUTY", "SELECT EF03"])
def test_a_card_pulled_during_a_command_leaves_a_doubt_if_it_changes_the_card(
    rack: RackProcess, mode: Mode, happened: bool, command: str
) -> None:
    rack.control.fault(DEVICE_NO, mode, command=command, seconds=60)
    with ThreadPoolExecutor(1) as pool:
        disk = rack.disk(KeptPins())
        report = pool.submit(disk.report, UNIT, PERIOD)
        assert rack.control.wait_until_hanging(DEVICE_NO) == command
        rack.control.pull("S-01")
        with pytest.raises(Failure) as caught:
            report.result(timeout=20)
    assert caught.value.code is Code.DISK_ABSENT
    assert caught.value.outcome_unknown is (command != "SELECT EF03")
    writes = evidence.read_state(rack.folder, DEVICE_NO).writes
    assert writes.get(command, 0) == (1 if happened and command != "SELECT EF03" else 0)


def test_a_card_put_back_is_another_session(rack: RackProcess) -> None:
    channel = rack.channel()
    rack.control.pull("S-01")
    rack.control.insert("S-01", DEVICE_NO)
    assert failure_of(lambda: channel.transmit(SELECT)).code is Code.DISK_ABSENT
    fresh = rack.channel()
    assert fresh.transmit(SELECT)[-2:] == b"\x90\x00"


def test_two_cards_change_places(rack: RackProcess) -> None:
    rack.control.swap("S-01", OTHER_NO)
    assert slots_of(rack) == {"S-01": OTHER_NO, "S-02": DEVICE_NO}
    channel = RackChannel(rack.socket, "S-01")
    channel.close()
    rack.control.pull("S-02")
    rack.control.swap("S-01", DEVICE_NO)
    assert slots_of(rack) == {"S-01": DEVICE_NO, "S-02": ""}


def test_what_cannot_be_plugged_is_refused(rack: RackProcess) -> None:
    for slot, device_no in [
        ("S-01", OTHER_NO),
        ("S-03", OTHER_NO),
        ("S-03", "00000000000AFFFF"),
        ("", DEVICE_NO),
    ]:
        with pytest.raises(ValueError, match=r"slot_taken|plugged_in_elsewhere|unknown_disk"):
            rack.control.insert(slot, device_no)
    with pytest.raises(ValueError, match="slot_empty"):
        rack.control.pull("S-77")
    with pytest.raises(ValueError, match="bad_request"):
        rack.control.fault(DEVICE_NO, Mode.GARBAGE, data="no hex")
    assert slots_of(rack) == {"S-01": DEVICE_NO, "S-02": OTHER_NO}


def test_a_card_moves_to_another_machine_with_its_state(short_folder: Path) -> None:
    world = world_of(world_disk(), world_disk(OTHER_NO, machine="m2"))
    here, there = RackProcess(short_folder, world), RackProcess(short_folder, world, "m2")
    try:
        assert slots_of(here) == {"S-01": DEVICE_NO}
        here.disk(KeptPins()).report(UNIT, PERIOD)
        with pytest.raises(ValueError, match="plugged_in_elsewhere"):
            there.control.insert("T-01", DEVICE_NO)
        here.control.pull("S-01")
        there.control.insert("T-01", DEVICE_NO)
        assert is_reported_all(there.disk(KeptPins()).read_control(), PERIOD)
    finally:
        here.end()
        there.end()


def test_a_disk_in_the_drawer_is_in_no_slot_until_it_is_plugged_in(short_folder: Path) -> None:
    rack = RackProcess(short_folder, world_of(world_disk(slot="")))
    try:
        assert slots_of(rack) == {}
        assert failure_of(rack.channel).code is Code.DISK_ABSENT
        assert evidence.read_state(rack.folder, DEVICE_NO).declares == 0
        rack.control.insert("A-01", DEVICE_NO)
        rack.channel().close()
    finally:
        rack.end()


# --- the process ----------------------------------------------------------------------------------


def test_sigterm_ends_it_cleanly(rack: RackProcess) -> None:
    channel = rack.channel()
    rack.process.terminate()
    assert rack.process.wait(timeout=90) == 0
    assert not rack.socket.exists()
    assert failure_of(lambda: channel.transmit(SELECT)).code in (Code.DISK_ABSENT, Code.NO_ANSWER)


def run_rack(folder: Path, socket: Path) -> subprocess.CompletedProcess[str]:
    command = rack_command(folder / "world-m1.json", "m1", folder / "disks", socket)
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_a_socket_path_that_is_too_long_is_refused_with_its_length(short_folder: Path) -> None:
    world_of(world_disk()).save(short_folder / "world-m1.json")
    long = short_folder / ("x" * (MAX_SOCKET_PATH - len(str(short_folder))))
    assert len(str(long)) == MAX_SOCKET_PATH + 1
    ended = run_rack(short_folder, long)
    assert ended.returncode == 2
    assert "108 bytes, at most 107" in ended.stderr
    with pytest.raises(ValueError, match="at most 107"):
        RackControl(long).pull("S-01")


def test_a_live_socket_is_not_taken_over(rack: RackProcess, short_folder: Path) -> None:
    ended = run_rack(short_folder, rack.socket)
    assert ended.returncode == 2
    assert slots_of(rack)["S-01"] == DEVICE_NO


def test_a_world_that_cannot_be_is_told_in_one_line(short_folder: Path) -> None:
    world_of(world_disk(), world_disk(OTHER_NO, slot="S-01")).save(short_folder / "world-m1.json")
    ended = run_rack(short_folder, short_folder / "s")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "S-01" in ended.stderr
