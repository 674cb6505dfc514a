"""Disks of a set of companies as they stand in one period, loaded in bulk: four queries, always.

A :class:`DiskLine` is what board, company page, client page and confirmation are built from. Texts
are made in the language of the request.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from django.db.models import OuterRef, Subquery
from django.utils.translation import gettext as _

from agency.choices import ClearPolicy, FilingFrequency
from agency.models import Company
from clearing.choices import By, FilingState, Intent, PeriodState, Stage
from clearing.models import DiskPeriod, Run
from clearing.periods import is_due
from clearing.selectors.standing import DiskFacts, Standing, standing_of
from clearing.selectors.stops import open_holds
from clearing.selectors.words import PARTY_OF_REASON, STEP_OF_REASON, Party, entry_for, party_of
from clearing.states import ENDED, OPEN, Reason, RunState
from devices.choices import DiskKind, PasswordState
from devices.models import TaxDisk
from devices.protocol.catalogue import Entry
from devices.protocol.month import Month

#: An issue deadline so near that the row is marked 将锁盘.
SOON = dt.timedelta(days=3)
_RUN = (
    "id", "disk_id", "state", "reason", "code", "raw_code", "raw_text", "detail", "stage",
    "intent", "next_try_at", "ended_at",
)  # fmt: skip
_FINISHED = frozenset({FilingState.FILED, FilingState.NOT_DUE})


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run, as far as a list shows it."""

    id: int
    disk_id: int
    state: str
    reason: str
    code: str
    raw_code: str
    raw_text: str
    detail: str
    stage: str
    intent: str
    next_try_at: dt.datetime | None
    ended_at: dt.datetime | None

    @property
    def entry(self) -> Entry | None:
        """The catalogue's entry of the run's code; None without a code we know."""
        return entry_for(self.code)

    @property
    def raw(self) -> str:
        """Code and text exactly as the device or the bureau gave them."""
        return f"{self.raw_code} {self.raw_text}".strip()

    @property
    def intent_text(self) -> str:
        return str(Intent(self.intent).label)

    @property
    def state_text(self) -> str:
        return str(RunState(self.state).label)


@dataclass(slots=True)
class DiskLine:
    """A disk in one period: its rows, its open run, its last ended one, and what follows."""

    id: int
    company_id: int
    device_no: str
    terminal_no: int
    kind: str
    training: bool
    retired: bool
    password_state: str
    issue_deadline: dt.date | None
    read_at: dt.datetime | None
    today: dt.date
    period_id: int | None = None
    state: str = PeriodState.UNREAD
    reported: bool = False
    filing: str = FilingState.UNKNOWN
    due: bool = True
    marked_by: str = ""
    marked_at: dt.datetime | None = None
    cleared_by: str = ""
    cleared_at: dt.datetime | None = None
    clear_waits_for_filing: bool = True
    bureau: bool = True  # whether the company's bureau is known
    held: str = ""  # why a person keeps the disk back
    run: RunLine | None = None
    last: RunLine | None = None
    standing: Standing = Standing.UNREAD

    @property
    def counts(self) -> bool:
        """Whether the disk takes part in its company's standing."""
        return not (self.retired or self.training)

    @property
    def filed(self) -> bool:
        return self.marked_at is not None or not self.due or self.filing in _FINISHED

    @property
    def failed(self) -> RunLine | None:
        """The last run, when it failed and nothing better came after it."""
        return self.last if self.last and self.last.state == RunState.FAILED else None

    def settle(self) -> None:
        """Derive the standing from what was loaded."""
        self.standing = standing_of(
            DiskFacts(
                state=self.state,
                filing=self.filing,
                filed=self.filed,
                clear_waits_for_filing=self.clear_waits_for_filing,
                run_state=self.run.state if self.run else "",
                run_reason=self.run.reason if self.run else "",
                # A run that was opened since is the answer to it.
                failed=self.failed is not None and self.run is None,
            )
        )

    # --- flags ------------------------------------------------------------------------------

    @property
    def absent(self) -> bool:
        """待插盘: an open run waits for the disk."""
        return self.run is not None and self.run.reason == Reason.DISK

    @property
    def overdue(self) -> bool:
        """已锁盘: past the issue deadline that was read."""
        return (
            self.issue_deadline is not None
            and self.today > self.issue_deadline
            and self.state != PeriodState.CLEARED
        )

    @property
    def closing(self) -> bool:
        """将锁盘: the issue deadline is near and the period is not cleared."""
        return (
            self.issue_deadline is not None
            and self.state != PeriodState.CLEARED
            and dt.timedelta() <= self.issue_deadline - self.today <= SOON
        )

    # --- texts ------------------------------------------------------------------------------

    @property
    def kind_text(self) -> str:
        return str(DiskKind(self.kind).label)

    @property
    def trouble(self) -> RunLine | None:
        """The run whose code explains why this disk stands still."""
        if self.run is not None:
            return self.run if self.run.code else None
        return self.failed if self.standing == Standing.NEEDS else None

    @property
    def why(self) -> str:
        """Why the disk stands where it stands; empty when there is nothing to say."""
        if self.held and self.standing not in {Standing.CLEARED, Standing.BY_HAND}:
            return _("暂缓：%(note)s") % {"note": self.held}
        if self.run is not None:
            return self._why_open(self.run)
        if self.standing == Standing.CLEARED:
            return _("非本系统办理") if self.cleared_by == By.ELSEWHERE else ""
        if self.standing == Standing.BY_HAND:
            return _("未读盘核实")
        if self.trouble is not None and self.trouble.entry is not None:
            return _(self.trouble.entry.title)
        if self.standing == Standing.NEEDS:
            return str(FilingState(self.filing).label)
        if self.standing in {Standing.TO_FILE, Standing.TO_CLEAR}:
            return self.filing_text
        return "" if self.password_state == PasswordState.GOOD else self._password_text

    def _why_open(self, run: RunLine) -> str:
        if run.state == RunState.WAITING:
            text = str(Reason(run.reason).label)
            title = _(run.entry.title) if run.entry else ""
            return f"{text} · {title}" if title and title != text else text
        if run.state == RunState.CLAIMED and run.stage:
            return _("正在%(stage)s") % {"stage": Stage(run.stage).label}
        return run.state_text

    @property
    def filing_text(self) -> str:
        if self.marked_at is not None:
            return _("已标记申报")
        return str(FilingState.NOT_DUE.label if not self.due else FilingState(self.filing).label)

    @property
    def _password_text(self) -> str:
        if self.password_state in {PasswordState.UNTRIED}:
            return ""
        return str(PasswordState(self.password_state).label)

    @property
    def party(self) -> Party | None:
        """责任方: whose move it is; None when nothing is left to do."""
        if self.standing in {Standing.CLEARED, Standing.BY_HAND, Standing.NOTHING}:
            return None
        if self.run is not None and self.run.state == RunState.WAITING:
            return PARTY_OF_REASON[Reason(self.run.reason)]
        if self.standing == Standing.IN_PROGRESS:
            return Party.DEVICE
        if self.trouble is not None and self.trouble.entry is not None:
            return party_of(self.trouble.entry.code, self.trouble.entry.cls)
        return Party.US

    @property
    def step(self) -> str:
        """The next step, in a few words."""
        if self.run is not None:
            if self.run.state == RunState.WAITING:
                return str(STEP_OF_REASON[Reason(self.run.reason)])
            if self.run.state == RunState.UNKNOWN:
                return _("插入税盘，读盘后自动核实")
            return ""
        if self.trouble is not None and self.trouble.entry is not None:
            return _(self.trouble.entry.next_step)
        return _steps().get(self.standing, "")


def _steps() -> dict[Standing, str]:
    return {
        Standing.NEEDS: _("核对销项汇总与申报表，更正申报后点“标记已申报”"),
        Standing.UNREAD: _("读盘，或直接一键抄报清卡"),
        Standing.TO_REPORT: _("一键抄报清卡"),
        Standing.TO_FILE: _("完成申报后点“标记已申报”"),
        Standing.TO_CLEAR: _("一键抄报清卡"),
    }


def lines_of(
    company_ids: Collection[int], period: Month, today: dt.date, *, with_retired: bool = False
) -> list[DiskLine]:
    """The disks of companies in ``period``, main machine first; ``today``: Beijing's date.

    Asks by ids, not by sub-queries: a hundred rows must be found by index whatever the planner
    thinks of the tables."""
    lines = {line.id: line for line in _disks(company_ids, period, today, with_retired)}
    for row in DiskPeriod.objects.filter(period=str(period), disk__in=list(lines)).values(
        "id", "disk_id", "state", "reported_at", "filing", "marked_filed_by", "marked_filed_at",
        "cleared_by", "cleared_at",
    ):  # fmt: skip
        line = lines[row["disk_id"]]
        line.period_id, line.state, line.filing = row["id"], row["state"], row["filing"]
        line.reported = row["reported_at"] is not None
        line.marked_by, line.marked_at = row["marked_filed_by"], row["marked_filed_at"]
        line.cleared_by, line.cleared_at = row["cleared_by"], row["cleared_at"]
    for run in _open_runs(list(lines)):
        lines[run.disk_id].run = run
    for run in _last_runs([line.period_id for line in lines.values() if line.period_id]):
        lines[run.disk_id].last = run
    for line in lines.values():
        line.settle()
    return list(lines.values())


def _disks(
    company_ids: Collection[int], period: Month, today: dt.date, with_retired: bool
) -> Iterator[DiskLine]:
    disks = TaxDisk.objects.filter(company__in=company_ids)
    if not with_retired:
        disks = disks.filter(retired_at__isnull=True)
    due = {
        frequency: is_due(Company(filing_frequency=frequency), period)
        for frequency in FilingFrequency
    }
    hold = open_holds().filter(disk__company=OuterRef("company")).order_by("pk").values("note")
    disks = disks.annotate(held=Subquery(hold[:1]))
    for disk in disks.order_by("company_id", "terminal_no", "id").values(
        "id", "company_id", "device_no", "terminal_no", "kind", "training", "retired_at",
        "password_state", "issue_deadline", "control_read_at", "company__clear_policy",
        "company__filing_frequency", "company__bureau_id", "held",
    ):  # fmt: skip
        yield DiskLine(
            id=disk["id"],
            company_id=disk["company_id"],
            device_no=disk["device_no"] or "",
            terminal_no=disk["terminal_no"],
            kind=disk["kind"],
            training=disk["training"],
            retired=disk["retired_at"] is not None,
            password_state=disk["password_state"],
            issue_deadline=disk["issue_deadline"],
            read_at=disk["control_read_at"],
            today=today,
            due=due[FilingFrequency(disk["company__filing_frequency"])],
            clear_waits_for_filing=disk["company__clear_policy"] == ClearPolicy.AFTER_FILING,
            bureau=disk["company__bureau_id"] is not None,
            held=disk["held"] or "",
        )


def _open_runs(disks: Collection[int]) -> Iterator[RunLine]:
    """The open run of each disk, whatever its period."""
    for row in Run.objects.filter(disk__in=disks, state__in=sorted(OPEN)).values(*_RUN):
        yield RunLine(**row)


def _last_runs(periods: Collection[int]) -> Iterator[RunLine]:
    """The last ended run of each disk period. Cancelled and skipped ones say nothing about the
    disk: what came before them still stands."""
    telling = ENDED - {RunState.CANCELLED, RunState.SKIPPED}
    ended = Run.objects.filter(disk_period__in=periods, state__in=sorted(telling))
    for row in ended.order_by("disk_period_id", "-id").distinct("disk_period_id").values(*_RUN):
        yield RunLine(**row)
