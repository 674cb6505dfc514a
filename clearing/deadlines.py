"""The filing deadline (征期截止日) of a month: the published rule, over the working days we know.

Owns the rule and the word for "this year is not published yet". It never guesses: where the
calendar package does not know the year, it raises :class:`CalendarUnknown`, and a person (or an
override) has to say the date. No clock, no Django, no database.

Source: 税收征管 notices of each year; the rule was checked against the published lists in
``tests/data/filing-deadlines.json``. Working days: the package ``chinesecalendar``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from itertools import groupby

import chinese_calendar
from chinese_calendar.constants import (
    holidays,
)

from devices.protocol.month import Month
from devices.protocol.texts import N_

USUAL_DAY = 15
"""The day of the month on which a window ends when no holiday moves it."""

_LONG_RUN = 3
"""So many non-working days in a row, inside the 1st to the 15th, move the deadline."""


class CalendarUnknown(ValueError):
    """The working days of ``year`` are not known yet; the message is for a person."""

    template = N_("节假日日历尚未收录 {year} 年, 无法推算征期截止日; 请更新日历或手工填写截止日。")

    def __init__(self, year: int) -> None:
        super().__init__(self.template.format(year=year))
        self.year = year


def filing_deadline(year: int, month: int) -> dt.date:
    """The last day of the filing window that lies in ``year``-``month`` (Beijing time).

    Only the calendar of ``year`` itself is asked: neither a run reaching back over New Year nor
    the days after the 15th of December can need another year.
    Raises CalendarUnknown, and ValueError when it is not a month.
    """
    Month(year, month)
    if not calendar_knows(year):
        raise CalendarUnknown(year)
    added = sum(_long_runs(year, month))
    deadline = dt.date(year, month, USUAL_DAY)
    if not added:
        return deadline if _works(deadline) else _next_working_day(deadline)
    for _ in range(added):
        deadline = _next_working_day(deadline)
    return deadline


def deadline_for(window: Month, override: dt.date | None = None) -> dt.date:
    """The deadline of ``window``: the bureau's own date where there is one, else by the rule.

    ``window`` is the month in which is filed, not the period that is filed. An override may lie
    after the window (an extension), never before it: that is a slip, ValueError.
    Raises CalendarUnknown only when no override is given.
    """
    if override is None:
        return filing_deadline(window.year, window.month)
    if override < window.first:
        raise ValueError(
            N_("征期 {window} 的截止日不能早于当月 1 日: {day}").format(
                window=window, day=override.isoformat()
            )
        )
    return override


def calendar_knows(year: int) -> bool:
    """Whether the whole of ``year`` is in the calendar.

    A published arrangement may name New Year's Day of the year after; that alone is not a year,
    so the National Day is looked for, which every arrangement holds.
    """
    return dt.date(year, 10, 1) in holidays


def _long_runs(year: int, month: int) -> Iterator[int]:
    """Lengths of the long runs of non-working days, counted inside the 1st to the 15th.

    The rule speaks of runs that hold a statutory holiday. Three non-working days in a row always
    do (a weekend has two), so length alone decides, and days outside the range are not needed.
    """
    days = (dt.date(year, month, day) for day in range(1, USUAL_DAY + 1))
    for works, run in groupby(days, key=_works):
        length = sum(1 for _ in run)
        if not works and length >= _LONG_RUN:
            yield length


def _next_working_day(day: dt.date) -> dt.date:
    day += dt.timedelta(days=1)
    while not _works(day):
        day += dt.timedelta(days=1)
    return day


def _works(day: dt.date) -> bool:
    """Whether ``day`` is a working day: adjusted weekends count, days in lieu do not."""
    return bool(chinese_calendar.is_workday(day))
