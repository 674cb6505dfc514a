"""专属链接: shown once, exchanged for a session, revoked at once; own companies, nothing else."""

from __future__ import annotations

import re

from django.test import Client

from agency.models import Agency, AuditEntry, ClientLink
from agency.scope import agency_scope
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
    assert answer["Referrer-Policy"] == "no-referrer"
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


def test_a_wrong_link_is_not_there(bookkeeper: Person) -> None:
    assert Client().get("/c/" + "x" * 43).status_code == 404
