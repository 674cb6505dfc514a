"""Accidents with real pcscd: pulls, swaps, hangs, other programs, daemons that die."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest

from devices.drivers import pcsc_codes
from devices.drivers.ic_card import UNIT
from devices.drivers.pcsc_channel import PcscChannel
from devices.drivers.pcsc_service import PcscService
from devices.protocol.control import is_cleared_all, is_reported_all
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import Application, select_application
from devices.simulator import evidence
from devices.simulator.rack_faults import Mode
from tests.devices.cards import PERIOD, KeptPins, clear_data
from tests.devices.pcsc.desk import Desk, failure_of, number, slot, until

SELECT = select_application(Application.FISCAL).encode()

#: Long enough that no test waits for its end.
FOR_EVER = 60.0


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# --- pulled and swapped --------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "took"), [(Mode.HANG_BEFORE, 0), (Mode.HANG_AFTER, 1)])
def test_a_disk_pulled_in_mid_declaration_is_in_doubt_and_read_again(
    desk: Desk, mode: Mode, took: int
) -> None:
    pins = KeptPins()
    disk = desk.disk(pins=pins)
    desk.control.fault(number(1), mode, command="DECLARE_DUTY", seconds=FOR_EVER)
    failures: list[Failure] = []
    thread = threading.Thread(
        target=lambda: failures.append(failure_of(lambda: disk.report(UNIT, PERIOD)))
    )
    thread.start()
    desk.control.wait_until_hanging(number(1))
    desk.control.pull(slot(1))
    thread.join(10)
    assert (failures[0].code, failures[0].outcome_unknown) == (Code.NO_ANSWER, True)
    assert failures[0].raw_code == "0x00000000"  # "hresult 0"
    assert not failure_of(disk.identify).outcome_unknown
    disk.close()
    desk.wait_seen(1, present=False)
    assert failure_of(lambda: desk.channel(1)).code is Code.DISK_ABSENT

    desk.control.insert(slot(1), number(1))
    desk.wait_seen(1)
    again = desk.disk(pins=pins)
    assert is_reported_all(again.read_control(), PERIOD) is bool(took)
    if not took:
        again.report(UNIT, PERIOD)
        assert is_reported_all(again.read_control(), PERIOD)
    assert evidence.read_state(desk.folder, number(1)).declares == 1


def test_a_disk_pulled_while_it_is_read_is_no_doubt(desk: Desk) -> None:
    disk = desk.disk()
    disk.identify()
    desk.control.pull(slot(1))
    failure = failure_of(disk.read_control)
    assert failure.code in (Code.NO_ANSWER, Code.DISK_ABSENT)
    assert not failure.outcome_unknown
    # What a reader says in the second after a pull, in this order.
    assert failure.raw_code in ("0x00000000", "0x80100016", "0x80100069")


def test_disks_swapped_in_mid_clear_never_get_each_others_data(desk: Desk) -> None:
    """tmkms#173: after a reconnect, who is there must be asked again before anything is written."""
    pins = KeptPins()
    disk = desk.disk(pins=pins)
    disk.report(UNIT, PERIOD)
    desk.control.fault(number(1), Mode.HANG_BEFORE, command="UPDATE_CONTROLS", seconds=FOR_EVER)
    failures: list[Failure] = []
    data = clear_data(device_no=number(1))
    thread = threading.Thread(
        target=lambda: failures.append(failure_of(lambda: disk.clear(UNIT, data)))
    )
    thread.start()
    desk.control.wait_until_hanging(number(1))
    desk.control.swap(slot(1), number(2))
    thread.join(10)
    assert failures[0].outcome_unknown
    failure_of(disk.read_control)  # the channel ended with its card
    disk.close()

    until(lambda: _device_in(desk, 1) == number(2))
    until(lambda: _device_in(desk, 2) == number(1))
    moved = desk.disk(2, pins)
    assert not is_cleared_all(moved.read_control(), PERIOD)
    moved.clear(UNIT, data)
    assert is_cleared_all(moved.read_control(), PERIOD)
    assert evidence.read_state(desk.folder, number(1)).clears == 1
    assert evidence.read_log(desk.folder, number(2)) == []


def _device_in(desk: Desk, place: int) -> str:
    try:
        disk = desk.disk(place)
    except Failure:
        return ""
    try:
        return disk.identify().device_no
    except Failure:
        return ""
    finally:
        disk.close()


def test_a_channel_does_not_go_on_with_the_next_disk(desk: Desk) -> None:
    channel = desk.channel()
    channel.transmit(SELECT)
    desk.control.swap(slot(1), number(2))
    failure = failure_of(lambda: channel.transmit(SELECT))
    assert failure.code in (Code.NO_ANSWER, Code.DISK_ABSENT)
    desk.wait_seen(1, 2)
    assert failure_of(lambda: channel.transmit(SELECT)).detail == "closed"
    assert desk.control.commands(number(2)) == []


# --- the daemon ----------------------------------------------------------------------------------


def test_a_daemon_killed_in_mid_clear_leaves_doubt_and_new_objects_work(desk: Desk) -> None:
    """pyscard#27: objects of before a restart of pcscd never recover; new ones must."""
    pins = KeptPins()
    disk = desk.disk(pins=pins)
    disk.report(UNIT, PERIOD)
    desk.control.fault(number(1), Mode.HANG_AFTER, command="UPDATE_CONTROLS", seconds=FOR_EVER)
    failures: list[Failure] = []
    thread = threading.Thread(
        target=lambda: failures.append(
            failure_of(lambda: disk.clear(UNIT, clear_data(device_no=number(1))))
        )
    )
    thread.start()
    desk.control.wait_until_hanging(number(1))
    desk.virtual.kill(0)
    thread.join(10)
    failure = failures[0]
    assert (failure.code, failure.raw_code) == (Code.NO_ANSWER, "0x80100013")
    assert failure.outcome_unknown
    disk.close()

    desk.virtual.start(0)
    desk.wait_seen(1)
    again = desk.disk()
    assert is_cleared_all(again.read_control(), PERIOD)
    assert evidence.read_state(desk.folder, number(1)).clears == 1


def test_a_daemon_killed_between_two_commands_ends_the_channel_only(desk: Desk) -> None:
    channel = desk.channel()
    channel.transmit(SELECT)
    desk.virtual.kill(0)
    failure = failure_of(lambda: channel.transmit(SELECT))
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, False)
    assert int(failure.raw_code, 16) in pcsc_codes.SERVICE_GONE
    channel.close()

    restart = threading.Timer(0.5, desk.virtual.start, [0])
    restart.start()
    assert desk.channel().transmit(SELECT)[-2:] == b"\x90\x00"
    restart.join()


def test_without_a_daemon_an_open_ends_within_its_bound(desk: Desk) -> None:
    desk.virtual.kill(0)
    began = time.monotonic()
    failure = failure_of(lambda: desk.channel(wait=0.5))
    assert (failure.code, failure.raw_code) == (Code.NO_ANSWER, "0x8010001D")
    assert time.monotonic() - began < 2


# --- other programs ------------------------------------------------------------------------------

_OTHER = """
context = service.establish()
shared = argv[1] != "exclusive"
result, card, _ = scard.SCardConnect(
    context, argv[0], scard.SCARD_SHARE_SHARED if shared else scard.SCARD_SHARE_EXCLUSIVE, 3
)
assert result == 0, hex(result)
if argv[1] == "transaction":
    assert scard.SCardBeginTransaction(card) == 0
say("has it")
sys.stdin.readline()
if argv[1] == "transaction":
    scard.SCardEndTransaction(card, scard.SCARD_LEAVE_CARD)
scard.SCardDisconnect(card, scard.SCARD_LEAVE_CARD)
"""


@pytest.mark.parametrize("how", ["exclusive", "transaction", "shared"])
def test_a_disk_that_another_program_has_is_in_use_and_does_not_block(desk: Desk, how: str) -> None:
    """PCSC#215: another program holds the reader; the user must be told so, not "failed"."""
    other = desk.client(_OTHER, desk.reader(1), how)
    assert read_line(other) == "has it"
    began = time.monotonic()
    failure = failure_of(lambda: desk.channel(wait=0.5))
    assert time.monotonic() - began < 1.5
    assert (failure.code, failure.raw_code) == (Code.DISK_IN_USE, "0x8010000B")
    assert desk.channel(2).transmit(SELECT)[-2:] == b"\x90\x00"

    letting_go = threading.Timer(0.5, other.communicate, ["\n"])
    letting_go.start()
    assert desk.channel().transmit(SELECT)[-2:] == b"\x90\x00"
    letting_go.join()


def test_nobody_gets_between_an_open_channel_and_its_disk(desk: Desk) -> None:
    channel = desk.channel()
    other = desk.client(
        "print(hex(scard.SCardConnect(service.establish(), argv[0], 2, 3)[0] & 0xffffffff))",
        desk.reader(1),
    )
    assert other.communicate()[0].strip() == "0x8010000b"
    assert channel.transmit(SELECT)[-2:] == b"\x90\x00"


_CAUGHT = """
PcscChannel._look = lambda self, context: say("connects")  # it looked just before
PcscChannel(argv[0], service=service)
say("connected")
"""


def test_one_caught_behind_a_transaction_is_killed_and_blocks_nobody(desk: Desk) -> None:
    """The gap between look and connect: PC/SC blocks without limit, a SIGKILL frees."""
    other = desk.client(_OTHER, desk.reader(1), "transaction")
    assert read_line(other) == "has it"
    caught = desk.client(_CAUGHT, desk.reader(1))
    assert read_line(caught) == "connects"
    with pytest.raises(subprocess.TimeoutExpired):
        caught.wait(0.5)
    assert desk.channel(2).transmit(SELECT)[-2:] == b"\x90\x00"
    caught.kill()
    assert caught.wait(60) != 0
    other.communicate("\n")
    assert desk.channel().transmit(SELECT)[-2:] == b"\x90\x00"


# --- a card that hangs ---------------------------------------------------------------------------

_REPORTS = """
disk = IcCardDisk(
    PcscChannel(argv[0], service=service), pins=KeptPins(), host_now=lambda: IN_WINDOW
)
say("reports")
disk.report(UNIT, PERIOD)
"""


def test_a_hung_cards_process_is_killed_and_nobody_opens_it_until_it_answers(desk: Desk) -> None:
    desk.control.fault(number(1), Mode.HANG_BEFORE, command="DECLARE_DUTY", seconds=4)
    client = desk.client(_REPORTS, desk.reader(1))
    assert read_line(client) == "reports"
    desk.control.wait_until_hanging(number(1))
    began = time.monotonic()
    client.kill()
    client.wait()
    assert time.monotonic() - began < 1

    # The reader is shut as long as its card hangs; its neighbour, in the same driver, is not.
    assert failure_of(lambda: desk.channel(wait=0.3)).code is Code.DISK_IN_USE
    neighbour = desk.disk(2, KeptPins())
    began = time.monotonic()
    neighbour.report(UNIT, PERIOD)
    neighbour.clear(UNIT, clear_data(device_no=number(2)))
    assert time.monotonic() - began < 1
    (view,) = desk.views()
    shown = {reader.name: reader for reader in view.readers}
    assert shown[desk.reader(1)].in_use

    # The command was in the card already: only a read can tell.
    until(lambda: _device_in(desk, 1) == number(1))
    assert is_reported_all(desk.disk().read_control(), PERIOD)
    assert evidence.read_state(desk.folder, number(1)).declares == 1


# --- no pyscard, no right ------------------------------------------------------------------------


def test_results_have_a_failure_each_and_the_raw_code_with_it() -> None:
    expected = {
        pcsc_codes.NO_SMARTCARD: Code.DISK_ABSENT,
        0x80100069: Code.DISK_ABSENT,
        pcsc_codes.UNKNOWN_READER: Code.DISK_ABSENT,
        pcsc_codes.READER_UNAVAILABLE: Code.DISK_ABSENT,
        pcsc_codes.NO_READERS: Code.DISK_ABSENT,
        pcsc_codes.SHARING_VIOLATION: Code.DISK_IN_USE,
        pcsc_codes.NOT_TRANSACTED: Code.NO_ANSWER,
        pcsc_codes.COMM_DATA_LOST: Code.NO_ANSWER,
        pcsc_codes.COMM_ERROR: Code.NO_ANSWER,
        pcsc_codes.NO_SERVICE: Code.NO_ANSWER,
        pcsc_codes.SERVICE_STOPPED: Code.NO_ANSWER,
        0x80100066: Code.NO_ANSWER,
        0x80100068: Code.NO_ANSWER,
        pcsc_codes.SECURITY_VIOLATION: Code.MACHINE_FAULT,
        pcsc_codes.PROTO_MISMATCH: Code.FOREIGN_CARD,
        0x801000FF: Code.DEVICE_REFUSED,
    }
    for result, code in expected.items():
        signed = result - (1 << 32)  # as some builds of pyscard hand them out
        for value in (result, signed):
            failure = pcsc_codes.failure_of(value, outcome_unknown=True)
            assert (failure.code, failure.raw_code) == (code, f"0x{result:08X}")
            assert failure.outcome_unknown


def test_without_pyscard_a_machine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "smartcard", None)
    failure = failure_of(lambda: PcscChannel("x", service=PcscService()))
    assert (failure.code, failure.detail) == (Code.MACHINE_FAULT, "pyscard")
