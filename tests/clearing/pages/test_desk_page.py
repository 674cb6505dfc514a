"""客户与税盘: the counter starts what waits for the disk in hand, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.models import Run
from clearing.states import Reason, RunState
from devices.models import TaxDisk
from tests.clearing import scenes
from tests.clearing.machine import PlayedMachine
from tests.conftest import MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company(short_name="晨光商贸"))


@pytest.fixture
def machine(agency: Agency) -> PlayedMachine:
    return PlayedMachine.enrol(agency)


def press(client: Client, disk: TaxDisk) -> str:
    response = client.post(f"/disks/{disk.pk}/start", follow=True)
    assert response.status_code == 200
    return response.content.decode()


def reload(run: Run) -> Run:
    with agency_scope(run.agency_id):
        return Run.objects.get(pk=run.pk)


def test_the_disk_at_the_counter_goes_before_the_rest(
    login: Login,
    agency: Agency,
    front_desk: Person,
    machine: PlayedMachine,
    disk: TaxDisk,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    earlier = make_disk(make_company())
    scenes.run(earlier, RunState.QUEUED)
    run = scenes.run(disk, RunState.WAITING, reason=Reason.DISK)
    machine.present(earlier, disk)
    client = login(front_desk)
    assert "开始办理" in client.get("/").content.decode()

    assert "已排到最前" in press(client, disk)

    assert reload(run).state == RunState.QUEUED
    order = machine.claim()
    assert order is not None
    assert order["run_id"] == run.pk
    with agency_scope(agency.pk):
        assert AuditEntry.objects.get(action="run.walk_in").actor_name == "王前台"


def test_without_the_disk_or_without_a_wait_nothing_starts(
    login: Login, agency: Agency, front_desk: Person, machine: PlayedMachine, disk: TaxDisk
) -> None:
    client = login(front_desk)
    assert "请先插好" in press(client, disk)
    machine.present(disk)
    assert "没有等待办理的事项" in press(client, disk)
    with agency_scope(agency.pk):
        assert not Run.objects.exists()
    assert "开始办理" not in client.get("/").content.decode()


@pytest.mark.parametrize(
    ("run_state", "reason", "sentence"),
    [
        (RunState.WAITING, Reason.FILING, "它在等：待申报"),
        (RunState.WAITING, Reason.BY_HAND, "它在等：待人工办理"),
        (RunState.CLAIMED, "", "请勿拔盘"),
    ],
)
def test_what_waits_for_something_else_goes_on_waiting(
    login: Login,
    front_desk: Person,
    machine: PlayedMachine,
    disk: TaxDisk,
    run_state: RunState,
    reason: str,
    sentence: str,
) -> None:
    run = scenes.run(disk, run_state, reason=reason)
    machine.present(disk)
    assert sentence in press(login(front_desk), disk)
    assert (reload(run).state, reload(run).reason) == (run_state, reason)


def test_own_foreign_and_forbidden(
    login: Login,
    front_desk: Person,
    supervisor: Person,
    bookkeeper: Person,
    client_person: Person,
    outsider: Person,
    disk: TaxDisk,
) -> None:
    path = f"/disks/{disk.pk}/start"
    for person, status in (
        (front_desk, 302),
        (supervisor, 302),
        (bookkeeper, 403),  # a colleague's client
        (client_person, 404),
        (outsider, 404),
    ):
        assert login(person).post(path).status_code == status
    assert login(front_desk).get(path).status_code == 405
    assert login(front_desk).post("/disks/999999/start").status_code == 404
