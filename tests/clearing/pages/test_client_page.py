"""The client's page: a clear answer about the own companies, and nothing of anybody else."""

from __future__ import annotations

from collections.abc import Callable

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agency.scope import agency_scope
from agency.services import company_assign
from clearing.choices import PeriodState
from clearing.states import Reason, RunState
from tests.clearing import scenes
from tests.conftest import MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]


def look(login: Login, person: Person) -> str:
    response = login(person).get("/")
    assert response.status_code == 200
    return response.content.decode()


def test_a_done_month_is_said_clearly_with_date_and_contact(
    login: Login,
    client_person: Person,
    bookkeeper: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    company = make_company(name="杭州晨光商贸有限公司", assigned_to=client_person)
    with agency_scope(company.agency_id):
        company_assign(companies=[company], member=bookkeeper.member)
    disk = make_disk(company)
    scenes.period(disk, PeriodState.CLEARED)
    scenes.period(disk, PeriodState.CLEARED, period="2026-09")
    make_company(name="别人的有限公司")

    page = look(login, client_person)

    assert "杭州晨光商贸有限公司" in page
    assert "本月已清卡" in page
    assert "12月15日" in page
    assert "11月9日 10:12 读盘" in page
    assert "郑会计" in page
    assert "2026年9月" in page
    assert "别人的" not in page
    assert "可以开票" not in page


def test_what_the_agency_waits_for_is_asked_in_the_clients_words(
    login: Login, client_person: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company = make_company(assigned_to=client_person)
    scenes.run(make_disk(company), RunState.FAILED, code="password_wrong", raw_code="63C2")
    scenes.run(make_disk(company, terminal_no=1), RunState.WAITING, reason=Reason.DISK)

    page = look(login, client_person)

    assert "本月尚未清卡" in page
    assert "需要您配合" in page
    assert "请把税盘现在的口令告诉代账机构" in page
    assert "代账机构在等税盘插上" in page
    assert "63C2" not in page


def test_an_entry_by_hand_is_not_called_cleared(
    login: Login, client_person: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    scenes.period(make_disk(make_company(assigned_to=client_person)), PeriodState.BY_HAND)

    page = look(login, client_person)

    assert "已人工登记，尚未读盘核实" in page
    assert "已清卡" not in page


def test_a_company_without_disk_needs_none(
    login: Login, client_person: Person, make_company: MakeCompany
) -> None:
    make_company(assigned_to=client_person)

    assert "无需清卡 (数电)" in look(login, client_person)


def test_a_client_reaches_no_page_of_the_staff(
    login: Login, client_person: Person, make_company: MakeCompany
) -> None:
    own = make_company(assigned_to=client_person)
    client = login(client_person)

    for path in (f"/companies/{own.pk}", "/failures", "/batches", "/audit"):
        assert client.get(path).status_code == 403
    assert "主导航" not in client.get("/").content.decode()


def test_the_number_of_queries_does_not_grow_with_the_companies(
    login: Login, client_person: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    client = login(client_person)

    def asked() -> int:
        with CaptureQueriesContext(connection) as seen:
            client.get("/")
        return len(seen)

    def add() -> None:
        disk = make_disk(make_company(assigned_to=client_person))
        scenes.period(disk, PeriodState.CLEARED)
        scenes.period(disk, PeriodState.CLEARED, period="2026-09")

    add()
    few = asked()
    for _ in range(6):
        add()

    assert asked() == few
