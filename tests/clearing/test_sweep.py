"""What time brings, and what the sweeper must never do."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from agency.access import due_agencies
from agency.choices import Action
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.models import Attempt, Batch, Run, Tick
from clearing.services.sweep import sweep, tick
from clearing.states import Reason, RunState
from devices.models import Machine, Slot, TaxDisk
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import REPORTED, TO_REPORT, PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk, Person

Again = Callable[[Any], Any]


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company())


def later(seconds: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


def round_(
    agency: Agency, seconds: float = 0, *, now: dt.datetime = NOW, leases: bool = True
) -> None:
    with agency_scope(agency.pk):
        sweep(now=now, real_now=later(seconds), leases=leases)


def test_a_lease_over_without_an_intent_goes_back_to_the_queue(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    round_(agency)
    assert again(run).state == RunState.CLAIMED
    round_(agency, 500, leases=False)
    assert again(run).state == RunState.CLAIMED
    with agency_scope(agency.pk):
        Run.objects.update(lease_until=later(-1))
    round_(agency)
    assert again(run).state == RunState.QUEUED
    with agency_scope(agency.pk):
        assert AuditEntry.objects.filter(action=Action.RUN_LEASE_OVER).count() == 1


def test_a_lease_over_with_an_open_intent_is_unknown_and_never_failed(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk))
    for _ in range(3):
        round_(agency, 10_000)
    assert again(run).state == RunState.UNKNOWN


def test_the_late_settlement_of_the_newest_attempt_still_counts(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk, intent="report")
    machine.claim()
    machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    with agency_scope(agency.pk):
        Run.objects.update(lease_until=later(-1))
    round_(agency)
    assert again(run).state == RunState.UNKNOWN
    assert machine.settle("done", machine.read(REPORTED)).json()["state"] == "done"


def test_a_wait_that_is_over_is_queued_again(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.settle("waiting", reason="bureau", code="bureau_unreachable", retry_after=60)
    round_(agency)
    assert again(run).reason == Reason.BUREAU
    with agency_scope(agency.pk):
        Run.objects.update(next_try_at=later(-1))
    round_(agency)
    assert again(run).state == RunState.QUEUED


def test_trouble_that_repeats_ends_with_a_person(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    states = []
    for _ in range(7):
        assert machine.claim() is not None
        machine.settle("waiting", reason="bureau", code="bureau_unreachable", retry_after=0)
        states.append(again(run).state)
        with agency_scope(agency.pk):
            Run.objects.filter(state="waiting").update(next_try_at=later(-1))
        round_(agency)
    assert states == ["waiting"] * 6 + ["failed"]
    assert again(run).code == "bureau_unreachable"


def test_a_queued_run_whose_disk_went_away_says_that_it_waits_for_it(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.present()
    round_(agency)
    assert (again(run).state, again(run).reason) == (RunState.WAITING, Reason.DISK)
    machine.present(disk)
    assert again(run).state == RunState.QUEUED
    round_(agency, 60)
    assert again(run).reason == Reason.MACHINE


def test_what_an_absent_disk_waits_for_follows_its_machine(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    round_(agency, 60)
    assert again(run).reason == Reason.MACHINE
    machine.present()  # it is back, without the disk
    round_(agency)
    assert again(run).reason == Reason.DISK
    round_(agency, 60)
    assert again(run).reason == Reason.MACHINE


def test_a_disk_in_a_machine_that_is_off_waits_for_the_machine_though_another_is_on(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    with agency_scope(agency.pk):
        for table in (Machine, Slot):
            table._default_manager.update(seen_at=later(-3600))
    PlayedMachine.enrol(agency, "读盘机二").present()
    round_(agency)
    assert again(run).reason == Reason.MACHINE
    machine.present()
    round_(agency)
    assert again(run).reason == Reason.DISK


def test_when_the_month_has_turned_a_waiting_run_is_superseded_but_an_unknown_one_is_not(
    agency: Agency,
    machine: PlayedMachine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
    again: Again,
) -> None:
    waiting, doubtful = make_disk(make_company()), make_disk(make_company())
    machine.present(doubtful)
    (run_a,) = start(waiting)
    (run_b,) = start(doubtful)
    machine.claim()
    machine.intend("report", machine.identified(doubtful))
    machine.on_run("release")
    round_(agency, now=NOW.replace(month=12))
    assert again(run_a).state == RunState.SUPERSEDED
    assert again(run_b).state == RunState.UNKNOWN


def test_a_batch_ends_with_its_last_busy_run_and_waiting_ones_do_not_hold_it(
    agency: Agency,
    machine: PlayedMachine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
) -> None:
    absent, present = make_disk(make_company()), make_disk(make_company())
    machine.present(present)
    start(absent, present, intent="read")
    round_(agency)
    with agency_scope(agency.pk):
        assert Batch.objects.get().ended_at is None
    machine.claim()
    machine.settle("done", machine.read(TO_REPORT))
    with agency_scope(agency.pk):
        assert Batch.objects.get().ended_at is not None


def test_an_unknown_run_holds_its_batch_for_an_hour_at_most(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk))
    machine.on_run("release")
    round_(agency, 3500)
    with agency_scope(agency.pk):
        assert Batch.objects.get().ended_at is None
        Attempt.objects.update(ended_at=later(-3700))
    round_(agency)  # the disk is there: it will be read
    with agency_scope(agency.pk):
        assert Batch.objects.get().ended_at is None
    round_(agency, 60)
    with agency_scope(agency.pk):
        assert Batch.objects.get().ended_at is not None


def notices(agency: Agency) -> int:
    with agency_scope(agency.pk):
        return AuditEntry.objects.filter(action=Action.RUN_UNKNOWN_NOTICE).count()


def test_a_doubt_whose_disk_is_away_gives_one_notice_and_the_read_ends_it(
    agency: Agency,
    machine: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    owner: Person,
    login: Callable[[Person], Client],
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk))
    machine.on_run("release")
    round_(agency)
    assert notices(agency) == 0
    machine.present()
    round_(agency)
    round_(agency, 7200)
    assert notices(agency) == 1
    for page in ("/", "/failures"):
        assert f"请插入税盘 {disk.device_no}" in login(owner).get(page).content.decode()
    machine.present(disk)
    machine.claim()
    machine.settle("done", machine.identified(disk), machine.read(TO_REPORT))
    assert "请插入税盘" not in login(owner).get("/").content.decode()


def test_a_doubt_that_nobody_read_for_an_hour_gives_a_notice_though_its_disk_is_there(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk))
    machine.on_run("release")
    with agency_scope(agency.pk):
        Attempt.objects.update(ended_at=later(-3700))
    round_(agency)
    round_(agency)
    assert notices(agency) == 1


def test_the_sweeper_is_patient_after_its_start_and_after_a_gap(database: None) -> None:
    Tick.objects.all().delete()
    start = dt.datetime(2026, 11, 9, 3, tzinfo=dt.UTC)

    def at(seconds: float) -> bool:
        return tick(real_now=start + dt.timedelta(seconds=seconds), every=2)

    assert not at(0)
    assert not at(2)
    assert [at(second) for second in range(4, 124, 2)].count(True) == 2
    assert not at(200)
    assert not at(202)


def test_agencies_with_open_work_are_due_and_others_are_not(
    agency: Agency, other_agency: Agency, disk: TaxDisk, start: StartBatch
) -> None:
    assert agency.pk not in due_agencies("sweep")
    start(disk)
    due = due_agencies("sweep")
    assert agency.pk in due
    assert other_agency.pk not in due
