"""成员: invited by a link, changed and removed by the owner, covered by colleagues."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

import pytest
from django.test import Client

from agency import clock, people
from agency.access import companies_of, covering
from agency.choices import Role
from agency.errors import ServiceError
from agency.models import Agency, AuditEntry, Invitation, Membership
from agency.scope import agency_scope
from tests.conftest import PASSWORD, MakeCompany, Person, add_person, signed_in

Login = Callable[[Person], Client]
LINK = re.compile(r"http://testserver(/join/[-\w]{43})")


def invited(owner: Person, role: str = "bookkeeper") -> str:
    page = signed_in(owner).post("/members/invite", {"name": "新会计", "role": role})
    found = LINK.search(page.content.decode())
    assert found is not None
    return found[1]


def actions(agency: Agency) -> list[str]:
    with agency_scope(agency.pk):
        return list(AuditEntry.objects.order_by("sequence").values_list("action", flat=True))


JOIN = {"name": "新会计", "username": "newbie", "password1": PASSWORD, "password2": PASSWORD}


def test_the_invited_choose_a_login_and_are_in_and_the_link_is_used_up(
    agency: Agency, owner: Person
) -> None:
    link = invited(owner)
    with agency_scope(agency.pk):
        row = Invitation.objects.get()
        assert link.removeprefix("/join/").encode() not in bytes(row.token_hash)
    client = Client()
    page = client.get(link)
    assert agency.name in page.content.decode()
    assert page["Referrer-Policy"] == "strict-origin"
    weak = client.post(link, {**JOIN, "password1": "short", "password2": "short"})
    assert weak.status_code == 200
    assert client.post(link, JOIN)["Location"] == "/"
    assert "本月清卡" in client.get("/").content.decode()
    with agency_scope(agency.pk):
        assert Membership.objects.get(name="新会计").role == Role.BOOKKEEPER
    assert {"member.invited", "member.joined"} <= set(actions(agency))
    assert Client().get(link).status_code == 404
    assert Client().post(link, {**JOIN, "username": "second"}).status_code == 404


def test_a_person_of_another_agency_joins_as_who_they_are(
    agency: Agency, owner: Person, outsider: Person
) -> None:
    link = invited(owner)
    client = signed_in(outsider)
    assert outsider.user.username in client.get(link).content.decode()
    assert client.post(link)["Location"] == "/"
    page = client.get("/").content.decode()
    assert agency.name in page
    assert "切换机构" in page


def test_a_revoked_and_an_expired_link_are_not_there(
    agency: Agency, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    revoked, late = invited(owner), invited(owner)
    with agency_scope(agency.pk):
        first = Invitation.objects.order_by("pk")[0]
    signed_in(owner).post(f"/invitations/{first.pk}/revoke")
    assert Client().get(revoked).status_code == 404
    later = clock.real_now() + people.INVITATION_LIFE
    monkeypatch.setattr(clock, "real_now", lambda: later)
    assert Client().get(late).status_code == 404


def test_an_invitation_is_accepted_once_whoever_is_faster(agency: Agency, owner: Person) -> None:
    with agency_scope(agency.pk):
        made = people.invitation_create(
            agency=agency, name="甲", role=Role.FRONT_DESK, by="周", now=clock.real_now()
        )
        for name, expected in (("first", True), ("second", False)):
            user = people.account_create(username=name, password=PASSWORD)
            if expected:
                people.invitation_accept(
                    invitation=made.row, user=user, name="甲", now=clock.real_now()
                )
            else:
                with pytest.raises(ServiceError, match="已用过"):
                    people.invitation_accept(
                        invitation=made.row, user=user, name="甲", now=clock.real_now()
                    )


def test_the_last_owner_stays(agency: Agency, owner: Person, supervisor: Person) -> None:
    client = signed_in(owner)
    for path in ("remove", "role"):
        client.post(f"/members/{owner.member.pk}/{path}", {"role": "supervisor"})
    with agency_scope(agency.pk):
        member = Membership.objects.get(pk=owner.member.pk)
        assert (member.role, member.active) == (Role.OWNER, True)
    client.post(f"/members/{supervisor.member.pk}/role", {"role": "owner"})
    client.post(f"/members/{owner.member.pk}/role", {"role": "bookkeeper"})
    with agency_scope(agency.pk):
        assert Membership.objects.get(pk=owner.member.pk).role == Role.BOOKKEEPER
    assert client.get("/members").status_code == 403


def test_a_removed_person_is_out_at_once(agency: Agency, owner: Person, bookkeeper: Person) -> None:
    theirs = signed_in(bookkeeper)
    assert theirs.get("/").status_code == 200
    signed_in(owner).post(f"/members/{bookkeeper.member.pk}/remove")
    assert theirs.get("/").status_code == 403
    assert "member.removed" in actions(agency)


def test_a_supervisor_arranges_covers_and_changes_nobody(
    agency: Agency, supervisor: Person, bookkeeper: Person, make_company: MakeCompany
) -> None:
    colleague = add_person(agency, Role.BOOKKEEPER, "冯会计")
    company = make_company(assigned_to=bookkeeper, short_name="晨光商贸")
    client = signed_in(supervisor)
    assert client.post("/members/invite", {"name": "x", "role": "owner"}).status_code == 403
    assert client.post(f"/members/{bookkeeper.member.pk}/remove").status_code == 403
    today = clock.now().date()
    page = signed_in(colleague)
    assert page.get(f"/companies/{company.pk}").status_code == 403
    client.post(
        "/covers",
        {
            "absent": bookkeeper.member.pk,
            "substitute": colleague.member.pk,
            "since": today.isoformat(),
            "until": today.isoformat(),
        },
    )
    assert page.get(f"/companies/{company.pk}").status_code == 200
    with agency_scope(agency.pk):
        for day, seen in ((-1, 0), (0, 1), (1, 0)):
            found = covering(colleague.member.pk, today + dt.timedelta(days=day))
            assert len(found) == seen
        assert not companies_of(colleague.viewer).exists()
    with agency_scope(agency.pk):
        from agency.models import Cover

        number = Cover.objects.get().pk
    client.post(f"/covers/{number}/end")
    assert page.get(f"/companies/{company.pk}").status_code == 403


def test_members_of_another_agency_are_not_there(owner: Person, outsider: Person) -> None:
    client = signed_in(owner)
    for member_id in (outsider.member.pk, 10**9):
        assert client.post(f"/members/{member_id}/remove").status_code == 404
        assert client.post(f"/members/{member_id}/role", {"role": "owner"}).status_code == 404
