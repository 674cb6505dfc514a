"""A calendar month, the unit in which tax disks are judged.

A *period* (属期) is the month that is reported; its *window* (征期) is the month after it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Self

# A month needs one after it, and dates end with 9999.
LAST_YEAR = 9998


@dataclass(frozen=True, order=True, slots=True)
class Month:
    """One month of the calendar; months order by time."""

    year: int
    month: int

    def __post_init__(self) -> None:
        if not 1 <= self.month <= 12 or not 1 <= self.year <= LAST_YEAR:
            raise ValueError(f"not a month: {self.year}-{self.month}")

    @classmethod
    def of(cls, day: dt.date) -> Self:
        """The month that holds ``day`` (a date or a datetime of Beijing time)."""
        return cls(day.year, day.month)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``YYYY-MM``. Raises ValueError."""
        year, _, month = text.partition("-")
        if len(year) != 4 or len(month) != 2:
            raise ValueError(f"not a month: {text!r}")
        return cls(int(year), int(month))

    def plus(self, months: int) -> Self:
        """The month ``months`` later (earlier when negative)."""
        index = self.year * 12 + self.month - 1 + months
        return type(self)(index // 12, index % 12 + 1)

    def minus(self, other: Month) -> int:
        """How many months lie between ``other`` and this one."""
        return (self.year - other.year) * 12 + self.month - other.month

    @property
    def first(self) -> dt.date:
        return dt.date(self.year, self.month, 1)

    @property
    def last(self) -> dt.date:
        return self.plus(1).first - dt.timedelta(days=1)

    @property
    def window(self) -> Self:
        """The filing window of this period: the month after it."""
        return self.plus(1)

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"
