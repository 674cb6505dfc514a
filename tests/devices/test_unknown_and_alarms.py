"""Disks that nobody has on record, and disks that are where they must not be."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agency import clock
from agency.clock import real_now
from agency.models import Agency, AuditEntry, Company
from agency.scope import agency_scope
from deploy.embedded import EmbeddedValkey
from devices.alarms import alarms
from devices.choices import AlarmKind, DiskKind, PasswordState
from devices.models import Machine, Slot, TaxDisk
from devices.selectors import UnknownDisk, unknown_disks
from devices.services import (
    SlotReport,
    disk_create,
    disk_passwords,
    machine_create,
    presence_note,
)
from tests.conftest import NOW, MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]
STRANGER = "6619000099990001"
MARKER = "Zq7!marker"


@pytest.fixture(autouse=True)
def _morning(monkeypatch: pytest.MonkeyPatch, valkey: EmbeddedValkey) -> Iterator[None]:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    with redis.Redis.from_url(valkey.url) as client:
        for key in client.keys(f"{settings.SERVER_KEY_PREFIX}throttle:*"):
            client.delete(key)
    yield


def make_machine(agency: Agency, name: str) -> Machine:
    with agency_scope(agency.pk):
        return machine_create(agency=agency, name=name).machine


@pytest.fixture
def machine(agency: Agency) -> Machine:
    return make_machine(agency, "前台")


@pytest.fixture
def second(agency: Agency) -> Machine:
    return make_machine(agency, "机房")


def present(machine: Machine, *slots: SlotReport, ago: float = 0) -> None:
    with agency_scope(machine.agency_id):
        moment = real_now() - dt.timedelta(seconds=ago)
        presence_note(machine=machine, slots=slots, version="1", now=moment)


def shown(disk: TaxDisk, tax_id: str = "", name: str = "A-01") -> SlotReport:
    return SlotReport(name, disk.device_no or "", tax_id or disk.company.tax_id)


def stranger(tax_id: str = "", kind: str = DiskKind.IC_CARD, name: str = "A-03") -> SlotReport:
    return SlotReport(name, STRANGER, tax_id, kind, 1)


def slot_id(agency: Agency, number: str = STRANGER) -> int:
    with agency_scope(agency.pk):
        return Slot.objects.get(device_no=number).pk


def page(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


# -- unknown disks ------------------------------------------------------------------------------


def test_a_disk_without_a_record_is_listed_with_its_slot_and_company(
    login: Login, agency: Agency, bookkeeper: Person, machine: Machine, make_company: MakeCompany
) -> None:
    company = make_company(short_name="晨光商贸", assigned_to=bookkeeper)
    present(machine, stranger(company.tax_id))

    listed = page(login(bookkeeper), "/disks/unknown")

    for words in (STRANGER, "前台 A-03", company.tax_id, "晨光商贸", "分机 1"):
        assert words in listed


def offered() -> list[UnknownDisk]:
    return unknown_disks(real_now(), Company.objects.all())


def test_what_is_known_gone_or_on_two_machines_is_not_offered(
    agency: Agency,
    machine: Machine,
    second: Machine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    disk = make_disk(make_company())
    with agency_scope(agency.pk):
        present(machine, shown(disk), stranger())
        assert [found.slot.device_no for found in offered()] == [STRANGER]
        present(second, stranger())
        assert offered() == []
        present(second)
        present(machine, stranger(), ago=60)
        assert offered() == []


def add(client: Client, number: int, company: Company, **values: str) -> str:
    said = {
        "company": str(company.pk),
        "kind": DiskKind.IC_CARD.value,
        "terminal_no": "1",
        "device_no": STRANGER,
        "device_password": MARKER,
        **values,
    }
    response = client.post(f"/disks/unknown/{number}", said, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_a_bookkeeper_adds_it_to_an_own_company_with_its_pin(
    login: Login, agency: Agency, bookkeeper: Person, machine: Machine, make_company: MakeCompany
) -> None:
    company = make_company(short_name="晨光商贸", assigned_to=bookkeeper)
    make_company(short_name="别人的")
    present(machine, stranger(company.tax_id))
    client, number = login(bookkeeper), slot_id(agency)

    form = page(client, f"/disks/unknown/{number}")
    assert f'value="{company.pk}" selected' in form
    assert "别人的" not in form
    assert "卡上现在的 PIN" in form
    assert "证书口令" not in form
    after = add(client, number, company)

    assert f"税盘 {STRANGER} 已登记给 晨光商贸" in after
    assert MARKER not in after
    with agency_scope(agency.pk):
        disk = TaxDisk.objects.get(device_no=STRANGER)
        assert (disk.company_id, disk.terminal_no) == (company.pk, 1)
        assert disk.password_state == PasswordState.UNTRIED
        assert disk_passwords(disk)[0] == MARKER
        assert MARKER not in repr(list(AuditEntry.objects.values_list("data", flat=True)))
    assert client.get(f"/disks/unknown/{number}").status_code == 404  # known by now


def test_the_password_may_come_later(
    login: Login, agency: Agency, supervisor: Person, machine: Machine, make_company: MakeCompany
) -> None:
    company = make_company()
    present(machine, stranger(kind=""))
    add(login(supervisor), slot_id(agency), company, device_password="", kind=DiskKind.UKEY.value)
    with agency_scope(agency.pk):
        disk = TaxDisk.objects.get(device_no=STRANGER)
        assert (disk.kind, disk.password_state) == (DiskKind.UKEY, PasswordState.MISSING)


def test_what_does_not_fit_is_refused_and_nothing_is_written(
    login: Login, agency: Agency, supervisor: Person, machine: Machine, make_company: MakeCompany
) -> None:
    right, wrong = make_company(), make_company()
    present(machine, stranger(right.tax_id))
    client, number = login(supervisor), slot_id(agency)

    assert "与所选客户不符" in add(client, number, wrong)
    assert "税盘已经换了" in add(client, number, right, device_no="6619000099990002")
    assert "不带空格" in add(client, number, right, device_password="a b")
    with agency_scope(agency.pk):
        assert not TaxDisk.objects.exists()


def test_a_tax_id_of_nobody_or_of_a_colleague_says_what_to_do(
    login: Login, agency: Agency, bookkeeper: Person, machine: Machine, make_company: MakeCompany
) -> None:
    colleagues = make_company()
    present(machine, stranger("914201009999999999"))
    client, number = login(bookkeeper), slot_id(agency)
    assert "请先导入该客户" in page(client, f"/disks/unknown/{number}")
    present(machine, stranger(colleagues.tax_id))
    assert "没有分派给您" in page(client, f"/disks/unknown/{number}")
    add(client, number, colleagues)  # not among the choices
    with agency_scope(agency.pk):
        assert not TaxDisk.objects.exists()


def test_own_foreign_and_forbidden(
    login: Login,
    agency: Agency,
    other_agency: Agency,
    supervisor: Person,
    front_desk: Person,
    client_person: Person,
    outsider: Person,
    machine: Machine,
    make_company: MakeCompany,
) -> None:
    foreign_company = make_company(of=other_agency)
    present(machine, stranger())
    path = f"/disks/unknown/{slot_id(agency)}"

    assert login(supervisor).get(path).status_code == 200
    for person in (front_desk, client_person):
        assert login(person).get("/disks/unknown").status_code == 403
        assert login(person).get(path).status_code == 403
        assert login(person).post(path).status_code == 403
    assert login(outsider).get(path).status_code == 404
    assert STRANGER not in page(login(outsider), "/disks/unknown")
    assert login(supervisor).get("/disks/unknown/999999").status_code == 404
    add(login(supervisor), slot_id(agency), foreign_company)
    with agency_scope(agency.pk):
        assert not TaxDisk.objects.exists()


# -- alarms -------------------------------------------------------------------------------------


def entries(agency: Agency, action: str) -> list[AuditEntry]:
    with agency_scope(agency.pk):
        return list(AuditEntry.objects.filter(action=action).order_by("sequence"))


def test_a_disk_of_another_company_is_an_alarm_and_one_entry(
    agency: Agency, machine: Machine, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    disk, owner = make_disk(make_company(short_name="登记的")), make_company(short_name="真正的")
    for _report in range(4):
        present(machine, shown(disk, owner.tax_id))

    with agency_scope(agency.pk):
        (alarm,) = alarms(real_now())
        assert (alarm.kind, alarm.company, alarm.owner) == (AlarmKind.TAX_ID, disk.company, owner)
        assert "真正的" in alarm.text
        assert "登记的" in alarm.text
    (entry,) = entries(agency, "disk.alarm_tax_id")
    assert entry.company_id == disk.company_id
    assert entry.data["places"] == ["前台 A-01"]

    present(machine)
    present(machine, shown(disk, owner.tax_id))  # plugged in again: news again
    assert len(entries(agency, "disk.alarm_tax_id")) == 2


def test_a_tax_id_that_nobody_has_is_an_alarm_too(
    agency: Agency, machine: Machine, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    present(machine, shown(make_disk(make_company()), "914201009999999999"))
    with agency_scope(agency.pk):
        (alarm,) = alarms(real_now())
        assert alarm.owner is None
        assert "不符" in alarm.text


def test_a_record_that_is_added_while_the_disk_is_plugged_in_raises_the_alarm_then(
    agency: Agency, machine: Machine, make_company: MakeCompany
) -> None:
    wrong, right = make_company(), make_company()
    report = stranger(right.tax_id)
    present(machine, report)
    assert entries(agency, "disk.alarm_tax_id") == []
    with agency_scope(agency.pk):
        disk_create(company=wrong, kind=DiskKind.IC_CARD, device_no=STRANGER, now=NOW)
    present(machine, report)
    present(machine, report)
    assert len(entries(agency, "disk.alarm_tax_id")) == 1


def test_a_disk_on_two_machines_is_one_alarm_and_one_entry(
    agency: Agency,
    machine: Machine,
    second: Machine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    disk = make_disk(make_company())
    present(machine, shown(disk))
    for _report in range(3):
        present(second, shown(disk, name="B-07"))
        present(machine, shown(disk))

    with agency_scope(agency.pk):
        (alarm,) = alarms(real_now())
        assert (alarm.kind, alarm.places) == (AlarmKind.TWO_MACHINES, ("前台 A-01", "机房 B-07"))
    assert len(entries(agency, "disk.alarm_two_machines")) == 1
    present(machine)
    with agency_scope(agency.pk):
        assert alarms(real_now()) == []


def test_a_machine_that_went_silent_raises_no_alarm(
    agency: Agency,
    machine: Machine,
    second: Machine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    disk = make_disk(make_company())
    present(machine, shown(disk), ago=60)
    present(second, shown(disk))
    with agency_scope(agency.pk):
        assert alarms(real_now()) == []
    assert entries(agency, "disk.alarm_two_machines") == []


def test_alarms_stand_on_top_of_the_board_for_those_concerned(
    login: Login,
    agency: Agency,
    supervisor: Person,
    bookkeeper: Person,
    front_desk: Person,
    machine: Machine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    mine = make_disk(make_company(assigned_to=bookkeeper))
    theirs, nobodys = make_disk(make_company()), make_company()
    present(machine, shown(theirs, nobodys.tax_id))
    words = "盘上税号与登记客户不符"

    assert words in page(login(supervisor), "/")
    assert words in page(login(supervisor), "/machines")
    assert words not in page(login(bookkeeper), "/")
    assert words not in page(login(front_desk), "/")
    present(machine, shown(theirs, mine.company.tax_id))  # it says it is my company's
    assert words in page(login(bookkeeper), "/")
    present(machine, shown(mine, nobodys.tax_id))  # my company's record is contradicted
    assert words in page(login(bookkeeper), "/")


def test_another_agencys_disks_raise_nothing_here(
    agency: Agency,
    other_agency: Agency,
    machine: Machine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    disk = make_disk(make_company())
    elsewhere = make_machine(other_agency, "前台")
    present(machine, shown(disk))
    present(elsewhere, shown(disk, "914201009999999999"))
    for home in (agency, other_agency):
        with agency_scope(home.pk):
            assert alarms(real_now()) == []


def test_a_presence_report_asks_the_same_number_of_queries_for_many_disks(
    agency: Agency, machine: Machine, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    disks = [make_disk(make_company()) for _ in range(12)]

    def asked(count: int) -> int:
        reports = [shown(disk, name=f"A-{n}") for n, disk in enumerate(disks[:count])]
        present(machine, *reports)
        with CaptureQueriesContext(connection) as seen:
            present(machine, *reports)
        return len(seen)

    assert asked(2) == asked(12)
