"""专属链接: shown once, exchanged for a session, revoked at once; own companies, nothing else."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.test import Client

from agency import refusals
from agency.clock import real_now
from agency.models import PLATFORM, Agency, AuditEntry, ClientLink
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
