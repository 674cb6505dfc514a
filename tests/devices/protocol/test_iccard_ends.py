"""Dates at the end of the calendar: refused as garbled, never a crash."""

from __future__ import annotations

import datetime as dt

import pytest

from devices.protocol.failures import Code, Failure
from devices.protocol.iccard_layouts import open_start


@pytest.mark.parametrize("valid_from", [dt.date(9999, 1, 1), dt.date.max])
def test_an_open_period_no_month_can_follow_is_garbled(valid_from: dt.date) -> None:
    with pytest.raises(Failure) as refused:
        open_start([], valid_from)
    assert refused.value.code is Code.DEVICE_GARBLED


def test_the_last_year_that_can_be_is_taken() -> None:
    assert open_start([], dt.date(9998, 12, 1)) == dt.date(9998, 12, 1)
