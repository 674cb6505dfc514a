"""kill −9 around a PIN roll: no PIN is lost, but in the stated window, and that one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from clearing.worker.pinbook import PinEntry, PinState
from tests.reliability.pin_kills import machine, run

KILLS = 60


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.timeout(600)
def test_no_kill_loses_a_pin(capsys: pytest.CaptureFixture[str]) -> None:
    count = run(KILLS, seed=1)
    with capsys.disabled():
        print(count.text())
    assert count.violations == []
    assert count.runs == KILLS
    # It was killed where it matters: before, inside and after the window.
    assert any(end.startswith("in the window") for end in count.ends)
    assert {"known to the server (0 rolls)", "known to the server (1 rolls)"} <= set(count.ends)


def test_a_lost_pin_would_be_found() -> None:
    with machine(1) as trial:
        order = trial.fresh()
        trial.child(order).finish()
        for fact in trial.house.server.pins_of(order.attempt):
            fact["pin"] = "00" * 8
        _, wrong = trial.look(order)
    assert "the PIN is lost: the server's is not the card's" in wrong


def test_a_window_that_nobody_is_told_of_would_be_found() -> None:
    with machine(1) as trial:
        order = trial.fresh()
        window = PinEntry(
            PinState.OPEN, 1, b"00000000", order.run_id, "of an attempt without a log"
        )
        trial.house.journal.pins.put(order.device_no, window)
        _, wrong = trial.look(order)
    assert wrong == [
        "an open window that the server was not told of",
        "the card never rolled, and its PIN is not kept",
    ]
