"""登录有困难: who has lost phone or password gets back in, and nobody else does by it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client

from agency import people, way_back
from agency.choices import Role
from agency.clock import real_now
from agency.models import PLATFORM, Agency, AuditEntry, Membership
from agency.scope import agency_scope
from agency.second_factor import has_second_factor
from deploy.embedded import EmbeddedValkey
from tests.conftest import (
    PASSWORD,
    TOTP_SECRET,
    Operator,
    Person,
    add_person,
    signed_in,
)

NEW = {"password1": "another horse 8", "password2": "another horse 8"}
LINK = re.compile(r"http://testserver(/renew/[-\w]+)")


@pytest.fixture(autouse=True)
def _fresh_counts(valkey: EmbeddedValkey) -> Iterator[None]:
    """Wrong links are counted per address, which all tests share."""
    with redis.Redis.from_url(valkey.url) as client:
        client.delete(*client.keys(f"{settings.SERVER_KEY_PREFIX}throttle:*"), "nothing")
        yield
        client.delete(*client.keys(f"{settings.SERVER_KEY_PREFIX}throttle:*"), "nothing")


def entries(agency_id: int) -> list[tuple[str, str, str]]:
    with agency_scope(agency_id):
        rows = AuditEntry.objects.order_by("sequence")
        return [(row.action, row.actor_name, row.object_name) for row in rows]


def ask(owner: Person, person: Person, what: str) -> Any:
    return signed_in(owner).post(f"/members/{person.member.pk}/reset", {"what": what})


def link_for(owner: Person, person: Person) -> str:
    found = LINK.search(ask(owner, person, "password").content.decode())
    assert found is not None
    return found[1]


def sign_in(person: Person, password: str = PASSWORD) -> tuple[Client, Any]:
    client = Client()
    return client, client.post("/login", {"username": person.user.username, "password": password})


def test_a_lost_phone_is_forgotten_and_the_person_is_told(
    agency: Agency, owner: Person, bookkeeper: Person
) -> None:
    TOTP.activate(bookkeeper.user, TOTP_SECRET)
    RecoveryCodes.activate(bookkeeper.user)
    phone = signed_in(bookkeeper)
    session = phone.session
    session["seen"] = 0
    session.save()
    assert phone.get("/").status_code == 200

    assert ask(owner, bookkeeper, "second_factor")["Location"] == "/members"

    assert not has_second_factor(bookkeeper.user.pk)
    assert phone.get("/")["Location"].startswith("/login")  # signed out everywhere
    assert entries(agency.pk)[-1] == (
        "member.second_factor_reset", owner.member.name, bookkeeper.member.name
    )  # fmt: skip
    client, answer = sign_in(bookkeeper)
    assert answer["Location"] == "/"
    assert f"{owner.member.name} 于" in client.get("/").content.decode()
    again, _answer = sign_in(bookkeeper)
    assert "重设了您的" not in again.get("/").content.decode()


def test_a_link_sets_a_new_password_once_and_the_code_is_asked_all_the_same(
    agency: Agency, owner: Person, bookkeeper: Person
) -> None:
    TOTP.activate(bookkeeper.user, TOTP_SECRET)
    link = link_for(owner, bookkeeper)
    assert sign_in(bookkeeper, "another horse 8")[1].status_code == 200
    client = Client()
    page = client.get(link)
    assert bookkeeper.user.username in page.content.decode()
    weak = client.post(link, {"password1": "short", "password2": "short"})
    assert weak.status_code == 200
    odd = client.post(link, {**NEW, "password2": "something else"})
    assert "两次输入的口令不一样" in odd.content.decode()

    assert client.post(link, NEW)["Location"] == "/login"

    assert client.get("/").status_code == 302  # not signed in by it
    assert client.get(link).status_code == 404
    assert client.post(link, NEW).status_code == 404
    assert sign_in(bookkeeper)[1].status_code == 200  # the old one is over
    _client, answer = sign_in(bookkeeper, "another horse 8")
    assert answer["Location"] == "/login/code"
    said = [action for action, _actor, _object in entries(agency.pk)]
    assert "member.password_link_made" in said
    assert "member.password_renewed" in said
    with agency_scope(agency.pk):
        assert link.removeprefix("/renew/") not in str(list(AuditEntry.objects.values()))


def test_a_link_is_over_with_the_next_sign_in_and_with_a_new_agency_or_role(
    owner: Person, bookkeeper: Person, front_desk: Person, other_agency: Agency
) -> None:
    first = link_for(owner, bookkeeper)
    sign_in(bookkeeper)
    assert Client().get(first).status_code == 404

    second = link_for(owner, front_desk)
    with agency_scope(owner.viewer.agency_id):
        people.member_change_role(member=front_desk.member, role=Role.SUPERVISOR)
    assert Client().get(second).status_code == 404

    third = link_for(owner, front_desk)
    with agency_scope(other_agency.pk):
        Membership.objects.create(
            agency=other_agency, user=front_desk.user, name="兼职", role=Role.BOOKKEEPER
        )
    assert Client().get(third).status_code == 404


@pytest.mark.parametrize("token", ["x", "1-abc", "zzzzzzzzzzzzzzzzz-a-b", "0-0-0", "%00-1-2"])
def test_a_made_up_link_is_not_there(client: Client, database: None, token: str) -> None:
    assert client.get(f"/renew/{token}").status_code == 404


def test_an_agency_helps_nobody_who_belongs_elsewhere_too(
    owner: Person, bookkeeper: Person, other_agency: Agency
) -> None:
    TOTP.activate(bookkeeper.user, TOTP_SECRET)
    with agency_scope(other_agency.pk):
        Membership.objects.create(
            agency=other_agency, user=bookkeeper.user, name="兼职", role=Role.OWNER
        )
    for what in ("second_factor", "password"):
        page = ask(owner, bookkeeper, what).content.decode()
        assert "恢复码" in page
        assert "平台运维" in page
        assert not LINK.search(page)
    assert has_second_factor(bookkeeper.user.pk)


def test_an_owner_helps_neither_themselves_nor_a_clients_person(
    owner: Person, client_person: Person
) -> None:
    assert "我的账号" in ask(owner, owner, "password").content.decode()
    assert "专属链接" in ask(owner, client_person, "password").content.decode()


def test_only_the_owner_helps_and_after_proof_only(
    owner: Person, supervisor: Person, bookkeeper: Person, outsider: Person
) -> None:
    assert ask(supervisor, bookkeeper, "second_factor").status_code == 403
    assert ask(outsider, bookkeeper, "second_factor").status_code == 404
    browser = signed_in(owner)
    session = browser.session
    session["account_authentication_methods"] = []
    session.save()
    answer = browser.post(f"/members/{bookkeeper.member.pk}/reset", {"what": "second_factor"})
    assert answer["Location"].startswith("/again?next=")


def test_the_command_helps_who_belongs_to_several_and_all_their_agencies_know(
    agency: Agency, other_agency: Agency, bookkeeper: Person
) -> None:
    TOTP.activate(bookkeeper.user, TOTP_SECRET)
    with agency_scope(other_agency.pk):
        Membership.objects.create(
            agency=other_agency, user=bookkeeper.user, name="兼职", role=Role.BOOKKEEPER
        )
    name = bookkeeper.user.username
    call_command("way_back", name, "--second-factor", "--by", "运维钱", stdout=io.StringIO())
    assert not has_second_factor(bookkeeper.user.pk)
    for home in (agency, other_agency):
        assert entries(home.pk)[-1][:2] == ("member.second_factor_reset", "运维钱")

    said = io.StringIO()
    call_command("way_back", name, "--password-link", "--by", "运维钱", stdout=said)
    link = said.getvalue().strip()
    assert Client().post(link, NEW)["Location"] == "/login"
    client, _answer = sign_in(bookkeeper, "another horse 8")
    assert client.get("/").content.decode().count("运维钱 于") == 2


def test_the_command_helps_an_operator_and_the_platforms_trail_knows(operator: Operator) -> None:
    name = operator.user.username
    call_command("way_back", name, "--second-factor", "--by", "运维孙", stdout=io.StringIO())
    assert entries(PLATFORM)[-1] == ("member.second_factor_reset", "运维孙", name)
    client = signed_in(operator)
    assert client.get("/operator/")["Location"] == "/account/second-factor"


def test_the_command_refuses_who_is_not_there_or_has_no_password(client_person: Person) -> None:
    client_person.user.set_unusable_password()
    client_person.user.save()
    for name in ("nobody-here", client_person.user.username):
        with pytest.raises(CommandError):
            call_command("way_back", name, "--password-link", "--by", "运维钱")


def test_nothing_is_told_to_who_was_not_helped(agency: Agency, owner: Person) -> None:
    other = add_person(agency, Role.BOOKKEEPER, "孙会计")
    way_back.second_factor_reset(user=other.user, by="周负责", now=real_now())
    assert way_back.untold(owner.user) == []
    assert [by for by, _at in way_back.untold(other.user)] == ["周负责"]
    assert way_back.untold(other.user) == []
