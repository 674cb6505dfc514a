"""成员: invited by a link, changed and removed by the owner, covered by colleagues."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from agency import clock, people, throttle
from agency.access import companies_of, covering
from agency.choices import Role
from agency.errors import ServiceError
from agency.models import Agency, Assignment, AuditEntry, Invitation, Membership, User
from agency.scope import agency_scope
from agency.services import company_assign, member_add
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


def test_no_account_has_another_ones_name_in_other_letters(
    agency: Agency, owner: Person, bookkeeper: Person
) -> None:
    """Of two such names neither could sign in."""
    taken = bookkeeper.user.username.upper()
    page = Client().post(invited(owner), {**JOIN, "username": taken})
    assert "这个账号已有人使用" in page.content.decode()
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create(username=taken)
    signed = Client().post("/login", {"username": taken, "password": PASSWORD})
    assert signed["Location"] == "/"


def test_a_person_is_added_as_who_they_are_however_the_name_is_written(
    other_agency: Agency, bookkeeper: Person
) -> None:
    with agency_scope(other_agency.pk):
        member = member_add(
            agency=other_agency,
            username=bookkeeper.user.username.upper(),
            password=PASSWORD,
            name="兼职",
            role=Role.BOOKKEEPER,
        )
    assert member.user == bookkeeper.user


def test_an_invitation_tells_of_few_names_only_whether_they_are_taken(
    agency: Agency, owner: Person, bookkeeper: Person
) -> None:
    link = invited(owner)
    taken = {**JOIN, "username": bookkeeper.user.username}
    browser = Client(REMOTE_ADDR="198.51.100.21")
    for _name in range(throttle.JOIN_BY_ONE_INVITATION.tries):
        assert "尝试次数过多" not in browser.post(link, taken).content.decode()
    elsewhere = Client(REMOTE_ADDR="198.51.100.22")
    page = elsewhere.post(link, {**JOIN, "username": "nobody-has-this"}).content.decode()
    assert "尝试次数过多，请 60 分钟后再试" in page
    assert not User.objects.filter(username="nobody-has-this").exists()
    assert actions(agency).count("access.link_refused") == 1
    assert elsewhere.get(invited(owner)).status_code == 200  # others are not concerned


def test_who_has_an_account_signs_in_first_and_no_address_holds_the_invitation(
    agency: Agency, owner: Person, outsider: Person
) -> None:
    link = invited(owner)
    token = link.removeprefix("/join/")
    browser = Client()
    page = browser.get(link).content.decode()
    assert "登录后接受" in page
    assert not re.search(f'(href|action)="[^"]*{token}', page)
    asked = browser.post(link, {"sign_in": "1"})
    assert asked["Location"] == "/login"
    assert token not in browser.get("/login").content.decode()
    login = {"username": outsider.user.username, "password": PASSWORD}
    assert browser.post("/login", login)["Location"] == link
    assert browser.post(link)["Location"] == "/"
    assert agency.name in browser.get("/").content.decode()


def test_who_comes_back_has_no_company_in_hand(
    agency: Agency, owner: Person, bookkeeper: Person, make_company: MakeCompany
) -> None:
    company = make_company(assigned_to=bookkeeper, short_name="晨光商贸")
    signed_in(owner).post(f"/members/{bookkeeper.member.pk}/remove")
    with agency_scope(agency.pk):
        assert not Assignment.objects.filter(membership=bookkeeper.member).exists()
        entry = AuditEntry.objects.get(action="company.unassigned")
        assert (entry.company_id, entry.actor_name) == (company.pk, owner.member.name)
        # Of somebody who was removed some other way.
        company_assign(companies=[company], member=bookkeeper.member)

    back = signed_in(bookkeeper)
    assert back.post(invited(owner))["Location"] == "/"

    assert back.get(f"/companies/{company.pk}").status_code == 403
    assert actions(agency).count("company.unassigned") == 2
