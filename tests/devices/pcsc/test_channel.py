"""A month through real pcscd, and a connection: exclusive, left as it is, of one owner."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from devices.drivers.ic_card import UNIT
from devices.drivers.pcsc_channel import PcscChannel
from devices.drivers.pcsc_service import PcscService
from devices.protocol.control import is_cleared_all, is_reported_all
from devices.protocol.failures import Code
from devices.protocol.iccard import Application, FileId, select_application, select_file
from devices.simulator import crypto, evidence
from devices.simulator.rack_faults import Mode
from devices.simulator.vpcd import FISCAL_ATR, FOREIGN_ATR
from tests.devices.cards import KEY, PERIOD, KeptPins, clear_data
from tests.devices.pcsc.desk import Desk, failure_of, foreign_card, number

SELECT = select_application(Application.FISCAL).encode()
SELECT_EF01 = select_file(FileId.CONTROL).encode()


def test_a_month_is_reported_and_cleared_through_pcscd(desk: Desk) -> None:
    disk = desk.disk(pins=KeptPins())
    assert disk.identify().device_no == number(1)
    package = disk.report(UNIT, PERIOD)
    declared, answer = (bytes.fromhex(package.fields[name]) for name in ("fphz", "qtxx"))
    assert crypto.verify_declaration(KEY, number(1), declared, answer).end == PERIOD.last
    assert is_reported_all(disk.read_control(), PERIOD)
    assert disk.export()
    disk.clear(UNIT, clear_data(device_no=number(1)))
    assert is_cleared_all(disk.read_control(), PERIOD)
    disk.close()

    found = evidence.read_state(desk.folder, number(1))
    assert (found.declares, found.clears, found.pin_generation) == (1, 1, 2)


def test_a_closed_channel_says_so_and_closes_twice(desk: Desk) -> None:
    channel = desk.channel()
    channel.close()
    channel.close()
    failure = failure_of(lambda: channel.transmit(SELECT))
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, False)


def test_the_card_is_left_as_it_is_and_reset_only_on_purpose(desk: Desk) -> None:
    first = desk.channel()
    assert first.transmit(SELECT)[-2:] == b"\x90\x00"
    first.close()
    second = desk.channel()
    assert second.transmit(SELECT_EF01)[-2:] == b"\x90\x00"  # still selected
    second.close(reset=True)
    assert desk.channel().transmit(SELECT_EF01)[-2:] == b"\x6a\x82"


def test_a_newer_connection_is_not_reset_by_an_older_one(desk: Desk) -> None:
    """pyscard's own connections do that when they are garbage collected."""
    old = desk.channel()
    old.close()
    new = desk.channel()
    new.transmit(SELECT)
    del old
    assert new.transmit(SELECT_EF01)[-2:] == b"\x90\x00"


def test_an_empty_reader_is_disk_absent_at_once(desk: Desk) -> None:
    began = time.monotonic()
    failure = failure_of(lambda: desk.channel(3))
    assert (failure.code, failure.raw_code) == (Code.DISK_ABSENT, "0x8010000C")
    assert time.monotonic() - began < 1


def test_a_reader_that_is_not_there_is_disk_absent(desk: Desk) -> None:
    failure = failure_of(lambda: PcscChannel("no such reader", service=desk.service))
    assert (failure.code, failure.raw_code) == (Code.DISK_ABSENT, "0x80100009")


def test_a_process_has_one_daemon(desk: Desk, tmp_path: Path) -> None:
    desk.channel()
    failure = failure_of(lambda: PcscChannel("x", service=PcscService(tmp_path / "other")))
    assert failure.code is Code.MACHINE_FAULT


def test_a_month_on_a_card_that_speaks_t0(desk: Desk) -> None:
    """No Le beside data, every answer announced and fetched."""
    host_port = str(desk.virtual.slots[2].port)
    command = [sys.executable, "-m", "tests.devices.pcsc.fresh_cards", host_port, "--t0"]
    with subprocess.Popen(desk.virtual.inside(command), stdin=subprocess.PIPE) as card:
        desk.wait_seen(3)
        disk = desk.disk(3, KeptPins())
        disk.report(UNIT, PERIOD)
        assert is_reported_all(disk.read_control(), PERIOD)
        disk.clear(UNIT, clear_data())
        assert is_cleared_all(disk.read_control(), PERIOD)
        disk.close()
        card.kill()


def test_the_bench_measures() -> None:
    command = [sys.executable, "-m", "tests.bench.pcsc_overhead"]
    command += ["--delay-ms", "1", "--repeat", "1", "--readers", "2"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.split(":")[0] for line in said.splitlines()] == [
        "card",
        "month",
        "clear",
        "2 readers at once against one",
    ]


# --- foreign cards -------------------------------------------------------------------------------


def test_a_card_with_another_atr_is_named_and_sent_nothing(desk: Desk, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with foreign_card(desk, 3, log):
        failure = failure_of(lambda: desk.channel(3, only_atrs=[FISCAL_ATR]))
    assert failure.code is Code.FOREIGN_CARD
    assert failure.detail == f"ATR {FOREIGN_ATR.hex().upper()}"
    assert not log.exists()


def test_a_card_without_our_application_is_foreign_and_only_asked(
    desk: Desk, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with foreign_card(desk, 3, log):
        pins = KeptPins()
        disk = desk.disk(3, pins)
        for action in (disk.identify, lambda: disk.report(UNIT, PERIOD), disk.read_control):
            assert failure_of(action).code is Code.FOREIGN_CARD
    assert set(log.read_text().split()) == {SELECT.hex()}
    assert pins.calls == []


def test_our_atr_is_taken(desk: Desk) -> None:
    assert desk.channel(1, only_atrs=[FISCAL_ATR]).transmit(SELECT)


# --- garbage -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", ["", "90", "9000", "DEADBEEF", "FF" * 257 + "00" * 2, "00" * 60000]
)
def test_garbage_is_a_failure_of_the_catalogue(desk: Desk, data: str) -> None:
    desk.control.fault(number(1), Mode.GARBAGE, command="READ_BINARY", data=data)
    assert failure_of(desk.disk().identify).code in (Code.DEVICE_GARBLED, Code.NO_ANSWER)


def test_garbage_in_answer_to_a_change_is_in_doubt(desk: Desk) -> None:
    desk.control.fault(number(1), Mode.GARBAGE, command="DECLARE_DUTY", data="00" * 300)
    failure = failure_of(lambda: desk.disk(pins=KeptPins()).report(UNIT, PERIOD))
    assert (failure.code, failure.outcome_unknown) == (Code.DEVICE_GARBLED, True)
    assert evidence.read_state(desk.folder, number(1)).declares == 1


# --- forks ---------------------------------------------------------------------------------------

_FORK = """
one = PcscChannel(argv[0], service=service)
one.transmit(SELECT)
child = os.fork()
if child == 0:
    try:
        one.transmit(SELECT)
    except Failure as failure:
        say("inherited:", failure.code)
    one.close()
    two = PcscChannel(argv[1], service=service)
    say("new:", two.transmit(SELECT)[-2:].hex())
    two.close()
    os._exit(0)
os.waitpid(child, 0)
say("parent:", one.transmit(bytes.fromhex("00a4000002ef0100"))[-2:].hex())
"""


def test_a_fork_makes_its_own_context_and_leaves_its_parents_alone(desk: Desk) -> None:
    said, _ = desk.client(_FORK, desk.reader(1), desk.reader(2)).communicate(timeout=20)
    assert said.splitlines() == ["inherited: no_answer", "new: 9000", "parent: 9000"]
