"""What people start, cancel, retry and mark."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
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
from clearing.selectors.presence import machine_off
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
    return _start(dict.fromkeys(disk_ids, Intent(intent)), key, started_by, now)


def _start(
    wanted: Mapping[int, Intent], key: str, started_by: str, now: dt.datetime
) -> BatchStarted:
    """One batch over disks, each with what is wanted of it."""
    disks = list(
        TaxDisk.objects.select_for_update(of=("self",))
        .select_related("company")
        .filter(pk__in=wanted)
        .order_by("pk")
    )
    # The locks above let a double click through one after the other: look again.
    if (again := _same_click(key)) is not None:
        return again
    period = current_period(now)
    plan = _plan(disks, wanted, str(period))
    if not plan.fresh and not plan.joined:
        raise ServiceError(_("所选客户没有可办理的税盘"))
    moment = real_now()
    taken = [*(disk.pk for disk in plan.fresh), *(run.disk_id for run in plan.joined)]
    batch = Batch.objects.create(
        agency_id=disks[0].agency_id,
        # The widest of them stands for all.
        intent=max((wanted[disk_id] for disk_id in taken), key=list(Intent).index),
        key=key,
        period=str(period),
        started_by=started_by,
        created_at=moment,
    )
    audit.record(
        Action.BATCH_STARTED,
        batch,
        data={
            "intent": batch.intent,
            "period": str(period),
            "started": len(plan.fresh),
            "joined": len(plan.joined),
        },
    )
    absent = _absent(plan.fresh, moment)
    for turn, disk in enumerate(plan.fresh):
        run = Run.objects.create(
            agency_id=disk.agency_id,
            disk=disk,
            disk_period=period_row(disk, period),
            batch=batch,
            intent=wanted[disk.pk],
            state=RunState.WAITING if disk.pk in absent else RunState.QUEUED,
            reason=absent.get(disk.pk, ""),
            turn=turn,
            created_at=moment,
        )
        BatchRun.objects.create(agency_id=disk.agency_id, batch=batch, run=run)
        audit.record(
            Action.RUN_QUEUED,
            disk,
            company_id=disk.company_id,
            data={"run": run.pk, "batch": batch.pk, "intent": run.intent},
        )
    for run in plan.joined:
        _join(batch, run, wanted[run.disk_id], moment)
    bell.ring(batch.agency_id)
    bell.wake_sweeper(batch.agency_id)
    return BatchStarted(batch, len(plan.fresh), len(plan.joined), plan.skipped)


def _absent(disks: list[TaxDisk], moment: dt.datetime) -> dict[int, Reason]:
    """Those that are not here, and what each waits for."""
    here = set(present_slots(moment).values_list("device_no", flat=True))
    away = [disk.pk for disk in disks if disk.device_no not in here]
    off = TaxDisk.objects.filter(machine_off(moment, "device_no"), pk__in=away)
    machines = set(off.values_list("pk", flat=True))
    return {pk: Reason.MACHINE if pk in machines else Reason.DISK for pk in away}


@dataclass(slots=True)
class _Plan:
    fresh: list[TaxDisk] = field(default_factory=list)
    joined: list[Run] = field(default_factory=list)
    skipped: list[tuple[int, str]] = field(default_factory=list)


def _plan(disks: list[TaxDisk], wanted: Mapping[int, Intent], period: str) -> _Plan:
    """Who is queued, who joins, who is skipped and why; the page asked the same rule before."""
    open_runs = {
        run.disk_id: run
        for run in Run.objects.select_for_update()
        .filter(disk__in=disks, state__in=OPEN)
        .order_by("pk")
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
            wanted[disk.pk],
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


def _join(batch: Batch, run: Run, intent: Intent, moment: dt.datetime) -> None:
    """Put an open run into the batch. A wider intent is taken over; what a machine has already
    claimed goes back to the queue when its narrower order is done.

    The click takes a cancel back that no machine has followed yet, and then only what it asks for
    is wanted. What waits for a person's work elsewhere is read again: the disk may prove it."""
    BatchRun.objects.create(agency_id=run.agency_id, batch=batch, run=run, joined=True)
    taken_back = run.cancel_requested_by
    if taken_back or intent.wider_than(run.intent):
        run.intent, run.cancel_requested_by = intent, ""
        run.save(update_fields=["intent", "cancel_requested_by"])
    if run.state == RunState.WAITING and run.reason == Reason.BY_HAND:
        move(run, RunState.QUEUED, now=moment)
    audit.record(
        Action.RUN_JOINED,
        run.disk,
        company_id=run.disk.company_id,
        data={
            "run": run.pk,
            "batch": batch.pk,
            **({"cancel_taken_back": taken_back} if taken_back else {}),
        },
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
    """A new batch over the disks of failed runs, each with what its own newest one was to do.

    Raises ServiceError when none of them has failed."""
    if (again := _same_click(key)) is not None:
        return again
    chosen = Run.objects.filter(pk__in=set(run_ids), state=RunState.FAILED).order_by("pk")
    failed = {run.disk_id: run for run in chosen}
    if not failed:
        raise ServiceError(_("所选办理中没有未办成的，无需重试"))
    started = _start(_wanted_again(failed.values()), key, started_by, now)
    skipped = {disk_id for disk_id, _why in started.skipped}
    for run in (run for run in failed.values() if run.disk_id not in skipped):
        audit.record(
            Action.RUN_RETRIED,
            run.disk,
            company_id=run.disk.company_id,
            data={"run": run.pk, "code": run.code},
        )
    return started


def _wanted_again(failed: Iterable[Run]) -> dict[int, Intent]:
    """A retry does what failed, and no more."""
    return {run.disk_id: Intent(run.intent) for run in failed}


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
    for run in waiting.order_by("pk"):
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
    if not note.strip():
        raise ServiceError(_("请写明依据"))
    # Disk, run, period: the order in which whoever settles a run takes them.
    disk = TaxDisk.objects.select_for_update(of=("self",)).get(periods=disk_period_id)
    run = Run.objects.select_for_update().filter(disk=disk, state__in=OPEN).first()
    row = DiskPeriod.objects.select_for_update().get(pk=disk_period_id)
    if row.state == PeriodState.CLEARED:
        raise ServiceError(_("已读盘确认清卡，无需人工登记"))
    if run is not None and not (run.state == RunState.WAITING and run.reason == Reason.BY_HAND):
        raise ServiceError(_("此盘正在办理，请等办完或取消后再登记"))
    row.state = PeriodState.BY_HAND
    row.save(update_fields=["state"])
    if run is not None:
        move(run, RunState.SKIPPED, now=real_now(), code=run.code)
        bell.wake_sweeper(run.agency_id)
    audit.record(
        Action.PERIOD_BY_HAND,
        disk,
        company_id=disk.company_id,
        data={"period": row.period, "note": note.strip()[:200], "by": by},
    )
