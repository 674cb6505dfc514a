"""The filing deadline against the published lists, and where it must refuse to answer."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from chinese_calendar.constants import (
    holidays,
)

from clearing import deadlines
from clearing.deadlines import CalendarUnknown, calendar_knows, deadline_for, filing_deadline
from devices.protocol.month import Month

PUBLISHED = Path(__file__).parent.parent / "data" / "filing-deadlines.json"


def published() -> list[dt.date]:
    facts = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return [
        dt.date.fromisoformat(day)
        for year, days in sorted(facts.items())
        if not year.startswith("_")
        for day in days
    ]


def test_the_published_facts_are_two_whole_years() -> None:
    assert [(day.year, day.month) for day in published()] == [
        (year, month) for year in (2025, 2026) for month in range(1, 13)
    ]


@pytest.mark.parametrize("day", published(), ids=str)
def test_the_rule_gives_every_published_deadline(day: dt.date) -> None:
    assert filing_deadline(day.year, day.month) == day


def test_a_run_of_exactly_three_days_moves_it_and_one_of_two_does_not() -> None:
    # 2022-04: 清明, 3rd to 5th; three working days on from Friday the 15th.
    assert filing_deadline(2022, 4) == dt.date(2022, 4, 20)
    # 2022-05: the run of 劳动节 has five days, four of them inside the month.
    assert filing_deadline(2022, 5) == dt.date(2022, 5, 19)
    # 2025-01: New Year's Day alone, a Wednesday.
    assert filing_deadline(2025, 1) == dt.date(2025, 1, 15)


def test_a_working_weekend_after_the_fifteenth_counts_as_working() -> None:
    # 2021-10: seven days off (1st-7th); of the days after the 15th only the weekends 16/17 and
    # 23/24 do not work.
    assert filing_deadline(2021, 10) == dt.date(2021, 10, 26)
    # 2023-10: six days (1st-6th); nothing adjusted after the 15th, which is a Sunday.
    assert filing_deadline(2023, 10) == dt.date(2023, 10, 23)


def test_a_year_the_calendar_does_not_know_is_said_not_guessed() -> None:
    with pytest.raises(CalendarUnknown, match="2101") as caught:
        filing_deadline(2101, 3)
    assert caught.value.year == 2101
    assert "日历" in str(caught.value)


def test_december_and_january_need_no_neighbouring_year(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: set[int] = set()
    works = deadlines._works

    def recording(day: dt.date) -> bool:
        asked.add(day.year)
        return works(day)

    monkeypatch.setattr(deadlines, "_works", recording)
    assert filing_deadline(2025, 12) == dt.date(2025, 12, 15)
    assert filing_deadline(2025, 1) == dt.date(2025, 1, 15)
    assert asked == {2025}


def test_new_years_day_alone_does_not_make_a_year_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(holidays, dt.date(2101, 1, 1), "New Year's Day")
    assert not calendar_knows(2101)
    with pytest.raises(CalendarUnknown):
        filing_deadline(2101, 1)


@pytest.mark.parametrize(("year", "month"), [(2025, 0), (2025, 13), (0, 1)])
def test_what_is_no_month_is_refused(year: int, month: int) -> None:
    with pytest.raises(ValueError, match="not a month"):
        filing_deadline(year, month)


def test_an_override_wins_over_the_rule() -> None:
    assert deadline_for(Month(2026, 3), dt.date(2026, 3, 20)) == dt.date(2026, 3, 20)
    assert deadline_for(Month(2026, 3)) == dt.date(2026, 3, 16)


def test_an_override_answers_for_a_year_nobody_knows() -> None:
    assert deadline_for(Month(2101, 3), dt.date(2101, 3, 16)) == dt.date(2101, 3, 16)


def test_an_override_may_extend_past_the_month_but_not_precede_it() -> None:
    assert deadline_for(Month(2026, 3), dt.date(2026, 4, 2)) == dt.date(2026, 4, 2)
    with pytest.raises(ValueError, match="不能早于"):
        deadline_for(Month(2026, 3), dt.date(2026, 2, 28))
