"""The stand-in as a process of its own: the round trip, every fault, kills and restarts."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from clearing.bureau.port import DiskAddress, Filing
from clearing.bureau.session import BureauSession
from clearing.bureau.standin import State, control, read_log, read_state
from devices.drivers.contract import ClearData, ClearRequest, ReportPackage
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from devices.simulator import crypto
from devices.simulator.world import World
from tests.clearing.bureau.world import (
    ALICE,
    ALICES,
    BOBS,
    FEBRUARY,
    IN_THE_WINDOW,
    KEY,
    ROLLS,
    declared,
    make_world,
)

PACKAGE = declared(ALICES, FEBRUARY)
REPORTED = (ALICES.device_no, FEBRUARY)


class Standin:
    """A stand-in process over one directory; it may be killed and started again."""

    def __init__(self, directory: Path, world: World) -> None:
        self.directory = directory
        self._world = directory / "world.json"
        self._port_file = directory / "port"
        self._process: subprocess.Popen[bytes] | None = None
        world.save(self._world)

    def start(self) -> None:
        self._port_file.unlink(missing_ok=True)
        offset = IN_THE_WINDOW.timestamp() - time.time()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "clearing.bureau.standin"),
                *("--world", str(self._world), "--dir", str(self.directory / "state")),
                *("--port-file", str(self._port_file), f"--clock-offset={offset}"),
            ],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        while not self._port_file.exists():
            assert self._process.poll() is None, "the stand-in did not start"
            time.sleep(0.01)

    @property
    def port(self) -> int:
        return int(self._port_file.read_text())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def ended(self) -> int:
        """Wait for it to end by itself; how it ended."""
        assert self._process is not None
        return self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    @property
    def state(self) -> State:
        return read_state(self.directory / "state")

    @property
    def log(self) -> list[tuple[str, str, str]]:
        """Operation, return code and fault of every request so far."""
        entries = read_log(self.directory / "state")
        return [(e["op"], e["code"], e["fault"]) for e in entries if e["op"] != "_control"]

    def session(self, disk: DiskAddress = ALICES, seconds: float = 30) -> BureauSession:
        return BureauSession(self.url, disk, timeout_seconds=seconds)

    def report(self, seconds: float = 30) -> Any:
        with contextlib.closing(self.session(seconds=seconds)) as session:
            return session.report(PACKAGE)

    def clear_data(self) -> ClearData:
        with contextlib.closing(self.session()) as session:
            return session.clear_data(ClearRequest(ROLLS, {"qtxx": "20260228"}), FEBRUARY)

    def confirm(self) -> Any:
        with contextlib.closing(self.session()) as session:
            return session.confirm(ROLLS, FEBRUARY)

    def break_next(self, op: str, mode: str, times: int = 1) -> None:
        control.send(self.url, faults={ALICE: [{"op": op, "mode": mode, "times": times}]})


@pytest.fixture
def bureau(tmp_path: Path) -> Iterator[Standin]:
    standin = Standin(tmp_path, make_world())
    standin.start()
    yield standin
    standin.kill()


def failing(call: Any, *arguments: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        call(*arguments)
    return caught.value


def test_a_month_goes_through_from_report_to_confirm(bureau: Standin) -> None:
    with contextlib.closing(bureau.session()) as session:
        receipt = session.report(PACKAGE)
        assert "模拟" in receipt["text"]
        data = session.clear_data(ClearRequest(ROLLS, {"qtxx": "20260228"}), FEBRUARY)
        crypto.open_clear_data(
            bytes.fromhex(KEY), ALICES.device_no, bytes.fromhex(data.fields["fpjkmw"])
        )
        confirmation = session.confirm(ROLLS, FEBRUARY)
        status = session.status(FEBRUARY)
    assert (status.reported, status.filing, status.cleared) == (True, Filing.FILED, True)
    assert bureau.state.reported()[REPORTED]["025"].serial == receipt["serial"]
    assert bureau.state.confirmed()[REPORTED]["025"].serial == confirmation["serial"]
    assert [op for op, _, _ in bureau.log] == ["WLCB", "QLJS", "QLJSJGQR", "SBZTCX"]


def test_refusals_arrive_as_failures_of_the_catalogue(bureau: Standin) -> None:
    assert failing(bureau.clear_data).code is Code.NOT_REPORTED
    stranger = bureau.session(DiskAddress(ALICES.device_no, "91110000600037341L", 0))
    with contextlib.closing(stranger):
        assert failing(stranger.report, PACKAGE).code is Code.BUREAU_UNKNOWN_TAXPAYER
    bureau.report()
    control.send(bureau.url, filings={ALICE: {"2026-02": "comparison_failed"}})
    assert failing(bureau.clear_data).code is Code.COMPARISON_FAILED
    control.send(bureau.url, filings={ALICE: {"2026-02": "filed"}})
    bureau.clear_data()
    bureau.confirm()
    assert failing(bureau.clear_data).code is Code.ALREADY_CLEARED


def test_the_answer_to_a_report_is_lost_and_the_same_package_gets_it_again(
    bureau: Standin,
) -> None:
    bureau.break_next("WLCB", "lost")
    failure = failing(bureau.report)
    assert failure.code is Code.BUREAU_UNREACHABLE
    assert failure.outcome_unknown
    serial = bureau.state.reported()[REPORTED]["025"].serial
    bureau.restart()
    assert bureau.report()["serial"] == serial
    assert bureau.log == [("WLCB", "0000", "lost"), ("WLCB", "0000", "")]


def test_killed_after_taking_a_report_it_still_has_it(bureau: Standin) -> None:
    bureau.break_next("WLCB", "killed")
    assert failing(bureau.report).outcome_unknown
    assert bureau.ended() == -signal.SIGKILL
    taken = bureau.state.reported()[REPORTED]["025"]
    bureau.start()
    assert bureau.report()["serial"] == taken.serial
    assert bureau.state.reported()[REPORTED]["025"] == taken
    assert bureau.log == [("WLCB", "0000", "killed"), ("WLCB", "0000", "")]


def test_killed_after_handing_out_clear_data_it_hands_them_out_again(bureau: Standin) -> None:
    bureau.report()
    bureau.break_next("QLJS", "killed")
    failure = failing(bureau.clear_data)
    assert failure.code is Code.BUREAU_UNREACHABLE
    assert not failure.outcome_unknown, "asking for clear data changes nothing"
    bureau.ended()
    bureau.start()
    assert bureau.clear_data().fields["fpjkmw"]
    assert bureau.state.record(*REPORTED).issued["025"].times == 2


def test_killed_after_a_confirm_the_repetition_is_a_success(bureau: Standin) -> None:
    bureau.report()
    bureau.clear_data()
    bureau.break_next("QLJSJGQR", "killed")
    assert failing(bureau.confirm).outcome_unknown
    bureau.ended()
    confirmed = bureau.state.confirmed()
    bureau.start()
    assert bureau.confirm()["code"] == "9108"
    assert bureau.state.confirmed() == confirmed


def test_a_timeout_has_no_effect_and_is_used_up(bureau: Standin) -> None:
    bureau.break_next("WLCB", "timeout")
    failure = failing(bureau.report, 0.3)
    assert (failure.code, failure.raw_code) == (Code.BUREAU_UNREACHABLE, "Timeout")
    assert failure.outcome_unknown, "nobody but the bureau can know that nothing happened"
    assert bureau.state.reported() == {}
    bureau.restart()
    bureau.report()


def test_faults_of_the_world_are_used_up_across_restarts(tmp_path: Path) -> None:
    faults = [{"op": "WLCB", "mode": "down", "times": 2}, {"op": "WLCB", "mode": "refuse"}]
    standin = Standin(tmp_path, make_world(faults=faults))
    standin.start()
    try:
        assert failing(standin.report).raw_code == "HTTP 503"
        standin.restart()
        assert failing(standin.report).raw_code == "HTTP 503"
        standin.restart()
        assert failing(standin.report).code is Code.BUREAU_REFUSED
        assert standin.state.reported() == {}
        standin.restart()
        standin.report()
    finally:
        standin.kill()


def test_a_fault_met_by_a_refusal_is_used_up_too(bureau: Standin) -> None:
    bureau.break_next("QLJS", "lost")
    assert failing(bureau.clear_data).code is Code.BUREAU_UNREACHABLE
    bureau.restart()
    assert failing(bureau.clear_data).code is Code.NOT_REPORTED


def test_a_fault_hits_its_own_taxpayer_and_operation_only(bureau: Standin) -> None:
    bureau.break_next("QLJS", "down")
    bureau.report()
    with contextlib.closing(bureau.session(BOBS)) as bob:
        bob.report(declared(BOBS, FEBRUARY))
        bob.clear_data(ClearRequest(ROLLS, {}), FEBRUARY)
    assert failing(bureau.clear_data).raw_code == "HTTP 503"
    bureau.clear_data()


def test_garbage_comes_after_the_act(bureau: Standin) -> None:
    bureau.break_next("WLCB", "garbage")
    failure = failing(bureau.report)
    assert failure.code is Code.BUREAU_GARBLED
    assert failure.outcome_unknown
    assert REPORTED in bureau.state.reported()


@pytest.mark.parametrize(
    ("mode", "code", "raw_code"),
    [
        ("down", Code.BUREAU_UNREACHABLE, "HTTP 503"),
        ("maintenance", Code.BUREAU_UNREACHABLE, "9901"),
        ("garbage", Code.BUREAU_GARBLED, ""),
    ],
)
def test_a_mode_lasts_over_a_restart_until_it_is_taken_back(
    bureau: Standin, mode: str, code: Code, raw_code: str
) -> None:
    control.send(bureau.url, modes={mode: True})
    bureau.restart()
    failure = failing(bureau.report)
    assert (failure.code, failure.raw_code) == (code, raw_code)
    control.send(bureau.url, modes={mode: False})
    bureau.report()


def test_a_relay_that_repeats_every_request_clears_once(bureau: Standin) -> None:
    control.send(bureau.url, modes={"double": True})
    bureau.report()
    bureau.clear_data()
    assert bureau.confirm()["code"] == "9108"
    assert [(op, code) for op, code, _ in bureau.log] == [
        ("WLCB", "0000"),
        ("WLCB", "0000"),
        ("QLJS", "0000"),
        ("QLJS", "0000"),
        ("QLJSJGQR", "0000"),
        ("QLJSJGQR", "9108"),
    ]


def test_a_slow_bureau_is_given_up_by_the_callers_limit(bureau: Standin) -> None:
    control.send(bureau.url, modes={"slow_ms": 60_000})
    assert failing(bureau.report, 0.3).raw_code == "Timeout"
    control.send(bureau.url, modes={"slow_ms": 0})
    bureau.report()


def test_a_second_fault_waits_behind_the_first(bureau: Standin) -> None:
    bureau.break_next("WLCB", "down")
    bureau.break_next("WLCB", "refuse")
    assert failing(bureau.report).raw_code == "HTTP 503"
    assert failing(bureau.report).raw_code == "9199"
    bureau.report()


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": {}},
        {"modes": {"sleepy": True}},
        {"modes": {"down": 1}},
        {"modes": {"slow_ms": -1}},
        {"modes": ["down"]},
        {"faults": {ALICE: [{"op": "WLCB", "mode": "sulk"}]}},
        {"faults": {ALICE: [{"op": "SJCB", "mode": "lost"}]}},
        {"faults": {ALICE: [{"op": "WLCB", "mode": "lost", "times": 0}]}},
        {"faults": {"nobody": []}},
        {"filings": {ALICE: {"2026-02": "perhaps"}}},
        {"filings": {ALICE: {"2026-13": "filed"}}},
        {"filings": {"nobody": {"2026-02": "filed"}}},
    ],
)
def test_a_change_that_means_nothing_changes_nothing(
    bureau: Standin, changes: dict[str, Any]
) -> None:
    both = {"modes": {"maintenance": True}, **changes}
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        control.send(bureau.url, **both)
    assert bureau.state == State()
    bureau.report()


def test_only_this_machine_and_no_web_page_can_change_it(bureau: Standin) -> None:
    page = httpx.post(
        bureau.url + "_control",
        content=b'{"modes": {"down": true}}',
        headers={"Content-Type": "text/plain"},
        trust_env=False,
    )
    assert page.status_code == 415
    bureau.report()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", bureau.port))


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({}, b"<html/>", 400),
        ({"Content-Length": "2000000"}, b"", 413),
        ({"Transfer-Encoding": "chunked"}, b"0\r\n\r\n", 411),
    ],
)
def test_what_is_no_document_is_turned_away(
    bureau: Standin, headers: dict[str, str], content: bytes, status: int
) -> None:
    fields = headers or {"Content-Length": str(len(content))}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection(("127.0.0.1", bureau.port)) as connection:
        connection.sendall(f"POST / HTTP/1.1\r\n{head}\r\n".encode() + content)
        answer = connection.recv(1000)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    bureau.report()


def test_reports_handed_in_at_once_are_all_on_record(bureau: Standin) -> None:
    packages = [
        (disk, declared(disk, Month(2026, month)))
        for disk in (ALICES, BOBS)
        for month in range(2, 10)
    ]

    def hand_in(disk: DiskAddress, package: ReportPackage) -> None:
        with contextlib.closing(bureau.session(disk)) as session:
            session.report(package)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(hand_in, *handed) for handed in packages]:
            done.result()
    assert bureau.state.reported().keys() == {(d.device_no, p.period) for d, p in packages}
    log = read_log(bureau.directory / "state")
    assert [entry["seq"] for entry in log] == list(range(1, len(packages) + 1))
