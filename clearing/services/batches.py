"""What people start, cancel, retry and mark."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import transaction
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action
from agency.clock import real_now
from agency.errors import ServiceError
from clearing import bell
from clearing.choices import Intent, PeriodState
from clearing.eligible import Candidate, why_skipped
from clearing.models import Batch, BatchRun, DiskPeriod, Run
from clearing.periods import current_period, period_row
from clearing.selectors.stops import companies_held
from clearing.services.moves import move
from clearing.states import OPEN, Reason, RunState
from devices.models import TaxDisk
from devices.protocol.month import Month
from devices.selectors import present_slots


@dataclass(frozen=True, slots=True)
class BatchStarted:
    """What a click led to; ``skipped`` holds (disk id, why)."""

    batch: Batch
    started: int = 0
    joined: int = 0
    skipped: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FiledMarked:
    """Rows marked; ``warned``: companies with a disk that is not reported yet."""

    marked: int
    warned: list[int]


@transaction.atomic
def batch_start(
    *, disk_ids: Iterable[int], intent: str, key: str, started_by: str, now: dt.datetime
) -> BatchStarted:
    """Queue a run for each disk, or join the one that is open; a repeated ``key`` changes nothing.

    ``now`` is domain time. Raises ServiceError when there is nothing to do."""
    if (again := _same_click(key)) is not None:
        return again
    disks = list(
        TaxDisk.objects.select_for_update(of=("self",))
        .select_related("company")
        .filter(pk__in=set(disk_ids))
        .order_by("pk")
    )
    # The locks above let a double click through one after the other: look again.
    if (again := _same_click(key)) is not None:
        return again
    period = current_period(now)
    plan = _plan(disks, Intent(intent), str(period))
    if not plan.fresh and not plan.joined:
        raise ServiceError(_("所选客户没有可办理的税盘"))
    moment = real_now()
    batch = Batch.objects.create(
        agency_id=disks[0].agency_id,
        intent=intent,
        key=key,
        period=str(period),
        started_by=started_by,
        created_at=moment,
    )
    audit.record(
        Action.BATCH_STARTED,
        batch,
        data={
            "intent": intent,
            "period": str(period),
            "started": len(plan.fresh),
            "joined": len(plan.joined),
        },
    )
    present = set(present_slots(moment).values_list("device_no", flat=True))
    for turn, disk in enumerate(plan.fresh):
        here = disk.device_no in present
        run = Run.objects.create(
            agency_id=disk.agency_id,
            disk=disk,
            disk_period=period_row(disk, period),
            batch=batch,
            intent=intent,
            state=RunState.QUEUED if here else RunState.WAITING,
            reason="" if here else Reason.DISK,
            turn=turn,
            created_at=moment,
        )
        BatchRun.objects.create(agency_id=disk.agency_id, batch=batch, run=run)
        audit.record(
            Action.RUN_QUEUED,
            disk,
            company_id=disk.company_id,
            data={"run": run.pk, "batch": batch.pk, "intent": intent},
        )
    for run in plan.joined:
        _join(batch, run, intent)
    bell.ring(batch.agency_id)
    bell.wake_sweeper(batch.agency_id)
    return BatchStarted(batch, len(plan.fresh), len(plan.joined), plan.skipped)


@dataclass(slots=True)
class _Plan:
    fresh: list[TaxDisk] = field(default_factory=list)
    joined: list[Run] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)


def _plan(disks: list[TaxDisk], intent: Intent, period: str) -> _Plan:
    """Who is queued, who joins, who is skipped and why; the page asked the same rule before."""
    open_runs = {
        run.disk_id: run
        for run in Run.objects.select_for_update().filter(disk__in=disks, state__in=OPEN)
    }
    rows = {
        row.disk_id: row
        for row in DiskPeriod.objects.filter(disk__in=disks, period=period).only(
            "disk_id", "state", "reported_at"
        )
    }
    held = companies_held(disk.company_id for disk in disks)
    plan = _Plan()
    for disk in disks:
        row = rows.get(disk.pk)
        why = why_skipped(
            intent,
            Candidate(
                retired=disk.retired_at is not None,
                training=disk.training,
                under_way=disk.pk in open_runs,
                held=disk.company_id in held,
                reported=row is not None and row.reported_at is not None,
                cleared=row is not None and row.state == PeriodState.CLEARED,
                bureau=disk.company.bureau_id is not None,
            ),
        )
        if why:
            plan.skipped.append((disk.pk, why))
        elif disk.pk in open_runs:
            plan.joined.append(open_runs[disk.pk])
        else:
            plan.fresh.append(disk)
    return plan


def _join(batch: Batch, run: Run, intent: str) -> None:
    """Put an open run into the batch. A wider intent is taken over; what a machine has already
    claimed goes back to the queue when its narrower order is done."""
    BatchRun.objects.create(agency_id=run.agency_id, batch=batch, run=run, joined=True)
    wider = list(Intent).index(Intent(intent)) > list(Intent).index(Intent(run.intent))
    if wider:
        run.intent = intent
        run.save(update_fields=["intent"])
    audit.record(
        Action.RUN_JOINED,
        run.disk,
        company_id=run.disk.company_id,
        data={"run": run.pk, "batch": batch.pk},
    )


def _same_click(key: str) -> BatchStarted | None:
    batch = Batch.objects.filter(key=key).first()
    if batch is None:
        return None
    joined = BatchRun.objects.filter(batch=batch, joined=True).count()
    return BatchStarted(batch, BatchRun.objects.filter(batch=batch).count() - joined, joined)


@transaction.atomic
def run_retry(
    *, run_ids: Iterable[int], key: str, started_by: str, now: dt.datetime
) -> BatchStarted:
    """A new batch over the disks of failed runs, each with its own intent's widest.

    Raises ServiceError when none of them has failed."""
    if (again := _same_click(key)) is not None:
        return again
    failed = list(Run.objects.filter(pk__in=set(run_ids), state=RunState.FAILED))
    if not failed:
        raise ServiceError(_("所选办理中没有未办成的，无需重试"))
    order = list(Intent)
    intent = max((Intent(run.intent) for run in failed), key=order.index)
    started = batch_start(
        disk_ids=[run.disk_id for run in failed],
        intent=intent,
        key=key,
        started_by=started_by,
        now=now,
    )
    for run in failed:
        audit.record(
            Action.RUN_RETRIED,
            run.disk,
            company_id=run.disk.company_id,
            data={"run": run.pk, "code": run.code},
        )
    return started


@transaction.atomic
def run_cancel(*, run_id: int, by: str, now: dt.datetime) -> None:
    """End a queued or waiting run at once, a claimed one at its next request for permission.

    Raises ServiceError for a run that is unknown (only reading settles it) or has ended."""
    run = Run.objects.select_for_update().get(pk=run_id)
    if run.state == RunState.UNKNOWN:
        raise ServiceError(_("结果待核实，须先读盘，不能取消"))
    if run.state not in OPEN:
        raise ServiceError(_("这次办理已结束"))
    run.cancel_requested_by = by
    if run.state == RunState.CLAIMED:
        run.save(update_fields=["cancel_requested_by"])
    else:
        move(run, RunState.CANCELLED, now=real_now())
        bell.wake_sweeper(run.agency_id)
    audit.record(
        Action.RUN_CANCELLED,
        run.disk,
        company_id=run.disk.company_id,
        data={"run": run.pk, "at_once": run.state == RunState.CANCELLED},
    )


@transaction.atomic
def mark_filed(
    *, company_ids: Iterable[int], period: str, by: str, now: dt.datetime
) -> FiledMarked:
    """Mark the returns of companies as filed; what waited for that goes on by itself.

    A mark before every disk is reported is taken, with a warning."""
    rows = _rows_of(company_ids, period, now)
    warned = {row.disk.company_id for row in rows if row.reported_at is None}
    marked = 0
    for row in rows:
        if row.marked_filed_at is None:
            row.marked_filed_at, row.marked_filed_by = now, by
            row.save(update_fields=["marked_filed_at", "marked_filed_by"])
            marked += 1
            audit.record(
                Action.PERIOD_FILED,
                row.disk,
                company_id=row.disk.company_id,
                data={"period": period},
            )
    waiting = Run.objects.select_for_update().filter(
        disk__in=[row.disk_id for row in rows], state=RunState.WAITING, reason=Reason.FILING
    )
    for run in waiting:
        move(run, RunState.QUEUED, now=real_now())
    if rows:
        bell.ring(rows[0].agency_id)
        bell.wake_sweeper(rows[0].agency_id)
    return FiledMarked(marked, sorted(warned))


@transaction.atomic
def unmark_filed(*, company_ids: Iterable[int], period: str, by: str, now: dt.datetime) -> int:
    """Take the mark back; the filing gate asks the bureau again. Returns the rows changed."""
    changed = 0
    for row in _rows_of(company_ids, period, now):
        if row.marked_filed_at is not None:
            row.marked_filed_at, row.marked_filed_by = None, ""
            row.save(update_fields=["marked_filed_at", "marked_filed_by"])
            changed += 1
            audit.record(
                Action.PERIOD_UNFILED,
                row.disk,
                company_id=row.disk.company_id,
                data={"period": period},
            )
    return changed


def _rows_of(company_ids: Iterable[int], period: str, now: dt.datetime) -> list[DiskPeriod]:
    disks = (
        TaxDisk.objects.select_for_update(of=("self",))
        .select_related("company")
        .filter(company__in=set(company_ids), retired_at__isnull=True)
        .order_by("pk")
    )
    rows = []
    for disk in disks:
        row = period_row(disk, Month.parse(period))
        row.disk = disk
        rows.append(row)
    return rows


@transaction.atomic
def enter_by_hand(*, disk_period_id: int, by: str, note: str, now: dt.datetime) -> None:
    """人工登记: close a period that nothing can read. Never "cleared", and proven later if read.

    Raises ServiceError without a note, or where the disk itself can tell."""
    row = DiskPeriod.objects.select_for_update().select_related("disk").get(pk=disk_period_id)
    if not note.strip():
        raise ServiceError(_("请写明依据"))
    if row.state == PeriodState.CLEARED:
        raise ServiceError(_("已读盘确认清卡，无需人工登记"))
    run = Run.objects.select_for_update().filter(disk=row.disk, state__in=OPEN).first()
    if run is not None and not (run.state == RunState.WAITING and run.reason == Reason.BY_HAND):
        raise ServiceError(_("此盘正在办理，请等办完或取消后再登记"))
    row.state = PeriodState.BY_HAND
    row.save(update_fields=["state"])
    if run is not None:
        move(run, RunState.SKIPPED, now=real_now(), code=run.code)
        bell.wake_sweeper(run.agency_id)
    audit.record(
        Action.PERIOD_BY_HAND,
        row.disk,
        company_id=row.disk.company_id,
        data={"period": row.period, "note": note.strip()[:200], "by": by},
    )
