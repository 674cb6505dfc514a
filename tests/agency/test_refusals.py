"""Refusals in the trail: whose chain, how often, and what is never kept."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from agency import audit, refusals, throttle
from agency.choices import Action
from agency.clock import real_now
from agency.models import PLATFORM, Agency, AuditEntry, RefusalCount, User
from agency.scope import agency_scope
from agency.tasks import settle_refusals
from tests.conftest import MakeCompany, Person

Login = Callable[[Person], Client]


def refused(agency_id: int, action: Action = Action.ACCESS_REFUSED) -> list[dict[str, Any]]:
    with agency_scope(agency_id):
        found = AuditEntry.objects.filter(action=action).order_by("sequence")
        return [{"actor": entry.actor_name, **entry.data} for entry in found]


@pytest.fixture
def one_minute(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """All refusals of the test fall into one minute, whatever the clock does meanwhile."""
    moment = real_now() - dt.timedelta(minutes=5)
    monkeypatch.setattr(refusals, "real_now", lambda: moment)


@pytest.mark.usefixtures("one_minute")
def test_equal_refusals_of_a_minute_stand_once_and_then_with_their_number(
    login: Login, front_desk: Person, agency: Agency
) -> None:
    client = login(front_desk)
    for _ in range(4):
        assert client.get("/audit").status_code == 403
    assert client.get("/nothing-here").status_code == 404

    assert [entry["path"] for entry in refused(agency.pk)] == ["/audit"]
    settle_refusals()
    settle_refusals()

    again = refused(agency.pk)[1:]
    assert [(entry["actor"], entry["path"], entry["repeated"]) for entry in again] == [
        ("王前台", "/audit", 3)
    ]
    with agency_scope(agency.pk):
        assert not RefusalCount.objects.exists()
        assert audit.first_bad_sequence() is None


def test_a_minute_that_is_not_over_is_not_settled(
    login: Login, front_desk: Person, agency: Agency
) -> None:
    login(front_desk).get("/audit")

    settle_refusals()

    with agency_scope(agency.pk):
        assert RefusalCount.objects.count() == 1


def test_a_refusal_stands_in_the_chain_of_the_one_who_tried(
    login: Login,
    outsider: Person,
    agency: Agency,
    other_agency: Agency,
    make_company: MakeCompany,
) -> None:
    company = make_company()

    assert login(outsider).get(f"/companies/{company.pk}").status_code == 404

    assert refused(agency.pk) == []
    assert [entry["path"] for entry in refused(other_agency.pk)] == [f"/companies/{company.pk}"]


def test_a_failed_sign_in_stands_with_the_account_in_its_agency(
    client: Client, bookkeeper: Person, agency: Agency
) -> None:
    client.post("/login", {"username": bookkeeper.user.username, "password": "Wr0ng-marker"})

    assert refused(agency.pk, Action.SIGN_IN_REFUSED) == [
        {"actor": "未登录者", "address": "127.0.0.1"}
    ]
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action=Action.SIGN_IN_REFUSED)
        assert entry.object_name == "郑会计"


@pytest.mark.usefixtures("one_minute")
def test_a_failed_sign_in_is_the_same_accounts_however_it_was_named(
    client: Client, bookkeeper: Person, agency: Agency
) -> None:
    email = f"{bookkeeper.user.username}@example.cn"
    User.objects.filter(pk=bookkeeper.user.pk).update(email=email)
    for name in (bookkeeper.user.username.upper(), email, email.upper()):
        client.post("/login", {"username": name, "password": "wrong"})

    with agency_scope(agency.pk):
        assert RefusalCount.objects.get().count == 3


@pytest.mark.usefixtures("one_minute")
def test_a_sign_in_beyond_the_limit_is_recorded_like_the_others(
    bookkeeper: Person, agency: Agency
) -> None:
    guesser = Client(REMOTE_ADDR="198.51.100.41")
    for _guess in range(throttle.LOGIN.tries + 3):
        guesser.post("/login", {"username": bookkeeper.user.username, "password": "guess"})

    with agency_scope(agency.pk):
        assert RefusalCount.objects.get().count == throttle.LOGIN.tries + 3


@pytest.mark.usefixtures("one_minute")
@pytest.mark.parametrize(
    "headers", [{"Accept": "application/json"}, {"X-Requested-With": "XMLHttpRequest"}]
)
def test_a_wrong_password_of_ones_own_is_recorded_whatever_answer_was_asked_for(
    login: Login, bookkeeper: Person, agency: Agency, headers: dict[str, str]
) -> None:
    typed = {"oldpassword": "Wr0ng-marker", "password1": "N3w-marker", "password2": "N3w-marker"}
    tries = throttle.OWN_PASSWORD.tries + 1
    for _try in range(tries):
        answer = login(bookkeeper).post("/account/password", typed, headers=headers)
        assert answer.status_code == 200
        assert "marker" not in answer.content.decode()

    assert refused(agency.pk, Action.PROOF_REFUSED) == [{"actor": "郑会计", "address": "127.0.0.1"}]
    with agency_scope(agency.pk):
        assert RefusalCount.objects.get().count == tries


def test_what_a_stranger_typed_is_kept_nowhere(client: Client, database: None) -> None:
    before = len(refused(PLATFORM, Action.SIGN_IN_REFUSED))
    client.post("/login", {"username": "my-Passw0rd-marker", "password": "x"})

    entries = refused(PLATFORM, Action.SIGN_IN_REFUSED)
    assert entries[before:] == [{"actor": "未登录者", "address": "127.0.0.1"}]
    with agency_scope(PLATFORM):
        assert "marker" not in str(list(AuditEntry.objects.values()))


def test_an_unknown_token_and_an_unknown_code_stand_in_the_platforms_chain(
    client: Client, database: None
) -> None:
    tokens = len(refused(PLATFORM, Action.MACHINE_TOKEN_REFUSED))
    codes = len(refused(PLATFORM, Action.MACHINE_CODE_REFUSED))

    client.post("/machine/v1/presence", headers={"Authorization": "Machine nobody"})
    client.post(
        "/machine/v1/enrol",
        {"code": "ABCD-EFGH", "version": "1", "api": 1},
        content_type="application/json",
    )

    assert len(refused(PLATFORM, Action.MACHINE_TOKEN_REFUSED)) == tokens + 1
    assert len(refused(PLATFORM, Action.MACHINE_CODE_REFUSED)) == codes + 1


def test_a_person_without_an_agency_is_recorded_by_the_platform(
    client: Client, bookkeeper: Person
) -> None:
    with agency_scope(bookkeeper.viewer.agency_id):
        bookkeeper.member.active = False
        bookkeeper.member.save()
    client.force_login(bookkeeper.user)

    assert client.get("/").status_code == 403

    assert refused(PLATFORM)[-1]["actor"] == bookkeeper.user.username


def test_an_odd_path_is_refused_and_recorded(
    login: Login, bookkeeper: Person, agency: Agency
) -> None:
    assert login(bookkeeper).get("/act/a%00b").status_code in {403, 404}
