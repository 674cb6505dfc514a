"""专属链接: shown once, exchanged for a session, revoked at once; own companies, nothing else."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.test import Client

from agency import clock, people, refusals, throttle
from agency.choices import Role
from agency.clock import real_now
from agency.models import PLATFORM, Agency, AuditEntry, ClientLink, Membership
from agency.scope import agency_scope
from agency.tasks import settle_refusals
from tests.conftest import MakeCompany, Person, signed_in

LINK = re.compile(r"http://testserver(/c/[-\w]{43})")


def opened(person: Person, company_id: int) -> str:
    path = f"/companies/{company_id}/links"
    page = signed_in(person).post(path, {"name": "钱老板"}).content.decode()
    found = LINK.search(page)
    assert found is not None
    assert LINK.search(signed_in(person).get(path).content.decode()) is None  # shown once
    return found[1]


def test_a_link_opens_the_own_company_until_it_is_revoked(
    agency: Agency, bookkeeper: Person, make_company: MakeCompany
) -> None:
    company = make_company(assigned_to=bookkeeper, short_name="晨光商贸", name="晨光商贸公司")
    other = make_company(name="别家公司")
    link = opened(bookkeeper, company.pk)
    phone = Client()
    answer = phone.get(link)
    assert (answer.status_code, answer["Location"]) == (302, "/")
    assert answer["Referrer-Policy"] == "strict-origin"
    page = phone.get("/").content.decode()
    assert "晨光商贸公司" in page
    assert "别家公司" not in page
    assert phone.get(f"/companies/{other.pk}").status_code == 404
    assert phone.get(f"/companies/{company.pk}").status_code == 403
    with agency_scope(agency.pk):
        row = ClientLink.objects.get()
    assert signed_in(bookkeeper).post(f"/client-links/{row.pk}/revoke").status_code == 302
    assert phone.get("/").status_code == 403
    assert Client().get(link).status_code == 404
    with agency_scope(agency.pk):
        actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"client_link.created", "client_link.used", "client_link.revoked"} <= actions


def test_only_who_has_the_company_in_hand_opens_and_revokes(
    agency: Agency,
    supervisor: Person,
    bookkeeper: Person,
    front_desk: Person,
    outsider: Person,
    make_company: MakeCompany,
) -> None:
    company = make_company()
    opened(supervisor, company.pk)
    with agency_scope(agency.pk):
        row = ClientLink.objects.get()
    for person, status in ((bookkeeper, 403), (front_desk, 403), (outsider, 404)):
        client = signed_in(person)
        assert client.post(f"/companies/{company.pk}/links", {"name": "x"}).status_code == status
        assert client.post(f"/client-links/{row.pk}/revoke").status_code == status


STRANGER = {"actor": "未登录者", "address": "198.51.100.7"}


def refused(chain: int) -> list[dict[str, Any]]:
    """What was refused to the stranger; other tests may have left refusals of others."""
    with agency_scope(chain):
        rows = AuditEntry.objects.filter(
            action="access.link_refused", data__address=STRANGER["address"]
        )
        return [{"actor": row.actor_name, **row.data} for row in rows.order_by("sequence")]


@pytest.mark.parametrize("path", ["/c/", "/join/"])
def test_a_wrong_link_is_not_there_and_stands_in_the_platforms_chain_once_a_minute(
    agency: Agency, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = real_now() - dt.timedelta(minutes=5)
    monkeypatch.setattr(refusals, "real_now", lambda: moment)
    before = len(refused(PLATFORM))
    for _time in range(3):
        wrong = Client(REMOTE_ADDR=STRANGER["address"]).get(path + "x" * 43)
        assert wrong.status_code == 404
    assert refused(PLATFORM)[before:] == [STRANGER]

    settle_refusals()

    (again,) = refused(PLATFORM)[before + 1 :]
    assert (again["repeated"], again["address"]) == (2, STRANGER["address"])
    assert refused(agency.pk) == []


def test_a_revoked_link_stands_in_the_chain_of_its_agency(
    agency: Agency, supervisor: Person, make_company: MakeCompany
) -> None:
    link = opened(supervisor, make_company().pk)
    with agency_scope(agency.pk):
        row = ClientLink.objects.get()
    signed_in(supervisor).post(f"/client-links/{row.pk}/revoke")

    assert Client(REMOTE_ADDR=STRANGER["address"]).get(link).status_code == 404

    assert refused(agency.pk) == [STRANGER]


def test_who_is_signed_in_and_follows_a_wrong_link_leaves_no_token_in_the_trail(
    agency: Agency, bookkeeper: Person
) -> None:
    assert signed_in(bookkeeper).get("/c/" + "x" * 43).status_code == 404
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action="access.refused")
    assert entry.data["path"] == "/c/…"


def used(agency: Agency) -> int:
    with agency_scope(agency.pk):
        return AuditEntry.objects.filter(action="client_link.used").count()


def test_a_link_takes_no_session_from_who_is_signed_in_until_they_say_so(
    agency: Agency, bookkeeper: Person, outsider: Person, make_company: MakeCompany
) -> None:
    link = opened(bookkeeper, make_company(assigned_to=bookkeeper, name="晨光商贸公司").pk)
    browser = signed_in(outsider)
    page = browser.get(link)
    assert page.status_code == 200
    assert agency.name in page.content.decode()
    assert outsider.member.name in browser.get("/").content.decode()
    assert used(agency) == 0

    assert browser.post(link)["Location"] == "/"

    assert "晨光商贸公司" in browser.get("/").content.decode()
    assert used(agency) == 1
    assert browser.get(link)["Location"] == "/"  # the same person: nothing to ask


def test_pressing_the_button_of_a_link_needs_the_page_it_is_on(
    bookkeeper: Person, outsider: Person, make_company: MakeCompany
) -> None:
    link = opened(bookkeeper, make_company(assigned_to=bookkeeper).pk)
    elsewhere = Client(enforce_csrf_checks=True)
    elsewhere.cookies = signed_in(outsider).cookies
    assert elsewhere.post(link).status_code == 403


def test_who_came_by_a_link_accepts_no_invitation(
    agency: Agency, bookkeeper: Person, other_agency: Agency, make_company: MakeCompany
) -> None:
    """Somebody else may have opened the link in this browser."""
    phone = Client()
    phone.get(opened(bookkeeper, make_company(assigned_to=bookkeeper).pk))
    with agency_scope(other_agency.pk):
        made = people.invitation_create(
            agency=other_agency, name="新", role=Role.OWNER, by="周", now=clock.real_now()
        )
    page = phone.get(f"/join/{made.token}").content.decode()
    assert "请先退出再打开此邀请" in page
    assert "加入</button>" not in page
    assert "请先退出" in phone.post(f"/join/{made.token}").content.decode()
    with agency_scope(other_agency.pk):
        assert not Membership.objects.exists()
        assert people.open_invitation(made.row.pk, clock.real_now()) is not None


def test_who_came_by_a_link_has_no_password_to_change(
    agency: Agency, bookkeeper: Person, make_company: MakeCompany
) -> None:
    phone = Client()
    phone.get(opened(bookkeeper, make_company(assigned_to=bookkeeper).pk))
    for answer in (phone.get("/account/password"), phone.post("/account/password")):
        assert answer.status_code == 403
        assert "没有登录口令" in answer.content.decode()


def test_links_beyond_the_limit_stand_in_the_trail(agency: Agency, bookkeeper: Person) -> None:
    place = "198.51.100.31"
    stranger, inside = Client(REMOTE_ADDR=place), signed_in(bookkeeper)
    for _guess in range(throttle.LINK_FROM_ONE_PLACE.tries):
        throttle.may_try(throttle.LINK_FROM_ONE_PLACE, place)
    assert stranger.get("/c/" + "x" * 43).status_code == 429
    assert inside.get("/join/" + "x" * 43, REMOTE_ADDR=place).status_code == 429
    with agency_scope(PLATFORM):
        assert AuditEntry.objects.filter(action="access.link_refused", data__address=place).exists()
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action="access.refused")
    assert (entry.data["path"], entry.data["kind"]) == ("/join/…", "429")
