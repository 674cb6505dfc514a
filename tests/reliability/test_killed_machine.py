"""kill −9 of a reader machine in mid-batch: every disk right, none cleared twice, none lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deploy.demonstration.scenario import clients
from tests.reliability.month import MonthUnderTest, report

KILLS = 4


@pytest.mark.timeout(300)
def test_a_killed_reader_machine_loses_no_disk_and_clears_none_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    month = MonthUnderTest(tmp_path / "m", clients()[:20])
    with month.stack as stack:
        stack.start()
        month.wait_present()
        month.press()
        for number in range(KILLS):
            name = stack.machines[number % 2]
            before = month.finished()
            end = time.monotonic() + 15
            while month.finished() == before and time.monotonic() < end:
                time.sleep(0.05)  # in the middle of the work, not before it
            stack.kill_machine(name)
            stack.start_machine(name)
        month.wait_settled(150)
        with capsys.disabled():
            print(report(month, KILLS))
        assert month.violations() == []
        assert any(run.state == "done" for run in month.runs())
