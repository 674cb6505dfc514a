"""What people start, join, cancel, retry and mark."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from agency.choices import Action
from agency.errors import ServiceError
from agency.models import Agency, AuditEntry, Company
from agency.scope import agency_scope
from clearing.choices import PeriodState
from clearing.models import Batch, BatchRun, DiskPeriod, Run
from clearing.selectors.confirmation import ActionKind, preview
from clearing.services import (
    batch_start,
    enter_by_hand,
    mark_filed,
    run_cancel,
    run_retry,
    unmark_filed,
)
from clearing.states import Reason, RunState
from devices.models import TaxDisk
from devices.protocol.month import Month
from tests.clearing import scenes
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import CLEARED, REPORTED, TO_REPORT, PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk

Again = Callable[[Any], Any]


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company())


def test_a_repeated_click_is_one_batch(agency: Agency, disk: TaxDisk, start: StartBatch) -> None:
    key = str(uuid.uuid4())
    assert start(disk, key=key) == start(disk, key=key)
    with agency_scope(agency.pk):
        assert (Batch.objects.count(), Run.objects.count()) == (1, 1)
        assert AuditEntry.objects.filter(action=Action.BATCH_STARTED).count() == 1


@pytest.mark.committed
def test_a_double_click_at_the_same_moment_is_one_batch(agency: Agency, disk: TaxDisk) -> None:
    key, barrier, batches = str(uuid.uuid4()), threading.Barrier(4), []

    def click() -> None:
        barrier.wait()
        with agency_scope(agency.pk):
            started = batch_start(
                disk_ids=[disk.pk], intent="report_and_clear", key=key, started_by="x", now=NOW
            )
        batches.append(started.batch.pk)
        connections.close_all()

    threads = [threading.Thread(target=click) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(batches) == 4
    assert len(set(batches)) == 1
    with agency_scope(agency.pk):
        assert Run.objects.count() == 1


def test_a_disk_under_way_joins_its_open_run(
    agency: Agency, disk: TaxDisk, start: StartBatch
) -> None:
    (first,) = start(disk)
    (joined,) = start(disk)
    assert joined.pk == first.pk
    with agency_scope(agency.pk):
        assert BatchRun.objects.filter(run=first, joined=True).count() == 1
        assert AuditEntry.objects.filter(action=Action.RUN_JOINED).count() == 1


def test_a_read_under_way_is_widened_and_goes_on_after_its_narrow_order(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    start(disk, intent="read")
    machine.claim()
    (run,) = start(disk)
    assert machine.settle("done", machine.identified(disk), machine.read(TO_REPORT)).json() | {
        "time": ""
    } == {"api": 1, "time": "", "state": "queued"}
    order = machine.claim()
    assert order is not None
    assert order["intent"] == "report_and_clear"
    assert machine.clear_all(disk).json()["state"] == "done"
    assert again(run).state == RunState.DONE


def test_a_disk_that_is_nowhere_waits_for_it_and_goes_on_when_seen(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present()
    (run,) = start(disk)
    assert (run.state, run.reason) == (RunState.WAITING, Reason.DISK)
    assert machine.present(disk).json()["runnable"] == 1
    assert again(run).state == RunState.QUEUED


def test_retired_and_cleared_disks_are_skipped_with_a_reason(
    agency: Agency,
    machine: PlayedMachine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
) -> None:
    retired, cleared, due = (make_disk(make_company()) for _ in range(3))
    machine.present(cleared)
    start(cleared, intent="read")
    machine.claim()
    machine.settle("done", machine.read(CLEARED))
    with agency_scope(agency.pk):
        TaxDisk.objects.filter(pk=retired.pk).update(retired_at=NOW)
        started = batch_start(
            disk_ids=[retired.pk, cleared.pk, due.pk],
            intent="report_and_clear",
            key="k",
            started_by="郑会计",
            now=NOW,
        )
        assert started.started == 1
        assert dict(started.skipped) == {retired.pk: "税盘已注销", cleared.pk: "本月已清卡"}
        with pytest.raises(ServiceError, match="没有可办理"):
            batch_start(
                disk_ids=[retired.pk], intent="report", key="k2", started_by="郑会计", now=NOW
            )


@pytest.mark.parametrize("intent", ["read", "report", "report_and_clear"])
def test_the_confirmation_and_the_service_leave_out_the_same_disks(
    agency: Agency, make_company: MakeCompany, make_disk: MakeDisk, intent: str
) -> None:
    disks = []
    for state in (PeriodState.UNREAD, PeriodState.TO_CLEAR, PeriodState.CLEARED):
        for training in (False, True):
            for run in ("", RunState.QUEUED):
                disk = make_disk(make_company())
                scenes.period(disk, state)
                if run:
                    scenes.run(disk, RunState(run))
                with agency_scope(agency.pk):
                    TaxDisk.objects.filter(pk=disk.pk).update(training=training)
                disks.append(disk)
    companies = [disk.company_id for disk in disks]
    with agency_scope(agency.pk):
        shown = preview(
            ActionKind(intent),
            Company.objects.filter(pk__in=companies),
            Month.parse(scenes.PERIOD),
            NOW.date(),
        )
        done = batch_start(
            disk_ids=[disk.pk for disk in disks], intent=intent, key="k", started_by="x", now=NOW
        )
    assert (shown.fresh, shown.joined) == (done.started, done.joined)
    assert dict(shown.skipped) == dict(Counter(why for _disk, why in done.skipped))
    if intent == "report":
        assert shown.skipped == {"测试盘": 6, "本月已清卡": 1, "本月已抄报": 1}


def test_another_agencys_disk_is_not_there(
    agency: Agency, other_agency: Agency, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    theirs = make_disk(make_company(of=other_agency))
    with agency_scope(agency.pk), pytest.raises(ServiceError):
        batch_start(disk_ids=[theirs.pk], intent="read", key="k", started_by="x", now=NOW)


def test_a_retry_with_nothing_failed_is_refused(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    """Named regression: a retry with nothing failed is refused, and starts nothing."""
    machine.present(disk)
    (run,) = start(disk)
    with agency_scope(agency.pk), pytest.raises(ServiceError, match="无需重试"):
        run_retry(run_ids=[run.pk], key="k", started_by="郑会计", now=NOW)
    machine.claim()
    machine.settle("failed", code="device_damaged")
    with agency_scope(agency.pk):
        started = run_retry(run_ids=[run.pk], key="k", started_by="郑会计", now=NOW)
        assert (started.started, started.batch.intent) == (1, "report_and_clear")


def test_a_queued_run_is_cancelled_at_once_and_an_unknown_one_never(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    with agency_scope(agency.pk):
        run_cancel(run_id=run.pk, by="郑会计", now=NOW)
    assert again(run).state == RunState.CANCELLED
    (run,) = start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk))
    machine.on_run("release")
    with agency_scope(agency.pk), pytest.raises(ServiceError, match="结果待核实"):
        run_cancel(run_id=run.pk, by="郑会计", now=NOW)


def test_a_filed_mark_wakes_what_waited_for_it_and_warns_before_the_report(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    with agency_scope(agency.pk):
        early = mark_filed(company_ids=[disk.company_id], period="2026-10", by="郑会计", now=NOW)
        assert early.warned == [disk.company_id]
        assert (
            unmark_filed(company_ids=[disk.company_id], period="2026-10", by="郑会计", now=NOW) == 1
        )
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.settle(
        "waiting",
        machine.identified(disk),
        machine.read(REPORTED),
        reason="filing",
        code="not_filed",
        retry_after=7200,
    )
    assert again(run).reason == Reason.FILING
    with agency_scope(agency.pk):
        marked = mark_filed(company_ids=[disk.company_id], period="2026-10", by="郑会计", now=NOW)
        assert (marked.marked, marked.warned) == (1, [])
    order = machine.claim()
    assert order is not None
    assert order["filed"] == ["2026-10"]


def test_an_entry_by_hand_closes_the_waiting_run_and_is_not_cleared(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.settle("waiting", machine.read(REPORTED), reason="by_hand", code="not_supported")
    with agency_scope(agency.pk):
        row = DiskPeriod.objects.get(disk=disk)
        with pytest.raises(ServiceError, match="写明依据"):
            enter_by_hand(disk_period_id=row.pk, by="吴主管", note=" ", now=NOW)
        enter_by_hand(disk_period_id=row.pk, by="吴主管", note="厂家软件已清", now=NOW)
        assert DiskPeriod.objects.get(pk=row.pk).state == PeriodState.BY_HAND
    assert again(run).state == RunState.SKIPPED
    start(disk, intent="read")
    machine.claim()
    machine.settle("done", machine.read(CLEARED))
    with agency_scope(agency.pk):
        assert DiskPeriod.objects.get(pk=row.pk).state == PeriodState.CLEARED
