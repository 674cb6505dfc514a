"""What people want changes while a machine works: cancelled, pressed again, tried again."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agency.choices import Action
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.choices import Intent
from clearing.models import Batch, DiskPeriod, Run
from clearing.services import enter_by_hand, run_cancel, run_retry
from clearing.services.sweep import sweep
from clearing.states import Reason, RunState
from devices.models import Machine, TaxDisk
from tests.clearing import scenes
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import CLEARED, REPORTED, TO_REPORT, PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk

Again = Callable[[Any], Any]
UNREACHABLE = {"reason": "bureau", "code": "bureau_unreachable", "retry_after": 60}

pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company())


def cancel(agency: Agency, run: Run) -> None:
    with agency_scope(agency.pk):
        run_cancel(run_id=run.pk, by="郑会计", now=NOW)


def retry(agency: Agency, *runs: Run) -> Batch:
    with agency_scope(agency.pk):
        return run_retry(
            run_ids=[run.pk for run in runs], key=str(uuid.uuid4()), started_by="郑会计", now=NOW
        ).batch


def due(agency: Agency) -> None:
    """What waits for a time has waited long enough."""
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    with agency_scope(agency.pk):
        Run.objects.filter(next_try_at__isnull=False).update(next_try_at=past)
        sweep(now=NOW, real_now=dt.datetime.now(dt.UTC), leases=False)


# -- retry ----------------------------------------------------------------------------------------


def test_each_failed_run_is_tried_again_with_what_it_was_to_do(
    agency: Agency, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    wanted = list(Intent)
    failed = [
        scenes.run(make_disk(make_company()), RunState.FAILED, intent=intent, code="no_answer")
        for intent in wanted
    ]
    batch = retry(agency, *failed)
    assert batch.intent == "report_and_clear"  # the widest stands for all
    with agency_scope(agency.pk):
        started = dict(Run.objects.filter(batch=batch).values_list("disk", "intent"))
    assert [started[run.disk_id] for run in failed] == wanted


def test_of_a_disk_that_failed_twice_only_the_newest_is_tried_again(
    agency: Agency, disk: TaxDisk
) -> None:
    older = scenes.run(disk, RunState.FAILED, code="no_answer")
    newer = scenes.run(disk, RunState.FAILED, intent=Intent.READ, code="no_answer")
    batch = retry(agency, newer, older)
    with agency_scope(agency.pk):
        assert [run.intent for run in Run.objects.filter(batch=batch)] == ["read"]
        assert batch.intent == "read"
        assert AuditEntry.objects.filter(action=Action.RUN_RETRIED).count() == 1


# -- cancel ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        ("waiting", {"reason": "filing", "code": "not_filed", "retry_after": 7200}),
        ("waiting", UNREACHABLE),
        ("waiting", {"reason": "disk", "code": "disk_absent"}),
        ("unknown", {"code": "no_answer"}),
        ("cancelled", {}),
    ],
)
def test_a_run_that_was_cancelled_neither_waits_nor_queues_again(
    agency: Agency,
    machine: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    again: Again,
    end: str,
    outcome: dict[str, Any],
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    cancel(agency, run)
    assert machine.settle(end, machine.read(TO_REPORT), **outcome).json()["state"] == "cancelled"
    assert again(run).state == RunState.CANCELLED


def test_a_widened_run_that_was_cancelled_ends_with_its_narrow_order(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk, intent="read")
    machine.claim()
    (run,) = start(disk)
    cancel(agency, run)
    assert machine.settle("done", machine.read(TO_REPORT)).json()["state"] == "cancelled"


def test_the_late_read_of_a_cancelled_doubt_ends_the_run(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk))
    cancel(agency, run)
    machine.on_run("release")
    machine.on_run("record", machine.read(REPORTED))
    due(agency)
    assert again(run).state == RunState.CANCELLED


def test_a_new_click_takes_a_cancel_back_and_the_run_goes_on(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    cancel(agency, run)
    assert [joined.pk for joined in start(disk)] == [run.pk]
    assert again(run).cancel_requested_by == ""
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action=Action.RUN_JOINED)
    assert entry.data["cancel_taken_back"] == "郑会计"
    assert machine.clear_all(disk).json()["state"] == "done"


def test_a_machine_that_already_stopped_for_the_cancel_starts_again(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    cancel(agency, run)
    denied = machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    assert denied.json()["reason"] == "cancelled"
    start(disk)
    assert machine.settle("cancelled").json()["state"] == "queued"
    assert machine.claim() is not None
    assert machine.clear_all(disk).json()["state"] == "done"


def test_a_cancelled_clear_that_is_then_only_to_be_read_is_not_written(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    cancel(agency, run)
    start(disk, intent="read")
    assert again(run).intent == "read"
    denied = machine.intend("report", machine.identified(disk))
    assert (denied.status_code, denied.json()["reason"]) == (409, "cancelled")
    assert machine.settle("cancelled").json()["state"] == "queued"
    order = machine.claim()
    assert order is not None
    assert order["intent"] == "read"
    assert machine.settle("done", machine.read(TO_REPORT)).json()["state"] == "done"


def test_the_read_that_the_cancelled_order_brought_is_the_read_that_was_wanted(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    cancel(agency, run)
    start(disk, intent="read")
    ended = machine.settle("waiting", machine.read(REPORTED), reason="filing", code="not_filed")
    assert ended.json()["state"] == "done"


# -- patience -------------------------------------------------------------------------------------


def test_waiting_for_the_return_uses_up_no_patience_with_the_bureau(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    not_filed = {"reason": "filing", "code": "not_filed", "retry_after": 7200}
    for outcome in [not_filed] * 8 + [UNREACHABLE] * 6:
        assert machine.claim() is not None
        assert machine.settle("waiting", **outcome).json()["state"] == "waiting"
        due(agency)
    machine.claim()
    assert machine.settle("waiting", **UNREACHABLE).json()["state"] == "failed"


def test_a_run_that_got_further_is_tried_anew(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    for read in [TO_REPORT] * 6 + [REPORTED] * 6:
        assert machine.claim() is not None
        ended = machine.settle("waiting", machine.read(read), **UNREACHABLE)
        assert ended.json()["state"] == "waiting"
        due(agency)
    machine.claim()
    assert machine.settle("waiting", **UNREACHABLE).json()["state"] == "failed"


def test_a_machine_that_says_no_time_gets_the_tables(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    for reason in ("retry", "window", "quiet", "confirm", "filing", "bureau"):
        assert machine.claim() is not None
        machine.settle("waiting", reason=reason)
        assert again(run).next_try_at is not None, reason
        due(agency)


# -- read -----------------------------------------------------------------------------------------


def test_a_read_is_done_by_a_read_of_its_own(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    start(disk, intent="read")
    machine.claim()
    assert machine.settle("done", machine.read(TO_REPORT)).json()["state"] == "done"
    (run,) = start(disk, intent="read")
    machine.claim()
    assert machine.settle("done").json()["state"] == "failed"
    assert again(run).code == "no_answer"


def test_a_click_has_a_run_that_waits_for_work_elsewhere_read_again(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.settle("waiting", machine.read(REPORTED), reason="by_hand", code="not_supported")
    due(agency)
    assert (again(run).state, again(run).reason) == (RunState.WAITING, Reason.BY_HAND)
    start(disk, intent="read")
    assert again(run).state == RunState.QUEUED
    assert machine.claim() is not None
    assert machine.settle("done", machine.read(CLEARED)).json()["state"] == "done"


# -- where a disk is ------------------------------------------------------------------------------


def test_a_disk_whose_machine_is_off_waits_for_the_machine(
    agency: Agency,
    machine: PlayedMachine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
) -> None:
    inside, pulled, nowhere = (make_disk(make_company()) for _ in range(3))
    machine.present(inside)
    PlayedMachine.enrol(agency, "读盘机二").present()
    long_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    with agency_scope(agency.pk):
        Machine.objects.filter(pk=machine.machine.pk).update(seen_at=long_ago)
        machine.machine.slots.update(seen_at=long_ago)
    runs = start(inside, pulled, nowhere)
    assert [run.reason for run in runs] == [Reason.MACHINE, Reason.DISK, Reason.DISK]


def test_while_no_machine_is_on_every_disk_waits_for_one(
    agency: Agency, disk: TaxDisk, start: StartBatch
) -> None:
    (run,) = start(disk)
    assert (run.state, run.reason) == (RunState.WAITING, Reason.MACHINE)


# -- locks ----------------------------------------------------------------------------------------


def locked(queries: CaptureQueriesContext) -> list[str]:
    """The tables whose rows were locked, each once, in the order of their first lock."""
    found = [
        each["sql"].split('FROM "')[1].split('"')[0]
        for each in queries
        if "FOR UPDATE" in each["sql"] or "FOR NO KEY UPDATE" in each["sql"]
    ]
    order = ["devices_taxdisk", "clearing_run", "clearing_diskperiod"]
    return [table for table in dict.fromkeys(found) if table in order]


def test_an_entry_by_hand_locks_in_the_order_of_a_settlement(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    with CaptureQueriesContext(connection) as settled:
        machine.settle("waiting", reason="by_hand", code="not_supported")
    with agency_scope(agency.pk):
        row = DiskPeriod.objects.get(disk=disk)
        with CaptureQueriesContext(connection) as entered:
            enter_by_hand(disk_period_id=row.pk, by="吴主管", note="厂家软件已清", now=NOW)
    assert locked(entered) == locked(settled)
    assert len(locked(entered)) == 3
