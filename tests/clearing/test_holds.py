"""暂缓: kept back with a reason, shown, never cut inside a write, and let go again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from agency.choices import Action
from agency.errors import ServiceError
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.models import Hold, Run
from clearing.services import hold, release_hold
from clearing.services.sweep import sweep
from devices.models import TaxDisk
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import REPORTED, TO_REPORT, PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk, Person

pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.fixture
def disk(bookkeeper: Person, make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company(assigned_to=bookkeeper))


def keep(agency: Agency, *disks: TaxDisk, note: str = "客户要求月底再办") -> int:
    with agency_scope(agency.pk):
        return hold(
            disk_ids=[disk.pk for disk in disks],
            note=note,
            by="郑会计",
            real_now=dt.datetime.now(dt.UTC),
        )


def let_go(agency: Agency, *disks: TaxDisk) -> int:
    with agency_scope(agency.pk):
        return release_hold(
            disk_ids=[disk.pk for disk in disks], by="郑会计", real_now=dt.datetime.now(dt.UTC)
        )


def stands(agency: Agency, run: Run) -> tuple[str, str]:
    with agency_scope(agency.pk):
        found = Run.objects.get(pk=run.pk)
    return found.state, found.reason


def swept(agency: Agency) -> None:
    with agency_scope(agency.pk):
        sweep(now=NOW, real_now=dt.datetime.now(dt.UTC), leases=False)


def test_a_held_run_waits_says_so_and_goes_on_when_released(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    assert keep(agency, disk) == 1
    assert keep(agency, disk) == 0
    assert stands(agency, run) == ("waiting", "hold")
    swept(agency)
    assert machine.claim() is None
    assert let_go(agency, disk) == 1
    assert let_go(agency, disk) == 0
    assert machine.claim() is not None
    with agency_scope(agency.pk):
        for action in (Action.DISK_HELD, Action.DISK_RELEASED):
            assert AuditEntry.objects.filter(action=action).count() == 1


def test_a_hold_never_cuts_a_permitted_write_and_stops_the_next(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    granted = machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    assert granted.status_code == 200
    keep(agency, disk)
    assert stands(agency, run) == ("claimed", "")
    assert machine.on_run("renew").status_code == 200
    assert machine.keep(b"{}", machine.read(REPORTED)).status_code == 200
    denied = machine.intend("clear")
    assert (denied.status_code, denied.json()["reason"]) == (409, "held")
    machine.settle("waiting", reason="hold")
    assert stands(agency, run) == ("waiting", "hold")


def test_a_disk_released_while_its_run_was_being_stopped_is_not_forgotten(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    keep(agency, disk)
    machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    let_go(agency, disk)
    machine.settle("waiting", reason="hold")
    swept(agency)
    assert stands(agency, run) == ("queued", "")


def test_a_held_disk_may_be_read_and_a_doubt_about_it_is_settled(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    machine.on_run("release")
    keep(agency, disk)
    assert stands(agency, run) == ("unknown", "")
    order = machine.claim()
    assert order is not None
    assert order["intent"] == "read"
    machine.settle("done", machine.read(REPORTED))
    swept(agency)
    assert stands(agency, run) == ("waiting", "hold")


def test_a_new_click_leaves_a_held_disk_out_but_for_a_read(
    agency: Agency, disk: TaxDisk, start: StartBatch
) -> None:
    keep(agency, disk)
    with pytest.raises(ServiceError):
        start(disk)
    assert len(start(disk, intent="read")) == 1


def test_a_hold_wants_a_reason(agency: Agency, disk: TaxDisk) -> None:
    with pytest.raises(ServiceError):
        keep(agency, disk, note="  ")
    with agency_scope(agency.pk):
        assert not Hold.objects.exists()


def test_a_bookkeeper_holds_and_releases_own_clients_and_the_board_says_why(
    agency: Agency,
    machine: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    bookkeeper: Person,
    front_desk: Person,
    login: Callable[[Person], Client],
) -> None:
    client, company = login(bookkeeper), str(disk.company_id)
    asked = client.get("/act/confirm", {"action": "hold", "company": company}).content.decode()
    assert "将暂缓 1 只税盘" in asked
    body: dict[str, Any] = {"action": "hold", "company": company, "period": "2026-10"}
    client.post("/act/start", body)
    with agency_scope(agency.pk):
        assert not Hold.objects.exists()
    client.post("/act/start", {**body, "note": "等客户付款"})
    assert "暂缓：等客户付款" in client.get("/").content.decode()
    assert client.get("/", {"flag": "held"}).content.decode().count('name="company"') == 1
    assert login(front_desk).post("/act/start", {**body, "note": "x"}).status_code in {403, 404}
    client.post("/act/start", {**body, "action": "release"})
    assert "等客户付款" not in client.get("/").content.decode()


def test_another_bookkeepers_client_is_not_held(
    agency: Agency,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    bookkeeper: Person,
    login: Callable[[Person], Client],
) -> None:
    other = make_disk(make_company())
    body = {"action": "hold", "company": other.company_id, "period": "2026-10", "note": "x"}
    assert login(bookkeeper).post("/act/start", body).status_code == 403
    with agency_scope(agency.pk):
        assert not Hold.objects.exists()


def test_a_disk_that_a_held_client_gets_later_is_held_too_and_goes_on_with_the_rest(
    agency: Agency,
    machine: PlayedMachine,
    disk: TaxDisk,
    make_disk: MakeDisk,
    start: StartBatch,
    bookkeeper: Person,
    login: Callable[[Person], Client],
) -> None:
    """A bookkeeper holds a client back, not what is plugged in that day."""
    keep(agency, disk, note="等客户付款")
    later = make_disk(disk.company)
    with pytest.raises(ServiceError):
        start(later)
    asked = {"action": "release", "company": str(disk.company_id)}
    page = login(bookkeeper).get("/act/confirm", asked).content.decode()
    assert "将取消 2 只税盘的暂缓" in page
    assert keep(agency, later) == 0
    (reading,) = start(later, intent="read")
    machine.present(later)
    order = machine.claim()
    assert order is not None
    assert order["intent"] == "read"
    assert machine.settle("done", machine.identified(later), machine.read(TO_REPORT)).json()
    assert stands(agency, reading) == ("done", "")
    assert let_go(agency, disk) == 2
    (run,) = start(later)
    assert stands(agency, run) == ("queued", "")


def test_a_hold_of_one_disk_keeps_the_runs_of_all_disks_of_its_client(
    agency: Agency,
    machine: PlayedMachine,
    disk: TaxDisk,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
) -> None:
    second, other = make_disk(disk.company), make_disk(make_company())
    machine.present(disk, second, other)
    start(disk, second, other)
    assert keep(agency, disk) == 2
    order = machine.claim()
    assert order is not None
    assert order["device_no"] == other.device_no
    assert machine.claim() is None
    late = make_disk(disk.company)
    assert keep(agency, late) == 0
    assert let_go(agency, late) == 3


def test_a_hold_outlives_the_disk_that_it_was_made_with(
    agency: Agency, disk: TaxDisk, make_disk: MakeDisk, start: StartBatch
) -> None:
    """The disk is replaced; the client is held all the same, and can be let go."""
    keep(agency, disk)
    with agency_scope(agency.pk):
        TaxDisk.objects.filter(pk=disk.pk).update(retired_at=NOW)
    fresh = make_disk(disk.company)
    with pytest.raises(ServiceError):
        start(fresh)
    assert let_go(agency, fresh) == 1
    (run,) = start(fresh)
    assert stands(agency, run) == ("waiting", "machine")  # none is on


def test_a_permission_is_denied_to_a_held_clients_other_disk(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, make_disk: MakeDisk, start: StartBatch
) -> None:
    second = make_disk(disk.company)
    machine.present(second)
    start(second)
    machine.claim()
    keep(agency, disk)
    denied = machine.intend("report", machine.identified(second), machine.read(TO_REPORT))
    assert (denied.status_code, denied.json()["reason"]) == (409, "held")
