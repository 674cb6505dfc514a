"""How long a permission lasts, and the clocks it is counted on."""

from __future__ import annotations

import datetime as dt
import time

import pytest

from clearing.stages import Denied
from clearing.wire import Denial
from clearing.worker import steady as steady_module
from clearing.worker.grant import Grant
from clearing.worker.steady import OrderClock, ServerClock, steady


class Hand:
    """A clock that is moved by hand."""

    at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_a_permission_counts_from_before_it_was_asked() -> None:
    clock = Hand()
    grant = Grant(clock)
    asked_at = clock()
    clock.at += 25.0  # the answer took its time
    grant.take(asked_at, 90.0)
    assert grant.remaining() == 65.0


def test_a_command_needs_all_of_its_own_limit() -> None:
    clock = Hand()
    grant = Grant(clock)
    grant.take(clock(), 90.0)
    clock.at += 30.0
    grant.check(60.0)
    clock.at += 0.001
    with pytest.raises(Denied) as caught:
        grant.check(60.0)
    assert caught.value.denial == Denial.LEASE_LOST


@pytest.mark.parametrize("needed", [0.0, 1.0])
def test_no_permission_permits_nothing(needed: float) -> None:
    grant = Grant(Hand())
    with pytest.raises(Denied):
        grant.check(needed)
    grant.take(0.0, 10_000.0)
    grant.drop()
    with pytest.raises(Denied):
        grant.check(needed)


def test_the_steady_clock_goes_on_while_the_machine_sleeps() -> None:
    if steady_module._BOOTTIME is None:
        pytest.skip("this system has no such clock")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= steady() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_the_order_s_time_goes_on_from_its_arrival() -> None:
    clock = OrderClock("2026-03-10T01:30:00+00:00", steady() - 60.0)
    now = clock.now()
    assert now.utcoffset() == dt.timedelta(hours=8)
    assert now >= dt.datetime.fromisoformat("2026-03-10T09:31:00+08:00")


def test_a_wall_clock_set_after_the_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ServerClock()
    assert clock.difference() is None
    clock.saw(dt.datetime.now(dt.UTC))
    before = clock.difference()
    assert before is not None and abs(before) < 5.0

    real = time.time
    monkeypatch.setattr("clearing.worker.steady.time.time", lambda: real() + 600.0)
    after = clock.difference()
    assert after is not None and -605.0 < after < -595.0
