"""Two steps to sign in: demanded by the agency, set up before anything is seen, sealed at rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth
from django.conf import settings
from django.test import Client
from django.urls import get_resolver

from agency import second_factor
from agency.choices import Role, SecondFactor
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from agency.services import agency_create
from deploy.embedded import EmbeddedValkey
from tests.conftest import PASSWORD, TOTP_SECRET, Operator, Person, signed_in

Login = Callable[[Person], Client]
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def _fresh_counts(valkey: EmbeddedValkey) -> Iterator[None]:
    with redis.Redis.from_url(valkey.url) as client:
        for key in client.keys(f"{settings.SERVER_KEY_PREFIX}throttle:*"):
            client.delete(key)
    yield


def code(secret: str, ahead: int = 0) -> str:
    """The code that is right now, or ``ahead`` periods of 30 s later."""
    return str(auth.format_hotp_value(auth.hotp_value(secret, int(time.time()) // 30 + ahead)))


def demand(agency: Agency, of: SecondFactor) -> None:
    Agency.objects.filter(pk=agency.pk).update(second_factor=of)


def give(person: Person) -> None:
    auth.TOTP.activate(person.user, SECRET)


def sign_in(client: Client, person: Person) -> Any:
    return client.post("/login", {"username": person.user.username, "password": PASSWORD})


def actions(agency: Agency) -> list[str]:
    with agency_scope(agency.pk):
        return list(AuditEntry.objects.order_by("sequence").values_list("action", flat=True))


@pytest.mark.usefixtures("database")
def test_a_real_agency_demands_it_of_its_leads_and_a_practice_one_of_nobody() -> None:
    real, practice = agency_create(name="真代账"), agency_create(name="练习", practice=True)
    asked = {role for role in Role if second_factor.demanded(real, role)}
    assert asked == {Role.OWNER, Role.SUPERVISOR}
    assert not any(second_factor.demanded(practice, role) for role in Role)
    real.second_factor = SecondFactor.ALL
    assert {role for role in Role if not second_factor.demanded(real, role)} == {Role.CLIENT}


def test_who_lacks_it_sees_nothing_until_it_is_set_up(agency: Agency, supervisor: Person) -> None:
    demand(agency, SecondFactor.LEADS)
    client = Client()
    assert sign_in(client, supervisor).status_code == 302
    for path in ("/", "/audit", "/machines", "/account", "/batches", "/nothing-here"):
        answer = client.get(path)
        assert answer.status_code == (404 if path == "/nothing-here" else 302), path
        assert answer.status_code == 404 or answer["Location"] == "/account/second-factor"
    fragment = client.get("/board/rows", headers={"HX-Request": "true"})
    assert fragment["HX-Redirect"] == "/account/second-factor"

    page = client.get("/account/second-factor").content.decode()
    assert "您所在的机构要求两步验证" in page
    assert "本月清卡" not in page  # no navigation: no viewer
    secret = client.session[auth.SECRET_SESSION_KEY]
    assert secret in page
    refused = client.post("/account/second-factor", {"code": "000000x"}).content.decode()
    assert "验证码不对" in refused
    done = client.post("/account/second-factor", {"code": code(secret)})
    assert done["Location"] == "/account/codes"
    assert client.get("/").status_code == 200
    row = Authenticator.objects.get(user=supervisor.user, type="totp")
    assert secret not in str(row.data)
    seeds = Authenticator.objects.get(user=supervisor.user, type="recovery_codes")
    assert seeds.data["seed"].startswith("UTEE")  # Q1…: sealed
    assert "member.second_factor_on" in actions(agency)


def test_the_code_is_asked_at_sign_in_and_none_is_taken_twice(
    agency: Agency, bookkeeper: Person
) -> None:
    give(bookkeeper)
    client = Client()
    assert sign_in(client, bookkeeper)["Location"] == "/login/code"
    assert client.get("/")["Location"].startswith("/login")  # not in yet
    assert "member.signed_in" not in actions(agency)
    assert "验证码不对" in client.post("/login/code", {"code": "abc"}).content.decode()
    used = code(SECRET)
    assert client.post("/login/code", {"code": used})["Location"] == "/"
    assert client.get("/").status_code == 200
    assert "member.signed_in" in actions(agency)

    other = Client()
    sign_in(other, bookkeeper)
    assert "刚刚用过" in other.post("/login/code", {"code": used}).content.decode()


def test_a_recovery_code_opens_once(agency: Agency, bookkeeper: Person) -> None:
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes

    give(bookkeeper)
    spare = RecoveryCodes.activate(bookkeeper.user).get_unused_codes()[0]
    client = Client()
    sign_in(client, bookkeeper)
    assert client.post("/login/code", {"code": spare}).status_code == 302
    again = Client()
    sign_in(again, bookkeeper)
    assert again.post("/login/code", {"code": spare}).status_code == 200


def test_a_wrong_code_or_password_of_one_s_own_stands_in_the_trail(
    agency: Agency, bookkeeper: Person, login: Login
) -> None:
    give(bookkeeper)
    client = Client()
    sign_in(client, bookkeeper)
    client.post("/login/code", {"code": "abcdef"})
    assert actions(agency).count("member.sign_in_refused") == 1

    inside = login(bookkeeper)
    inside.post("/again", {"password": "not mine"})
    inside.post("/again", {"password": PASSWORD})
    assert actions(agency).count("member.proof_refused") == 1


def test_guessing_codes_ends_after_five(agency: Agency, bookkeeper: Person) -> None:
    give(bookkeeper)
    client = Client()
    sign_in(client, bookkeeper)
    for _try in range(5):
        client.post("/login/code", {"code": "abcdef"})
    page = client.post("/login/code", {"code": code(SECRET)}).content.decode()
    assert "尝试次数过多" in page
    assert client.get("/").status_code == 302


def test_it_is_switched_off_only_where_no_agency_demands_it(
    login: Login, agency: Agency, supervisor: Person
) -> None:
    give(supervisor)
    client = login(supervisor)
    proven_by(client, "mfa", time.time() + 3600)
    demand(agency, SecondFactor.LEADS)
    refused = client.post("/account/second-factor/off").content.decode()
    assert "要求两步验证，不能停用" in refused
    assert second_factor.has_second_factor(supervisor.user.pk)
    demand(agency, SecondFactor.NOBODY)
    assert client.post("/account/second-factor/off").status_code == 302
    assert not second_factor.has_second_factor(supervisor.user.pk)
    assert "member.second_factor_off" in actions(agency)


DANGEROUS = {
    "audit-export": "/audit/export",
    "disk-password": "/disks/1/password",
    "disk-pin": "/disks/1/pin",
    "unknown-disk-add": "/disks/unknown/1",
    "machine-add": "/machines/add",
    "machine-roll": "/machines/1/roll",
    "machine-revoke": "/machines/1/revoke",
    "machine-lost": "/machines/1/lost",
    "mfa_activate_totp": "/account/second-factor",
    "mfa_deactivate_totp": "/account/second-factor/off",
    "mfa_view_recovery_codes": "/account/codes",
    "mfa_generate_recovery_codes": "/account/codes/new",
    "sessions-end": "/account/sessions/end",
    "member-invite": "/members/invite",
    "member-demand": "/members/demand",
    "member-role": "/members/1/role",
    "member-remove": "/members/1/remove",
    "member-reset": "/members/1/reset",
    "invitation-revoke": "/invitations/1/revoke",
    "support-allow": "/support/allow",
}
#: The operator's own: tests/agency/operator.
OPERATORS = {"support-open"}


def test_the_list_of_dangerous_routes_is_complete() -> None:
    found = set()

    def walk(patterns: Any) -> None:
        for entry in patterns:
            if hasattr(entry, "url_patterns"):
                walk(entry.url_patterns)
            elif getattr(entry.callback, "needs_proof", False):
                found.add(entry.name)

    walk(get_resolver().url_patterns)
    assert found == set(DANGEROUS) | OPERATORS


def proven_by(client: Client, method: str, at: float) -> None:
    """The person of this browser has shown who they are by this alone."""
    session = client.session
    session["account_authentication_methods"] = [{"method": method, "at": at}]
    session.save()


def long_ago(client: Client) -> None:
    """The person of this browser has shown who they are an hour ago."""
    proven_by(client, "password", time.time() - 3600)


@pytest.mark.parametrize("path", DANGEROUS.values(), ids=DANGEROUS)
def test_a_dangerous_route_asks_again_who_it_is(login: Login, owner: Person, path: str) -> None:
    client = login(owner)
    long_ago(client)
    asked = client.get(path)
    if asked.status_code == 405:
        asked = client.post(path)
    assert asked.status_code == 302
    assert asked["Location"].startswith("/again?next=")
    assert client.post(path, {"anything": "x"})["Location"].startswith("/again?next=")
    wrong = client.post(asked["Location"], {"password": "wrong"})
    assert "登录口令不对" in wrong.content.decode()
    right = client.post(asked["Location"], {"password": PASSWORD})
    assert right.status_code == 302
    assert not right["Location"].startswith("/again")
    assert not client.get(path).headers.get("Location", "").startswith("/again")


def test_guessing_the_own_password_ends_after_a_few_tries(login: Login, owner: Person) -> None:
    client = login(owner)
    long_ago(client)
    asked = client.get("/audit/export")["Location"]
    for _guess in range(5):
        assert "登录口令不对" in client.post(asked, {"password": "guess"}).content.decode()
    right = client.post(asked, {"password": PASSWORD}).content.decode()
    assert "尝试次数过多，请 15 分钟后再试" in right
    assert client.get("/audit/export")["Location"] == asked


def test_what_was_typed_before_the_proof_is_not_kept(login: Login, owner: Person) -> None:
    client = login(owner)
    long_ago(client)
    answer = client.post("/disks/1/password", {"device_password": "Mark3r-77"})
    assert "Mark3r-77" not in answer["Location"] + str(dict(client.session.items()))
    page = client.get(answer["Location"]).content.decode()
    assert "没有保存任何内容" in page
    assert "Mark3r-77" not in page


def test_a_code_does_in_place_of_the_password(login: Login, owner: Person) -> None:
    give(owner)
    client = login(owner)
    session = client.session
    session["account_authentication_methods"] = []
    session.save()
    asked = client.get("/machines/add")["Location"]
    page = client.get(asked).content.decode()
    assert "改用验证码" in page
    answer = client.post("/again/code?next=/machines/add", {"code": code(SECRET)})
    assert answer["Location"] == "/machines/add"
    assert client.get("/machines/add").status_code == 200


def test_no_page_of_allauth_exists_that_is_not_used(client: Client) -> None:
    for path in ("/signup", "/accounts/signup/", "/accounts/login/", "/password/reset", "/email"):
        assert client.get(path).status_code == 404, path


def test_other_devices_are_signed_out_one_by_one_and_by_a_new_password(
    agency: Agency, bookkeeper: Person
) -> None:
    here, there, third = Client(), Client(), Client()
    for client in (here, there, third):
        sign_in(client, bookkeeper)
        assert client.get("/").status_code == 200
    page = here.get("/account").content.decode()
    assert page.count("退出此设备") == 2
    from allauth.usersessions.models import UserSession

    row = UserSession.objects.get(session_key=there.session.session_key)
    assert here.post("/account/sessions/end", {"session": row.pk}).status_code == 302
    assert there.get("/").status_code == 302
    assert third.get("/").status_code == 200
    new = {"oldpassword": PASSWORD, "password1": "another horse 8", "password2": "another horse 8"}
    assert here.post("/account/password", new).status_code == 302
    assert here.get("/").status_code == 200
    assert third.get("/").status_code == 302
    assert actions(agency)[-2:] == ["member.sessions_ended", "member.password_changed"]


def test_nobody_ends_another_persons_session(bookkeeper: Person, supervisor: Person) -> None:
    from allauth.usersessions.models import UserSession

    mine, theirs = Client(), Client()
    sign_in(mine, bookkeeper)
    sign_in(theirs, supervisor)
    row = UserSession.objects.get(user=supervisor.user)
    assert mine.post("/account/sessions/end", {"session": row.pk}).status_code == 404
    assert theirs.get("/").status_code == 200


def test_two_new_passwords_that_differ_are_refused_in_our_words(
    bookkeeper: Person, login: Login
) -> None:
    new = {"oldpassword": PASSWORD, "password1": "a wombat's lamp", "password2": "a wombat"}
    page = login(bookkeeper).post("/account/password", new)
    assert "两次输入的口令不一样。" in page.content.decode()
    assert "密码" not in page.content.decode()


def set_up(client: Client) -> Any:
    client.get("/account/second-factor")
    secret = client.session[auth.SECRET_SESSION_KEY]
    return client.post("/account/second-factor", {"code": code(secret)})


def test_a_second_factor_set_up_elsewhere_does_not_open_a_session_of_the_password_alone(
    agency: Agency, supervisor: Person
) -> None:
    """A thief with the password waits at the set-up until the person has set it up."""
    demand(agency, SecondFactor.LEADS)
    thief, person = Client(), Client()
    for browser in (thief, person):
        sign_in(browser, supervisor)
        assert browser.get("/")["Location"] == "/account/second-factor"
    assert set_up(person)["Location"] == "/account/codes"
    assert person.get("/").status_code == 200
    assert thief.get("/")["Location"].startswith("/login")


def test_a_session_in_which_no_code_was_shown_is_asked_for_one(
    agency: Agency, supervisor: Person, login: Login
) -> None:
    """Even where the session is on no list of those to end."""
    demand(agency, SecondFactor.LEADS)
    give(supervisor)
    browser = login(supervisor)
    for path in ("/", "/account", "/account/codes", "/account/second-factor/off"):
        assert browser.get(path)["Location"] == "/again/code", path
    fragment = browser.get("/board/rows", headers={"HX-Request": "true"})
    assert fragment["HX-Redirect"] == "/again/code"
    assert "本月清卡" not in browser.get("/again/code").content.decode()
    assert browser.post("/again", {"password": PASSWORD}).status_code == 302
    assert browser.get("/")["Location"] == "/again/code"
    assert browser.post("/again/code", {"code": code(SECRET)}).status_code == 302
    assert browser.get("/").status_code == 200


def test_the_operator_too_shows_the_code_in_this_session(operator: Operator) -> None:
    browser = signed_in(operator)
    assert browser.get("/operator/").status_code == 200
    proven_by(browser, "password", time.time() + 3600)
    assert browser.get("/operator/")["Location"] == "/again/code"
    assert browser.post("/again/code", {"code": code(TOTP_SECRET)}).status_code == 302
    assert browser.get("/operator/").status_code == 200


@pytest.mark.parametrize("path", ["/account/second-factor/off", "/account/codes/new"])
def test_a_change_of_the_second_factor_ends_the_other_sessions(
    bookkeeper: Person, path: str
) -> None:
    here, there = Client(), Client()
    for browser in (here, there):
        sign_in(browser, bookkeeper)
        assert browser.get("/").status_code == 200
    give(bookkeeper)
    assert here.post(path).status_code == 302
    assert here.get("/").status_code == 200
    assert there.get("/")["Location"].startswith("/login")
