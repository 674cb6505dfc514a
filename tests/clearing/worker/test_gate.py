"""The gate between who writes a disk and who restarts what the disks hang on."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clearing.worker.gate import Gate


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def never() -> bool:
    return False


def test_nobody_writes_and_the_gate_closes_at_once(gate: Gate) -> None:
    with gate.closed(0.0, never) as alone:
        assert alone
        assert gate.pass_through("A-01") is None
    passage = gate.pass_through("A-01")
    assert passage is not None
    passage.leave()


def test_it_does_not_close_on_somebody(gate: Gate, tmp_path: Path) -> None:
    passage = gate.pass_through("盘位 1")
    assert passage is not None
    assert Gate(tmp_path).writing() == ["盘位 1"]
    with gate.closed(0.05, never) as alone:
        assert not alone
    passage.leave()
    passage.leave()  # twice is once
    assert gate.writing() == []
    with gate.closed(0.0, never) as alone:
        assert alone


def test_several_write_at_a_time(gate: Gate) -> None:
    first, second = gate.pass_through("A-01"), gate.pass_through("A-02")
    assert first is not None and second is not None
    assert gate.writing() == ["A-01", "A-02"]


def test_while_one_waits_to_close_nobody_begins(gate: Gate) -> None:
    """Else a busy machine would never come to the end of its writing."""
    inside = gate.pass_through("A-01")
    assert inside is not None
    waiting, closed = threading.Event(), threading.Event()

    def asked() -> bool:
        waiting.set()
        return False

    def close() -> None:
        with gate.closed(20.0, asked) as alone:
            assert alone
            closed.set()

    thread = threading.Thread(target=close)
    thread.start()
    assert waiting.wait(90)
    assert gate.pass_through("A-02") is None
    assert not closed.is_set()
    inside.leave()
    thread.join(20)
    assert closed.is_set()
    assert gate.pass_through("A-02") is not None


def test_who_dies_while_writing_is_not_waited_for(gate: Gate, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from clearing.worker.gate import Gate\n"
        f"held = Gate(Path({str(tmp_path)!r})).pass_through('A-01')\n"
        "print('writing', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        assert gate.writing() == ["A-01"]
        process.kill()
    with gate.closed(0.0, never) as alone:
        assert alone


def test_only_one_closes_it(gate: Gate, tmp_path: Path) -> None:
    with gate.closed(0.0, never) as alone, Gate(tmp_path).closed(0.05, never) as another:
        assert alone and not another


def test_who_gives_up_stops_waiting(gate: Gate) -> None:
    assert gate.pass_through("A-01") is not None
    with gate.closed(1000.0, lambda: True) as alone:
        assert not alone
