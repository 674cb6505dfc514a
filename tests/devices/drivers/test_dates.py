"""The table of offsets, both edges of a month for every kind, and what is not a date."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.drivers import dates
from devices.drivers.dates import Kind
from devices.protocol.failures import Code, Failure

D = dt.date
FIELDS: dict[str, Callable[[Kind, str | bytes], dt.date]] = {
    "issue_deadline": dates.issue_deadline,
    "period_start": dates.period_start,
    "period_end": dates.period_end,
    "last_reported_on": dates.last_reported_on,
}


@pytest.mark.parametrize(
    ("kind", "field", "raw", "expected"),
    [
        (Kind.BAIWANG, "last_reported_on", "20260228", D(2026, 3, 1)),
        (Kind.BAIWANG, "last_reported_on", "20251231", D(2026, 1, 1)),
        (Kind.BAIWANG, "issue_deadline", "20260301", D(2026, 3, 1)),
        (Kind.BAIWANG, "period_start", "20260201", D(2026, 2, 1)),
        (Kind.BAIWANG, "period_end", "20260228", D(2026, 2, 28)),
        (Kind.UKEY, "last_reported_on", "20240228", D(2024, 2, 29)),
        (Kind.UKEY, "last_reported_on", "20240229", D(2024, 3, 1)),
        (Kind.UKEY, "issue_deadline", "20260331", D(2026, 3, 31)),
        (Kind.AISINO, "issue_deadline", "20260301", D(2026, 2, 28)),
        (Kind.AISINO, "issue_deadline", "20260316", D(2026, 3, 15)),
        (Kind.AISINO, "period_end", "20260301", D(2026, 2, 28)),
        (Kind.AISINO, "period_end", "20260101000000", D(2025, 12, 31)),
        (Kind.AISINO, "period_start", "20260201", D(2026, 2, 1)),
        (Kind.AISINO, "last_reported_on", "20260301", D(2026, 3, 1)),
        (Kind.IC_CARD, "last_reported_on", bytes.fromhex("20260228"), D(2026, 3, 1)),
        (Kind.IC_CARD, "issue_deadline", bytes.fromhex("20260316"), D(2026, 3, 16)),
    ],
)
def test_each_kind_is_off_by_its_own_days(
    kind: Kind, field: str, raw: str | bytes, expected: dt.date
) -> None:
    assert FIELDS[field](kind, raw) == expected


def test_every_kind_has_a_row() -> None:
    assert set(dates.OFFSETS) == set(Kind)


def test_fourteen_digits_are_a_moment_and_eight_its_midnight() -> None:
    assert dates.parse_moment("20260301235959") == dt.datetime(2026, 3, 1, 23, 59, 59)
    assert dates.parse_moment("20260301") == dt.datetime(2026, 3, 1)
    assert dates.parse_date("20260301235959") == D(2026, 3, 1)


@pytest.mark.parametrize(
    "raw",
    [
        "", "2026030", "202603010", "20260230", "20261301", "00000000", "20260301240000",
        "2026-03-01", "２０２６０３０１", " 20260301", "2026030a",
        b"\x20\x26\x03", bytes.fromhex("20260230"), bytes.fromhex("2026030a"), b"\xff" * 4,
        bytes(4), b"20260301",
    ],
)  # fmt: skip
def test_what_is_no_date_is_refused_with_the_fields_name(raw: str | bytes) -> None:
    with pytest.raises(Failure) as failure:
        dates.issue_deadline(Kind.AISINO, raw)
    assert (failure.value.code, failure.value.detail) == (Code.DEVICE_GARBLED, "issue_deadline")


def test_a_shift_out_of_the_calendar_is_refused() -> None:
    with pytest.raises(Failure):
        dates.issue_deadline(Kind.AISINO, "00010101")
    with pytest.raises(Failure):
        dates.last_reported_on(Kind.UKEY, "99991231")


@given(st.text(max_size=16) | st.binary(max_size=8), st.sampled_from(Kind))
def test_no_text_makes_it_crash(raw: str | bytes, kind: Kind) -> None:
    for read in FIELDS.values():
        try:
            assert isinstance(read(kind, raw), dt.date)
        except Failure as failure:
            assert failure.code is Code.DEVICE_GARBLED
