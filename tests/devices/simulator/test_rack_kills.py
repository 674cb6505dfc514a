"""Death at every side of the socket: the client, the rack, the answer. The disk stays true."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from devices.drivers.ic_card import UNIT, IcCardDisk
from devices.protocol.control import is_cleared_all, is_reported_all
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import DeclareDuty
from devices.protocol.iccard_layouts import Totals
from devices.simulator import evidence
from devices.simulator.rack_client import list_slots
from devices.simulator.rack_faults import Fault, Mode
from devices.simulator.store import DiskStore, StoreDamaged
from tests.devices.cards import (
    DEVICE_NO,
    FIRST_PIN,
    IN_WINDOW,
    OTHER_NO,
    PERIOD,
    KeptPins,
    card_of,
    clear_data,
    world_disk,
    world_of,
)
from tests.devices.simulator.racks import RackProcess, client_process, kill

PINLESS_DECLARE = DeclareDuty(PERIOD.first, PERIOD.last, 0, 0, 0, Totals()).command().encode()
CHANGING = ["VERIFY_FISCAL_PIN", "DECLARE_DUTY", "UPDATE_CONTROLS"]


def failure_of(action: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        action()
    return caught.value


def run_month(disk: IcCardDisk) -> None:
    disk.report(UNIT, PERIOD)
    disk.clear(UNIT, clear_data())


def consistent(folder: Path) -> bool:
    """Whether state and log tell the same story."""
    state, log = evidence.read_state(folder, DEVICE_NO), evidence.read_log(folder, DEVICE_NO)
    counts: dict[str, int] = {}
    for write in log:
        counts[write.command] = counts.get(write.command, 0) + 1
    return counts == state.writes and [write.n for write in log] == list(range(1, len(log) + 1))


# --- the client dies ------------------------------------------------------------------------------


def test_a_killed_clients_session_is_freed_and_its_pin_no_longer_counts(
    rack: RackProcess,
) -> None:
    client = client_process(rack, "report")
    assert client.stdout is not None
    assert [client.stdout.readline() for _ in range(2)] == ["reporting\n", "open\n"]
    assert failure_of(rack.channel).code is Code.DISK_IN_USE
    kill(client)
    rack.control.wait_until_free(DEVICE_NO)
    channel = rack.channel()
    assert channel.transmit(PINLESS_DECLARE)[-2:] == b"\x69\x85"  # selection is lost
    channel.transmit(bytes.fromhex("00A40400065453414D303100"))
    assert channel.transmit(PINLESS_DECLARE)[-2:] == b"\x69\x82"  # and so is the PIN


@pytest.mark.parametrize(("mode", "happened"), [(Mode.HANG_BEFORE, False), (Mode.HANG_AFTER, True)])
@pytest.mark.parametrize("command", ["VERIFY_FISCAL_PIN", "DECLARE_DUTY"])
def test_a_client_killed_in_mid_command_leaves_a_disk_that_is_true(
    rack: RackProcess, mode: Mode, happened: bool, command: str
) -> None:
    rack.control.fault(DEVICE_NO, mode, command=command, seconds=60)
    client = client_process(rack, "report")
    assert rack.control.wait_until_hanging(DEVICE_NO) == command
    kill(client)
    rack.control.wait_until_free(DEVICE_NO)
    state = evidence.read_state(rack.folder, DEVICE_NO)
    assert state.writes.get(command, 0) == int(happened)
    reader = IcCardDisk(rack.channel(), pins=None, host_now=lambda: IN_WINDOW)
    reported = is_reported_all(reader.read_control(), PERIOD)
    assert reported is (happened and command == "DECLARE_DUTY")


# --- the rack dies --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [Mode.DIE_BEFORE_LOG, Mode.DIE_AFTER_LOG])
@pytest.mark.parametrize("command", CHANGING)
def test_a_rack_killed_between_write_and_answer_keeps_the_write(
    rack: RackProcess, mode: Mode, command: str
) -> None:
    pins = KeptPins()
    disk = rack.disk(pins)
    rack.control.fault(DEVICE_NO, mode, command=command)
    failure = failure_of(lambda: run_month(disk))
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)
    assert rack.end() == -signal.SIGKILL
    assert evidence.read_state(rack.folder, DEVICE_NO).writes[command] == 1
    assert evidence.read_log(rack.folder, DEVICE_NO)[-1].command == command
    assert consistent(rack.folder)
    lines = (rack.folder / f"{DEVICE_NO}.log").read_text() if mode is Mode.DIE_AFTER_LOG else ""

    rack.restart()
    recovered = (rack.folder / f"{DEVICE_NO}.log").read_text()
    assert json.loads(recovered.splitlines()[-1])["command"] == command
    assert recovered == (lines or recovered)
    assert consistent(rack.folder)
    controls = IcCardDisk(rack.channel(), pins=None, host_now=lambda: IN_WINDOW).read_control()
    assert is_reported_all(controls, PERIOD) is (command != "VERIFY_FISCAL_PIN")
    assert is_cleared_all(controls, PERIOD) is (command == "UPDATE_CONTROLS")
    lost_a_pin = command == "VERIFY_FISCAL_PIN"
    assert pins.intent_open is lost_a_pin
    assert evidence.holds_pin(rack.folder, DEVICE_NO, pins.pin.value) is not lost_a_pin


def test_a_killed_rack_goes_on_where_it_was_not_where_the_world_file_says(
    rack: RackProcess,
) -> None:
    pins = KeptPins()
    run_month(rack.disk(pins))
    rack.control.swap("S-01", OTHER_NO)
    rack.control.pull("S-02")
    before = evidence.read_state(rack.folder, DEVICE_NO)
    assert rack.end(signal.SIGKILL) == -signal.SIGKILL
    assert rack.socket.exists(), "a killed rack leaves its socket; the next one replaces it"
    rack.restart()
    assert {v.slot: v.device_no for v in list_slots(rack.socket)} == {"S-01": OTHER_NO, "S-02": ""}
    assert evidence.read_state(rack.folder, DEVICE_NO) == before
    rack.control.insert("S-02", DEVICE_NO)
    disk = rack.disk(pins)
    assert is_cleared_all(disk.read_control(), PERIOD)
    assert failure_of(lambda: disk.clear(UNIT, clear_data())).raw_code == "6985"


def test_a_rack_killed_under_an_open_session_is_a_broken_link(rack: RackProcess) -> None:
    channel = rack.channel()
    rack.process.kill()
    rack.process.wait(timeout=90)
    failure = failure_of(lambda: channel.transmit(PINLESS_DECLARE))
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)
    again = failure_of(lambda: channel.transmit(PINLESS_DECLARE))
    assert (again.code, again.outcome_unknown) == (Code.NO_ANSWER, False)


# --- the answer dies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "happened"), [(Mode.LOSE_COMMAND, False), (Mode.LOSE_ANSWER, True)]
)
@pytest.mark.parametrize("command", CHANGING)
def test_a_lost_answer_and_a_lost_command_look_the_same_and_are_told_apart_by_reading(
    rack: RackProcess, mode: Mode, happened: bool, command: str
) -> None:
    disk = rack.disk(KeptPins())
    rack.control.fault(DEVICE_NO, mode, command=command)
    failure = failure_of(lambda: run_month(disk))
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)
    assert evidence.read_state(rack.folder, DEVICE_NO).writes.get(command, 0) == int(happened)


def test_a_garbled_answer_is_in_doubt(rack: RackProcess) -> None:
    disk = rack.disk(KeptPins())
    rack.control.fault(DEVICE_NO, Mode.GARBAGE, command="DECLARE_DUTY", data="00")
    failure = failure_of(lambda: run_month(disk))
    assert (failure.code, failure.outcome_unknown) == (Code.DEVICE_GARBLED, True)
    assert evidence.read_state(rack.folder, DEVICE_NO).declares == 1


def test_a_hang_beyond_the_time_limit_is_no_answer_and_frees_the_disk(rack: RackProcess) -> None:
    rack.control.fault(DEVICE_NO, Mode.HANG_AFTER, command="DECLARE_DUTY", seconds=60)
    channel = rack.channel(timeout=0.5)
    disk = IcCardDisk(channel, pins=KeptPins(), host_now=lambda: IN_WINDOW)
    failure = failure_of(lambda: disk.report(UNIT, PERIOD))
    assert (failure.code, failure.raw_text, failure.outcome_unknown) == (
        Code.NO_ANSWER,
        "TimeoutError",
        True,
    )
    rack.control.wait_until_free(DEVICE_NO)
    reader = IcCardDisk(rack.channel(), pins=None, host_now=lambda: IN_WINDOW)
    assert is_reported_all(reader.read_control(), PERIOD)


def test_a_fault_strikes_where_it_was_set_and_no_further(rack: RackProcess) -> None:
    rack.control.fault(DEVICE_NO, Mode.LOSE_COMMAND, command="READ_RECORD", skip=1)
    rack.control.fault(DEVICE_NO, Mode.LOSE_COMMAND, command="DECLARE_DUTY")
    disk = rack.disk(KeptPins())
    assert failure_of(disk.read_control).code is Code.NO_ANSWER
    assert rack.control.commands(DEVICE_NO)[-2:] == ["READ_RECORD 1", "READ_RECORD 2"]
    rack.control.wait_until_free(DEVICE_NO)
    rack.control.clear_faults(DEVICE_NO)
    run_month(rack.disk(KeptPins()))
    assert evidence.read_state(rack.folder, DEVICE_NO).clears == 1


@pytest.mark.parametrize(
    ("command", "name", "strikes"),
    [
        ("", "SELECT", True),
        ("SELECT", "SELECT EF04", True),
        ("SELECT EF04", "SELECT EF04", True),
        ("SELECT EF04", "SELECT EF03", False),
        ("READ_RECORD 1", "READ_RECORD 12", False),
    ],
)
def test_a_fault_knows_its_command_by_name(command: str, name: str, strikes: bool) -> None:
    fault = Fault(Mode.GARBAGE, command, skip=1, times=1)
    assert not fault.strikes(name)
    assert fault.strikes(name) is strikes
    assert not fault.strikes(name)


# --- the files ------------------------------------------------------------------------------------


def test_a_torn_log_line_is_cut_off_and_written_again(tmp_path: Path) -> None:
    card = card_of()
    store = DiskStore(tmp_path, DEVICE_NO)
    store.create(card.state)
    card.transmit(bytes.fromhex("00A40400065453414D303100"))
    answer = card.transmit(bytes.fromhex("C0F9000008") + FIRST_PIN.encode() + b"\x08")
    assert answer.write is not None
    store.keep(card.state, answer.write)
    log = tmp_path / f"{DEVICE_NO}.log"
    whole = log.read_bytes()
    for kept in range(len(whole)):
        log.write_bytes(whole[:kept])
        assert store.read_log() == [answer.write]
        store.recover()
        assert log.read_bytes() == whole
    log.write_bytes(whole)
    store.recover()
    assert log.read_bytes() == whole


def test_a_log_that_says_more_than_the_state_is_damage(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, DEVICE_NO)
    store.create(card_of().state)
    (tmp_path / f"{DEVICE_NO}.log").write_text('{"n": 1}\n')
    with pytest.raises(StoreDamaged):
        store.recover()
    (tmp_path / f"{DEVICE_NO}.json").write_text("{}")
    with pytest.raises(StoreDamaged):
        store.load()


def test_a_disk_the_rack_never_had_has_no_evidence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        evidence.read_state(tmp_path, DEVICE_NO)
    assert evidence.read_log(tmp_path, DEVICE_NO) == []
    assert evidence.devices_in(tmp_path) == []


def test_a_locked_disk_stays_locked_over_a_restart(short_folder: Path) -> None:
    rack = RackProcess(short_folder, world_of(world_disk(pin="OTHER000")))
    try:
        for left in (2, 1, 0):
            disk = rack.disk(KeptPins())
            assert failure_of(lambda disk=disk: disk.report(UNIT, PERIOD)).tries_left == left  # type: ignore[misc]
            disk.close()
            rack.control.wait_until_free(DEVICE_NO)
        rack.restart()
        failure = failure_of(lambda: rack.disk(KeptPins()).report(UNIT, PERIOD))
        assert (failure.code, failure.raw_code) == (Code.PASSWORD_LOCKED, "6983")
        assert evidence.read_state(rack.folder, DEVICE_NO).tries == 0
        facts = [write.facts for write in evidence.read_log(rack.folder, DEVICE_NO)]
        assert [fact["tries"] for fact in facts] == [2, 1, 0]
    finally:
        rack.end()
