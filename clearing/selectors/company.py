"""The company page: what is on its disks, what was done in a period, the months before."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from django.db.models import QuerySet

from agency.choices import Role
from agency.models import Company, Membership
from clearing.choices import PeriodState
from clearing.models import Backup, DiskPeriod, Evidence, Run, StageResult
from clearing.selectors.board import Row, type_states
from clearing.selectors.lines import DiskLine, lines_of
from clearing.selectors.presence import places_of
from clearing.selectors.words import INVOICE_TYPES, PERIOD_COLOURS, STATISTICS, entry_for
from clearing.states import COLOURS, RunState
from devices.choices import PasswordState
from devices.models import TaxDisk
from devices.protocol.catalogue import Entry
from devices.protocol.control import ControlData, DeviceState, from_json, type_state
from devices.protocol.failures import Failure
from devices.protocol.month import Month

RUNS_SHOWN = 20
MONTHS_SHOWN = 24


@dataclass(frozen=True, slots=True)
class ControlLine:
    """The last read of one invoice type, with its state in the period."""

    code: str
    data: ControlData
    state: PeriodState
    dormant: bool
    overdue: bool

    @property
    def name(self) -> str:
        return str(INVOICE_TYPES.get(self.code, self.code))

    @property
    def colour(self) -> str:
        return PERIOD_COLOURS[self.state]


def control_lines(control: Mapping[str, Any], period: Month, now: dt.datetime) -> list[ControlLine]:
    """Every type of a disk's last read; one that cannot be parsed is left out."""
    states = {entry.code: entry.state for entry in type_states(control, period)}
    lines = []
    for code, state in states.items():
        data = from_json(control[code])
        seen = type_state(data, now)
        lines.append(
            ControlLine(code, data, state, seen == DeviceState.DORMANT, seen == DeviceState.OVERDUE)
        )
    return lines


@dataclass(frozen=True, slots=True)
class DiskView:
    """A disk of the company: where it is, what was read, how the period stands."""

    disk: TaxDisk
    line: DiskLine
    row: DiskPeriod | None
    controls: list[ControlLine]
    garbled: list[str]
    place: str

    @property
    def pin_open(self) -> bool:
        """Whether the PIN is in doubt, or with a machine that works on the disk no more."""
        at_work = self.line.run is not None and self.line.run.state == RunState.CLAIMED
        held = self.disk.pin_intent_machine_id is not None and not at_work
        return held or self.disk.password_state == PasswordState.PIN_UNKNOWN

    @property
    def statistics(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Per unit, the totals that were handed in; amounts in yuan."""
        units = self.row.statistics if self.row else {}
        return [(unit, _totals(totals)) for unit, totals in sorted(units.items())]


def _totals(totals: Mapping[str, int]) -> list[tuple[str, str]]:
    return [
        (str(label), f"{totals[name] / 100:,.2f}" if name.endswith("_fen") else str(totals[name]))
        for name, label in STATISTICS.items()
        if name in totals
    ]


@dataclass(frozen=True, slots=True)
class RunView:
    """One attempt-bearing run of the timeline, with its stages in order."""

    run: Run
    stages: list[StageResult]

    @property
    def colour(self) -> str:
        return COLOURS[RunState(self.run.state)]

    @property
    def entry(self) -> Entry | None:
        return entry_for(self.run.code)

    @property
    def simulated(self) -> bool:
        attempt = self.run.attempt
        return bool(attempt is not None and attempt.machine.simulated)


def row_of(company: Company, period: Month, today: dt.date) -> Row:
    """The company as the board shows it, retired disks listed too."""
    row = Row(company.pk, company.short_name, company.name, company.tax_id)
    row.disks = lines_of([company.pk], period, today, with_retired=True)
    row.settle()
    return row


def disk_views(company: Company, row: Row, period: Month, now: dt.datetime) -> list[DiskView]:
    """The disks of ``row``, retired ones last, with what was read of each (three queries)."""
    disks = {
        disk.pk: disk
        for disk in TaxDisk.objects.select_related("pin_intent_machine").filter(company=company)
    }
    rows = {
        found.disk_id: found
        for found in DiskPeriod.objects.filter(disk__company=company, period=str(period))
    }
    places = places_of(disk.device_no or "" for disk in disks.values())
    views = []
    for line in sorted(row.disks, key=lambda line: line.retired):
        disk, found = disks[line.id], rows.get(line.id)
        # A month that is over is shown as it was read then, the present one as read last.
        control = found.control if found is not None and found.control else disk.control
        views.append(
            DiskView(
                disk=disk,
                line=line,
                row=found,
                controls=control_lines(control, period, now),
                garbled=garbled(control),
                place=places.get(disk.device_no or "", ""),
            )
        )
    return views


def members(company: Company) -> list[Membership]:
    """The people in whose hands the company is."""
    return list(
        Membership.objects.filter(
            assignments__company=company, active=True, role=Role.BOOKKEEPER
        ).order_by("id")
    )


def timeline(company: Company, period: Month) -> list[RunView]:
    """The newest runs of the period, newest first, each with its stages (two queries)."""
    runs = list(
        Run.objects.filter(disk__company=company, disk_period__period=str(period))
        .select_related("disk", "batch", "attempt", "attempt__machine")
        .order_by("-id")[:RUNS_SHOWN]
    )
    stages = StageResult.objects.filter(run__in=[run.pk for run in runs]).order_by(
        "run_id", "attempt_id", "number"
    )
    by_run = {
        run_id: list(group) for run_id, group in groupby(stages, key=lambda stage: stage.run_id)
    }
    return [RunView(run, by_run.get(run.pk, [])) for run in runs]


def backups(company: Company, period: Month) -> list[Backup]:
    return list(
        Backup.objects.filter(disk_period__disk__company=company, disk_period__period=str(period))
        .select_related("disk_period__disk")
        .order_by("-id")
    )


@dataclass(frozen=True, slots=True)
class EvidenceLine:
    """A fact, with its content as text."""

    row: Evidence

    @property
    def text(self) -> str:
        return json.dumps(self.row.data, ensure_ascii=False, indent=2)


def evidence(company: Company, period: Month) -> list[EvidenceLine]:
    """The newest facts of the period (never a package: that stays sealed)."""
    rows = (
        Evidence.objects.filter(disk_period__disk__company=company, disk_period__period=str(period))
        .select_related("disk")
        .defer("sealed")
        .order_by("-id")[:100]
    )
    return [EvidenceLine(row) for row in rows]


@dataclass(frozen=True, slots=True)
class PastMonth:
    """A month of a company: the state of its worst disk, and how each came there."""

    period: Month
    rows: list[DiskPeriod]

    @property
    def state(self) -> PeriodState:
        order = list(PeriodState)
        order.remove(PeriodState.BY_HAND)
        order.insert(order.index(PeriodState.CLEARED), PeriodState.BY_HAND)
        return min((PeriodState(row.state) for row in self.rows), key=order.index)

    @property
    def colour(self) -> str:
        return PERIOD_COLOURS[self.state]

    @property
    def cleared_at(self) -> dt.datetime | None:
        """When the last disk was cleared; None while one is not."""
        if self.state != PeriodState.CLEARED:
            return None
        return max(row.cleared_at for row in self.rows if row.cleared_at)

    @property
    def cleared_by(self) -> str:
        return "、".join(
            sorted({str(row.get_cleared_by_display()) for row in self.rows if row.cleared_by})
        )


def months_by_company(companies: QuerySet[Company], before: Month) -> dict[int, list[PastMonth]]:
    """The months of each company up to and without ``before``, newest first (one query)."""
    rows = (
        DiskPeriod.objects.filter(
            disk__company__in=companies,
            period__lt=str(before),
            period__gte=str(before.plus(-MONTHS_SHOWN)),
        )
        .select_related("disk")
        .defer("control", "statistics")
        .order_by("disk__company_id", "-period", "disk__terminal_no")
    )
    found: dict[int, list[PastMonth]] = {}
    for (company_id, period), group in groupby(
        rows, key=lambda row: (row.disk.company_id, row.period)
    ):
        found.setdefault(company_id, []).append(PastMonth(Month.parse(period), list(group)))
    return found


def garbled(control: Mapping[str, Any]) -> list[str]:
    """The invoice types whose stored control data cannot be read."""
    bad = []
    for code, value in sorted(control.items()):
        try:
            from_json(value)
        except Failure:
            bad.append(code)
    return bad
