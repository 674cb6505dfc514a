"""操作留痕: who may look, and what can be looked for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.test import Client

from agency import audit
from agency.audit import Actor
from agency.choices import Action, ActorKind
from agency.models import Agency
from agency.scope import agency_scope
from agency.selectors import AuditQuery, audit_entries
from tests.conftest import MakeCompany, Person

Login = Callable[[Person], Client]


@pytest.fixture
def entries(agency: Agency, make_company: MakeCompany) -> None:
    """Two entries about two companies by two people, one of them ours only by name."""
    for short_name, person, action in (
        ("晨光", "郑会计", Action.COMPANY_CHANGED),
        ("恒泰", "吴主管", Action.PERIOD_FILED),
    ):
        company = make_company(short_name=short_name)
        with (
            audit.acting(Actor(ActorKind.USER, person)),
            agency_scope(agency.pk),
        ):
            audit.record(action, company, company_id=company.pk, data={"period": "2026-10"})


def found(agency: Agency, query: AuditQuery) -> list[str]:
    with agency_scope(agency.pk):
        return [
            str(entry.action)
            for entry in audit_entries(query)
            if entry.action in {Action.COMPANY_CHANGED, Action.PERIOD_FILED}
        ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (AuditQuery(), ["period.filed", "company.changed"]),
        (AuditQuery(company="晨"), ["company.changed"]),
        (AuditQuery(person="吴"), ["period.filed"]),
        (AuditQuery(action="period.filed"), ["period.filed"]),
        (AuditQuery(company="晨", person="吴"), []),
    ],
)
def test_the_trail_is_searched_by_company_person_and_action(
    agency: Agency, entries: None, query: AuditQuery, expected: list[str]
) -> None:
    assert found(agency, query) == expected


def test_days_are_those_of_beijing_and_both_ends_count(agency: Agency, entries: None) -> None:
    today = dt.datetime.now(dt.timezone(dt.timedelta(hours=8))).date()
    day = dt.timedelta(days=1)

    assert len(found(agency, AuditQuery(since=today, until=today))) == 2
    assert found(agency, AuditQuery(since=today + day)) == []
    assert found(agency, AuditQuery(until=today - day)) == []


def test_owner_and_supervisor_look_and_others_are_told_who_may(
    login: Login,
    owner: Person,
    supervisor: Person,
    bookkeeper: Person,
    front_desk: Person,
    entries: None,
) -> None:
    for person in (owner, supervisor):
        page = login(person).get("/audit").content.decode()
        assert "标记已申报" in page
        assert "恒泰" in page
    for person in (bookkeeper, front_desk):
        response = login(person).get("/audit")
        assert response.status_code == 403
        assert "负责人 周负责" in response.content.decode()


def test_the_other_agency_sees_none_of_it(login: Login, outsider: Person, entries: None) -> None:
    page = login(outsider).get("/audit").content.decode()

    assert "恒泰" not in page
    assert "郑会计" not in page


def test_an_odd_search_is_answered_all_the_same(login: Login, owner: Person, entries: None) -> None:
    for query in ("since=yesterday", "action=x", "page=999", "company=%25&person='"):
        assert login(owner).get(f"/audit?{query}").status_code == 200


def test_the_system_is_named_once_and_in_the_language_of_the_page(
    login: Login, agency: Agency, supervisor: Person
) -> None:
    client = login(supervisor)
    client.cookies["language"] = "en"
    page = client.get("/audit").content.decode()
    assert "System" in page
    assert "系统" not in page
