"""处理 PIN: who may, what is asked, and where the buttons stand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.states import RunState
from devices.choices import PasswordState
from devices.models import TaxDisk
from devices.services import disk_passwords, machine_create, pin_intent_open
from tests.clearing import scenes
from tests.conftest import NOW, MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk, bookkeeper: Person) -> TaxDisk:
    """A card whose PIN is in doubt."""
    disk = make_disk(make_company(short_name="晨光商贸", assigned_to=bookkeeper))
    set_disk(disk, password_state=PasswordState.PIN_UNKNOWN)
    return disk


def set_disk(disk: TaxDisk, **values: object) -> None:
    with agency_scope(disk.agency_id):
        TaxDisk.objects.filter(pk=disk.pk).update(**values)


def state(disk: TaxDisk) -> str:
    with agency_scope(disk.agency_id):
        return TaxDisk.objects.get(pk=disk.pk).password_state


def send(client: Client, disk: TaxDisk) -> str:
    response = client.post(f"/disks/{disk.pk}/pin", follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_a_supervisor_allows_one_try(
    login: Login, agency: Agency, supervisor: Person, disk: TaxDisk
) -> None:
    client = login(supervisor)
    page = client.get(f"/disks/{disk.pk}/pin").content.decode()
    for words in ("找回原读盘机", "准许试一次原 PIN", "录入卡上现在的 PIN"):
        assert words in page
    assert state(disk) == PasswordState.PIN_UNKNOWN

    assert "已准许试一次原 PIN" in send(client, disk)

    assert state(disk) == PasswordState.UNTRIED
    with agency_scope(agency.pk):
        assert AuditEntry.objects.get(action="disk.pin_try_allowed").actor_name == "吴主管"
    assert "不需要试" in send(client, disk)  # the same click again


def test_with_two_tries_left_there_is_no_button_and_a_form_of_before_is_refused(
    login: Login, supervisor: Person, disk: TaxDisk
) -> None:
    set_disk(disk, tries_left=2)
    client = login(supervisor)
    page = client.get(f"/disks/{disk.pk}/pin").content.decode()
    assert "不能再试" in page
    assert "准许试一次" not in page
    assert "只剩 2 次" in send(client, disk)
    assert state(disk) == PasswordState.PIN_UNKNOWN


def test_while_a_machine_holds_the_pin_the_page_leads_to_the_machine(
    login: Login, agency: Agency, supervisor: Person, disk: TaxDisk
) -> None:
    with agency_scope(agency.pk):
        machine = machine_create(agency=agency, name="前台").machine
        pin_intent_open(disk=TaxDisk.objects.get(pk=disk.pk), machine=machine, now=NOW)
    client = login(supervisor)

    page = client.get(f"/disks/{disk.pk}/pin").content.decode()

    assert f'href="/machines/{machine.pk}/lost"' in page
    assert "准许试一次" not in page
    assert "由读盘机“前台”保管" in client.get(f"/companies/{disk.company_id}").content.decode()
    entered = client.post(f"/disks/{disk.pk}/password", {"device_password": "12345678"})
    assert "申明它已丢失" in entered.content.decode()


def test_the_buttons_stand_where_the_pin_is_in_doubt(
    login: Login, supervisor: Person, bookkeeper: Person, disk: TaxDisk
) -> None:
    scenes.run(disk, RunState.FAILED, code="pin_unknown")
    link, company = f'href="/disks/{disk.pk}/pin"', f"/companies/{disk.company_id}"

    for path in (company, "/failures"):
        assert link in login(supervisor).get(path).content.decode()
        assert link not in login(bookkeeper).get(path).content.decode()
    assert "请主管处理" in login(bookkeeper).get(company).content.decode()
    set_disk(disk, password_state=PasswordState.GOOD)
    page = login(supervisor).get(company).content.decode()
    assert link not in page
    assert f'href="/disks/{disk.pk}/password"' in page


def test_another_pin_for_one_in_doubt_is_a_supervisors_matter(
    login: Login, agency: Agency, supervisor: Person, bookkeeper: Person, disk: TaxDisk
) -> None:
    path, said = f"/disks/{disk.pk}/password", {"device_password": "87654321"}
    assert login(bookkeeper).get(path).status_code == 403
    assert login(bookkeeper).post(path, said).status_code == 403
    login(supervisor).post(path, said)
    with agency_scope(agency.pk):
        assert disk_passwords(TaxDisk.objects.get(pk=disk.pk))[0] == "87654321"


def test_own_foreign_and_forbidden(
    login: Login,
    owner: Person,
    supervisor: Person,
    bookkeeper: Person,
    front_desk: Person,
    client_person: Person,
    outsider: Person,
    disk: TaxDisk,
) -> None:
    set_disk(disk, tries_left=1)  # so that those who may are refused by the rule, not by right

    def statuses(person: Person) -> tuple[int, int]:
        client, path = login(person), f"/disks/{disk.pk}/pin"
        return client.get(path).status_code, client.post(path).status_code

    assert statuses(owner) == statuses(supervisor) == (200, 200)
    assert statuses(bookkeeper) == statuses(front_desk) == (403, 403)
    assert statuses(client_person) == statuses(outsider) == (404, 404)
    assert login(owner).get("/disks/999999/pin").status_code == 404
    assert state(disk) == PasswordState.PIN_UNKNOWN
