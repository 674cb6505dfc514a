"""More runs than one round moves: none is kept from its turn by those before it."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest

from agency.models import Agency, Bureau
from agency.scope import agency_scope
from clearing.choices import Intent
from clearing.models import BureauPause, Run
from clearing.services import parked
from clearing.services.sweep import sweep
from clearing.states import Reason, RunState
from clearing.stops import PauseCause
from devices.models import TaxDisk
from tests.clearing import scenes
from tests.clearing.machine import PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk

pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.fixture(autouse=True)
def _two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parked, "AT_ONCE", 2)


@pytest.fixture
def bureau(database: None) -> Bureau:
    own = uuid.uuid4()
    return Bureau.objects.create(
        code=str(own.int)[:11], name=f"某局 {own}", address=f"http://{own}.test/", simulated=True
    )


@pytest.fixture
def disks(bureau: Bureau, make_company: MakeCompany, make_disk: MakeDisk) -> list[TaxDisk]:
    """Five, of companies of one bureau; the oldest first."""
    return [make_disk(make_company(bureau=bureau)) for _ in range(5)]


def later(seconds: float) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


def waits(disk: TaxDisk, reason: Reason, until: dt.datetime | None) -> Run:
    return scenes.run(disk, RunState.WAITING, reason=reason, next_try_at=until)


def round_(agency: Agency) -> None:
    with agency_scope(agency.pk):
        sweep(now=NOW, real_now=later(0), leases=False)


def state(run: Run) -> tuple[str, str]:
    with agency_scope(run.agency_id):
        found = Run.objects.get(pk=run.pk)
    return found.state, found.reason


def paused(agency: Agency, bureau: Bureau, until: dt.datetime) -> None:
    with agency_scope(agency.pk):
        BureauPause.objects.create(
            agency=agency,
            address=bureau.address,
            opened_at=later(0),
            cause=PauseCause.OWN,
            next_probe_at=until,
        )


def test_a_wait_that_is_over_ends_though_many_before_it_wait_for_a_paused_bureau(
    agency: Agency, machine: PlayedMachine, bureau: Bureau, disks: list[TaxDisk]
) -> None:
    machine.present(*disks)
    paused(agency, bureau, later(3600))
    for disk in disks[:4]:
        waits(disk, Reason.BUREAU, later(-60))
    last = scenes.run(
        disks[4],
        RunState.WAITING,
        intent=Intent.READ,
        reason=Reason.RETRY,
        next_try_at=later(-60),
    )
    round_(agency)
    assert state(last) == ("queued", "")


def test_a_run_whose_time_at_the_bureau_has_come_goes_on_though_many_before_it_have_longer(
    agency: Agency, machine: PlayedMachine, disks: list[TaxDisk]
) -> None:
    machine.present(*disks)
    for disk in disks[:4]:
        waits(disk, Reason.BUREAU, later(3600))
    last = waits(disks[4], Reason.BUREAU, later(-60))
    round_(agency)
    assert state(last) == ("queued", "")


def test_every_run_at_a_paused_bureau_learns_of_the_next_probe_a_few_in_each_round(
    agency: Agency, bureau: Bureau, disks: list[TaxDisk]
) -> None:
    until = later(3600)
    paused(agency, bureau, until)
    for disk in disks:
        waits(disk, Reason.BUREAU, None)
    known = []
    for _ in range(3):
        round_(agency)
        with agency_scope(agency.pk):
            known.append(Run.objects.filter(next_try_at=until).count())
    assert known == [2, 4, 5]
