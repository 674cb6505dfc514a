"""Redis emptied and PostgreSQL stopped and started in mid-batch: nothing lost, nothing twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis

from deploy.demonstration.scenario import clients
from tests.reliability.month import MonthUnderTest, report

DISKS = 9


def wait_finished(month: MonthUnderTest, count: int) -> None:
    end = time.monotonic() + 120
    while month.finished() < count:
        assert time.monotonic() < end, f"{count} runs do not end"
        time.sleep(0.05)


@pytest.mark.timeout(400)
def test_redis_emptied_and_postgresql_restarted_in_mid_batch_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    month = MonthUnderTest(tmp_path / "m", clients()[:DISKS])
    with month.stack as stack:
        stack.start()
        month.wait_present(90)
        month.press()
        with redis.Redis.from_url(stack.valkey.url) as client:
            assert client.dbsize() > 0  # what is lost are bells and the sweeper's messages
            client.flushall()
        wait_finished(month, 1)
        stack.postgres.stop()
        stack.postgres.start()
        with redis.Redis.from_url(stack.valkey.url) as client:
            client.flushall()
        assert not month.settled(), "the batch was over before the accidents"
        month.wait_settled(240)
        stack.check()  # web, bureau and the sweeper are still those of the start
        with capsys.disabled():
            print(report(month, 0))
        assert month.violations() == []
        assert any(run.state == "done" for run in month.runs())
