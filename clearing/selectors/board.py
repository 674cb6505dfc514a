"""The board (本月清卡): one row per company, counters that add up, filters, order.

All rows a person may see are classified in memory from five bulk queries, whatever their number;
only the page that is shown gets its control data, its slots and its progress.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from agency.models import Company
from clearing.choices import PeriodState
from clearing.models import DiskPeriod
from clearing.selectors.lines import DiskLine, lines_of
from clearing.selectors.search import search
from clearing.selectors.standing import COLOURS, SEVERITY, URGENCY, Standing, worst
from clearing.selectors.words import INVOICE_TYPES, PERIOD_COLOURS
from clearing.states import BUSY
from devices.protocol.control import from_json, is_cleared, is_reported
from devices.protocol.failures import Failure
from devices.protocol.month import Month

PER_PAGE = 100


class Flag(models.TextChoices):
    """Marks beside the standing; a row can carry several."""

    ABSENT = "absent", _("待插盘")
    CLOSING = "closing", _("将锁盘")
    OVERDUE = "overdue", _("已锁盘")
    HELD = "held", _("暂缓")


FLAG_HELP = {
    Flag.ABSENT: _("办理在等税盘插上"),
    Flag.CLOSING: _("三天内到开票截止日"),
    Flag.OVERDUE: _("已过开票截止日"),
    Flag.HELD: _("有人暂缓了办理"),
}


@dataclass(frozen=True, slots=True)
class TypeState:
    """One invoice type of a disk in the period."""

    code: str
    state: PeriodState
    issue_deadline: dt.date

    @property
    def name(self) -> str:
        return str(INVOICE_TYPES.get(self.code, self.code))

    @property
    def colour(self) -> str:
        return PERIOD_COLOURS[self.state]


@dataclass(slots=True)
class Row:
    """A company on the board."""

    id: int
    short_name: str
    name: str
    tax_id: str
    disks: list[DiskLine] = field(default_factory=list)
    standing: Standing = Standing.NOTHING
    types: dict[int, list[TypeState]] = field(default_factory=dict)

    def settle(self) -> None:
        self.standing = worst(disk.standing for disk in self.disks if disk.counts)

    @property
    def colour(self) -> str:
        return COLOURS[self.standing]

    @property
    def telling(self) -> DiskLine | None:
        """The disk that gives the company its standing."""
        return next((disk for disk in self.disks if disk.counts and disk.standing == self.standing),
                    None)  # fmt: skip

    @property
    def flags(self) -> list[Flag]:
        checks: dict[Flag, Callable[[DiskLine], bool]] = {
            Flag.ABSENT: lambda disk: disk.absent,
            Flag.CLOSING: lambda disk: disk.closing,
            Flag.OVERDUE: lambda disk: disk.overdue,
            Flag.HELD: lambda disk: bool(disk.held),
        }
        return [
            flag
            for flag, check in checks.items()
            if any(check(disk) for disk in self.disks if disk.counts)
        ]

    @property
    def nearest(self) -> DiskLine | None:
        """The disk with the earliest issue deadline."""
        known = [disk for disk in self.disks if disk.counts and disk.issue_deadline is not None]
        return min(known, key=lambda disk: disk.issue_deadline or dt.date.max, default=None)

    @property
    def lines(self) -> list[tuple[DiskLine, list[TypeState]]]:
        return [(disk, self.types.get(disk.id, [])) for disk in self.disks]

    @property
    def open(self) -> bool:
        return any(disk.run is not None for disk in self.disks)

    @property
    def busy(self) -> bool:
        return any(disk.run is not None and disk.run.state in BUSY for disk in self.disks)


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of the board; every value comes from an address and may be anything."""

    text: str = ""
    state: str = ""
    flag: str = ""
    sort: str = ""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Query:
        return cls(
            text=str(values.get("q", "")).strip()[:60],
            state=str(values.get("state", "")),
            flag=str(values.get("flag", "")),
            sort=str(values.get("sort", "")),
        )

    def parameters(self, **changed: str) -> dict[str, str]:
        """As parameters of an address, empty ones left out."""
        values = {"q": self.text, "state": self.state, "flag": self.flag, "sort": self.sort}
        return {name: value for name, value in {**values, **changed}.items() if value}


@dataclass(frozen=True, slots=True)
class CounterView:
    """A counter that is a filter."""

    key: str
    label: str
    count: int
    colour: str
    help: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """The rows that match, in order, and the counters over everything the search found."""

    rows: list[Row]
    counters: list[CounterView]
    flags: list[CounterView]
    open: bool  # whether anything found is still under way


_FAR = dt.date.max


def _deadline_key(row: Row) -> dt.date:
    return row.nearest.issue_deadline or _FAR if row.nearest else _FAR


SORTS: dict[str, Callable[[Row], Any]] = {
    "": lambda row: (URGENCY.index(row.standing), _deadline_key(row), row.short_name),
    "name": lambda row: row.short_name,
    "tax_id": lambda row: row.tax_id,
    "deadline": lambda row: (_deadline_key(row), row.short_name),
    "standing": lambda row: (SEVERITY.index(row.standing), row.short_name),
}


def rows_of(companies: QuerySet[Company], period: Month, today: dt.date) -> list[Row]:
    """A row for each of ``companies``, without the details of :func:`complete`."""
    rows = {
        company["id"]: Row(**company)
        for company in companies.values("id", "short_name", "name", "tax_id")
    }
    for line in lines_of(list(rows), period, today):
        rows[line.company_id].disks.append(line)
    for row in rows.values():
        row.settle()
    return list(rows.values())


def board(companies: QuerySet[Company], query: Query, period: Month, today: dt.date) -> Board:
    """The board over ``companies`` (what the viewer may see)."""
    found, standings = search(companies, query.text)
    rows = [
        row for row in rows_of(found, period, today) if not standings or row.standing in standings
    ]
    counters, flags = _count(rows)
    busy = any(row.open for row in rows)
    if query.state in Standing.values:
        rows = [row for row in rows if row.standing == query.state]
    if query.flag in Flag.values:
        rows = [row for row in rows if query.flag in row.flags]
    key = query.sort.removeprefix("-")
    rows.sort(key=SORTS.get(key, SORTS[""]), reverse=query.sort.startswith("-"))
    return Board(rows, counters, flags, busy)


def _count(rows: Collection[Row]) -> tuple[list[CounterView], list[CounterView]]:
    standings = Counter(row.standing for row in rows)
    flags = Counter(flag for row in rows for flag in row.flags)
    counters = [CounterView("", str(_("全部")), len(rows), "plain")]
    counters += [
        CounterView(standing, str(standing.label), standings[standing], COLOURS[standing])
        for standing in Standing
        if standing != Standing.BY_HAND or standings[standing]
    ]
    return counters, [
        CounterView(flag, str(flag.label), flags[flag], "amber", str(FLAG_HELP[flag]))
        for flag in Flag
        if flag not in {Flag.OVERDUE, Flag.HELD} or flags[flag]
    ]


def complete(rows: Collection[Row], period: Month) -> None:
    """Give the rows of a page the states of their invoice types (one query)."""
    disks = [disk.id for row in rows for disk in row.disks]
    types: dict[int, list[TypeState]] = defaultdict(list)
    for disk_id, control in DiskPeriod.objects.filter(
        period=str(period), disk_id__in=disks
    ).values_list("disk_id", "control"):
        types[disk_id] = type_states(control, period)
    for row in rows:
        row.types = {disk.id: types[disk.id] for disk in row.disks}


def type_states(control: Mapping[str, Any], period: Month) -> list[TypeState]:
    """The state of each invoice type by the rule of the dates; a garbled one is left out."""
    states = []
    for code, value in sorted(control.items()):
        try:
            data = from_json(value)
        except Failure:
            continue
        state = PeriodState.TO_REPORT
        if is_cleared(data, period):
            state = PeriodState.CLEARED
        elif is_reported(data, period):
            state = PeriodState.TO_CLEAR
        states.append(TypeState(code, state, data.issue_deadline))
    return states
