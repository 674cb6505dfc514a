"""A company whose bureau is not filled in: its disks are read, and not reported or cleared."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from agency.errors import ServiceError
from agency.models import Agency
from agency.scope import agency_scope
from clearing.models import Run
from clearing.services import batch_start
from devices.models import TaxDisk
from devices.services import machine_create
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk, Person
from tests.conftest import bureau as simulated_bureau

pytestmark = pytest.mark.usefixtures("unhurried")

WHY = "未填主管税务机关，请导入客户表补填"


@pytest.fixture
def real_machine(agency: Agency) -> PlayedMachine:
    """A machine of real readers in an agency that works in earnest."""
    Agency.objects.filter(pk=agency.pk).update(practice=False)
    with agency_scope(agency.pk):
        made = machine_create(agency=agency, name="前台读盘机")
    return PlayedMachine(made.machine, made.token)


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company(bureau=None))


def test_its_disk_is_read_in_earnest(
    real_machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    real_machine.present(disk)
    start(disk, intent="read")
    assert real_machine.claim() is not None


def test_a_disk_of_the_practice_bureau_is_not_touched_in_earnest(
    real_machine: PlayedMachine, make_company: MakeCompany, make_disk: MakeDisk, start: StartBatch
) -> None:
    disk = make_disk(make_company(bureau=simulated_bureau()))
    real_machine.present(disk)
    start(disk, intent="read")
    assert real_machine.claim() is None


@pytest.mark.parametrize("intent", ["report", "report_and_clear"])
@pytest.mark.parametrize("reading", [False, True], ids=["idle", "being read"])
def test_it_is_left_out_of_a_batch_that_writes_and_the_batch_says_why(
    agency: Agency,
    disk: TaxDisk,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
    intent: str,
    reading: bool,
) -> None:
    other = make_disk(make_company())
    if reading:
        start(disk, intent="read")
    with agency_scope(agency.pk):
        started = batch_start(
            disk_ids=[disk.pk, other.pk], intent=intent, key="k", started_by="会计", now=NOW
        )
        assert (started.started, started.joined, started.skipped) == (1, 0, [(disk.pk, WHY)])
        assert set(Run.objects.filter(disk=disk).values_list("intent", flat=True)) <= {"read"}
        with pytest.raises(ServiceError):
            batch_start(disk_ids=[disk.pk], intent=intent, key="l", started_by="会计", now=NOW)


def test_the_confirmation_says_so_before(
    disk: TaxDisk, supervisor: Person, login: Callable[[Person], Client]
) -> None:
    client = login(supervisor)
    for action, told in (("report_and_clear", True), ("read", False)):
        page = client.get("/act/confirm", {"action": action, "company": str(disk.company_id)})
        assert (WHY in page.content.decode()) == told
