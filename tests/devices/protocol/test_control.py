"""The state rule of domain.md §3, at the edges of months, and the JSON that carries its data."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol.control import (
    BEIJING,
    ControlData,
    DeviceState,
    device_state,
    device_view,
    from_json,
    is_cleared,
    is_cleared_all,
    is_reported,
    is_reported_all,
    open_period,
    to_json,
)
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

D = dt.date
PERIOD = Month(2026, 2)  # its window is March 2026


FIRST, LAST, DEADLINE = D(2026, 2, 1), D(2026, 2, 28), D(2026, 3, 16)


def control(
    deadline: dt.date = DEADLINE,
    reported_on: dt.date | None = FIRST,
    invoice_type: str = "025",
    start: dt.date = FIRST,
    end: dt.date = LAST,
) -> ControlData:
    return ControlData(invoice_type, deadline, start, end, reported_on)


def at(year: int, month: int, day: int, hour: int = 9, minute: int = 0) -> dt.datetime:
    return dt.datetime(year, month, day, hour, minute, tzinfo=BEIJING)


@pytest.mark.parametrize(
    ("reported_on", "expected"),
    [
        (None, False),
        (D(2026, 2, 28), False),
        (D(2026, 3, 1), True),
        (D(2026, 3, 31), True),
        (D(2026, 4, 1), True),
    ],
)
def test_a_period_is_reported_from_the_first_day_of_its_window_on(
    reported_on: dt.date | None, expected: bool
) -> None:
    assert is_reported(control(reported_on=reported_on), PERIOD) is expected


@pytest.mark.parametrize(
    ("deadline", "reported_on", "expected"),
    [
        (D(2026, 3, 31), D(2026, 3, 1), False),  # moved within the window's month: an extension
        (D(2026, 4, 1), D(2026, 3, 1), True),
        (D(2026, 4, 15), D(2026, 2, 28), False),  # a deadline alone proves nothing
        (D(2026, 4, 15), None, False),
        (D(2027, 1, 1), D(2026, 3, 1), True),
    ],
)
def test_a_period_is_cleared_when_the_deadline_left_the_window_and_it_is_reported(
    deadline: dt.date, reported_on: dt.date | None, expected: bool
) -> None:
    assert is_cleared(control(deadline, reported_on), PERIOD) is expected


def test_december_has_its_window_in_the_next_year() -> None:
    december = Month(2025, 12)
    assert is_cleared(control(D(2026, 2, 1), D(2026, 1, 1)), december)
    assert not is_cleared(control(D(2026, 1, 31), D(2026, 1, 1)), december)
    assert not is_reported(control(reported_on=D(2025, 12, 31)), december)


def test_the_worst_type_decides_for_the_disk() -> None:
    done = control(D(2026, 4, 15), D(2026, 3, 1), "007")
    open_ = control(invoice_type="004")
    half = control(reported_on=D(2026, 3, 1), invoice_type="004")
    assert is_reported_all({"007": done, "004": half}, PERIOD)
    assert not is_cleared_all({"007": done, "004": half}, PERIOD)
    assert not is_reported_all({"007": done, "004": open_}, PERIOD)
    assert is_cleared_all({"007": done}, PERIOD)


def test_nothing_read_proves_nothing() -> None:
    assert not is_reported_all({}, PERIOD)
    assert not is_cleared_all({}, PERIOD)
    with pytest.raises(Failure) as failure:
        open_period({})
    assert failure.value.code is Code.DEVICE_GARBLED


def test_the_open_period_is_that_of_the_type_furthest_behind() -> None:
    ahead = control(start=D(2026, 3, 1), end=D(2026, 3, 31), invoice_type="007")
    behind = control(start=D(2026, 1, 31), end=D(2026, 1, 31), invoice_type="004")
    assert open_period({"007": ahead}) == Month(2026, 3)
    assert open_period({"007": ahead, "004": behind}) == Month(2026, 1)


@pytest.mark.parametrize(
    ("clock", "deadline", "reported_on", "expected"),
    [
        (at(2026, 2, 28, 23, 59), D(2026, 3, 16), D(2026, 2, 1), DeviceState.CLEARED),
        (at(2026, 3, 1, 0, 30), D(2026, 3, 16), D(2026, 2, 1), DeviceState.TO_REPORT),
        (at(2026, 3, 1, 7, 59), D(2026, 3, 16), D(2026, 3, 1), DeviceState.TO_CLEAR),
        (at(2026, 3, 1, 9, 0), D(2026, 4, 15), D(2026, 3, 1), DeviceState.CLEARED),
        (at(2026, 3, 1, 9, 0), D(2026, 3, 16), None, DeviceState.TO_REPORT),
    ],
)
def test_the_disks_own_view_turns_with_the_month(
    clock: dt.datetime, deadline: dt.date, reported_on: dt.date | None, expected: DeviceState
) -> None:
    assert device_view(control(deadline, reported_on), clock) is expected


def test_a_clock_in_another_zone_is_read_as_beijing_time() -> None:
    half_past_midnight = dt.datetime(2026, 2, 28, 16, 30, tzinfo=dt.UTC)
    assert device_view(control(), half_past_midnight) is DeviceState.TO_REPORT
    assert device_view(control(), half_past_midnight.replace(hour=15)) is DeviceState.CLEARED


def test_the_day_of_the_deadline_is_not_overdue_and_the_next_is() -> None:
    controls = {"025": control()}
    assert device_state(controls, clock=at(2026, 3, 16, 23, 59)) is DeviceState.TO_REPORT
    assert device_state(controls, clock=at(2026, 3, 17, 0, 0)) is DeviceState.OVERDUE


def test_ninety_days_are_not_dormant_and_one_more_is() -> None:
    controls = {"025": control(D(2027, 1, 15), D(2026, 1, 1))}
    assert device_state(controls, clock=at(2026, 4, 1)) is DeviceState.CLEARED  # day 90
    assert device_state(controls, clock=at(2026, 4, 2)) is DeviceState.DORMANT


def test_a_disk_stands_where_its_worst_type_stands() -> None:
    clock = at(2026, 3, 10)
    cleared = control(D(2026, 4, 15), D(2026, 3, 1), "007")
    to_clear = control(reported_on=D(2026, 3, 1), invoice_type="004")
    to_report = control(invoice_type="025")
    overdue = control(deadline=D(2026, 3, 9), invoice_type="026")
    contradictory = control(start=D(2026, 3, 1), end=D(2026, 2, 28), invoice_type="005")
    found: dict[str, ControlData] = {}
    for one, expected in [
        (cleared, DeviceState.CLEARED),
        (to_clear, DeviceState.TO_CLEAR),
        (to_report, DeviceState.TO_REPORT),
        (overdue, DeviceState.OVERDUE),
        (contradictory, DeviceState.UNKNOWN),
    ]:
        found[one.invoice_type] = one
        assert device_state(found, clock=clock) is expected


def test_identity_goes_before_dates_and_nothing_read_is_unknown() -> None:
    controls, clock = {"025": control()}, at(2026, 3, 10)
    assert device_state(controls, clock=clock, training=True) is DeviceState.TRAINING
    assert device_state(controls, clock=clock, training=True, retired=True) is DeviceState.RETIRED
    assert device_state({}, clock=clock) is DeviceState.UNKNOWN
    assert device_state(controls, clock=None) is DeviceState.UNKNOWN


dates = st.dates(D(2000, 1, 1), D(2100, 12, 31))
controls = st.builds(
    ControlData,
    invoice_type=st.sampled_from(["004", "007", "025"]),
    issue_deadline=dates,
    period_start=dates,
    period_end=dates,
    last_reported_on=st.none() | dates,
    device_clock=st.none() | st.datetimes(timezones=st.just(BEIJING)) | st.datetimes(),
    clock_source=st.sampled_from(["device", "host"]),
    pending_uploads=st.integers(0, 9999),
    limits=st.dictionaries(st.text(max_size=5), st.integers(0)),
    raw=st.dictionaries(st.text(max_size=5), st.text(max_size=5)),
)


@given(controls)
def test_control_data_survive_the_wire(control: ControlData) -> None:
    assert from_json(json.loads(json.dumps(to_json(control)))) == control


def test_unknown_names_of_a_newer_machine_are_ignored() -> None:
    assert from_json({**to_json(control()), "new": 1}) == control()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("invoice_type", "25"),
        ("invoice_type", 7),
        ("issue_deadline", "2026-02-30"),
        ("issue_deadline", None),
        ("period_start", ""),
        ("last_reported_on", 20260301),
        ("device_clock", "noon"),
        ("clock_source", "guess"),
        ("pending_uploads", -1),
        ("pending_uploads", True),
        ("limits", {"total": 1.5}),
        ("limits", []),
        ("raw", {"a": 1}),
    ],
)
def test_values_that_do_not_fit_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(Failure) as failure:
        from_json({**to_json(control()), name: value})
    assert (failure.value.code, failure.value.detail) == (Code.DEVICE_GARBLED, name)


OPTIONAL = {"last_reported_on", "device_clock", "uncleared_through"}


@pytest.mark.parametrize("name", sorted(set(to_json(control())) - OPTIONAL))
def test_a_missing_name_is_refused(name: str) -> None:
    value = {key: entry for key, entry in to_json(control()).items() if key != name}
    with pytest.raises(Failure) as failure:
        from_json(value)
    assert failure.value.detail == name


def test_a_disk_that_never_reported_says_so_or_says_nothing() -> None:
    never = replace(control(), last_reported_on=None)
    value = to_json(never)
    assert from_json(value) == never
    del value["last_reported_on"], value["device_clock"]
    assert from_json(value) == never


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(to_json(control()))), json_values), json_values)
def test_no_value_makes_reading_crash(parts: dict[str, Any], other: object) -> None:
    for value in ({**to_json(control()), **parts}, other):
        try:
            assert isinstance(from_json(value), ControlData)
        except Failure as failure:
            assert failure.code is Code.DEVICE_GARBLED


def test_a_deadline_moved_before_the_report_is_no_clear_where_the_disk_says_so() -> None:
    """A tax hall may extend a disk into the next month; the report that follows clears nothing."""
    period = Month(2026, 10)
    extended = ControlData(
        invoice_type="025",
        issue_deadline=dt.date(2026, 12, 12),
        period_start=dt.date(2026, 10, 1),
        period_end=dt.date(2026, 10, 31),
        last_reported_on=dt.date(2026, 11, 1),
        uncleared_through=dt.date(2026, 10, 31),
    )
    assert is_reported(extended, period)
    assert not is_cleared(extended, period)
    assert is_cleared(replace(extended, uncleared_through=None), period)
    assert from_json(to_json(extended)) == extended
    # A later period that is declared and open does not turn an earlier one back.
    assert is_cleared(extended, period.plus(-1))
