"""Signing in and out, choosing agency and language, and the pages for when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
from django.test import Client

from agency.choices import Role
from agency.models import Agency, AuditEntry
from agency.pages import sessions
from agency.scope import agency_scope
from agency.services import member_add
from tests.conftest import PASSWORD, Person

Login = Callable[[Person], Client]


def sign_ins(agency: Agency) -> int:
    with agency_scope(agency.pk):
        return AuditEntry.objects.filter(action="member.signed_in").count()


def sign_in(client: Client, person: Person, password: str = PASSWORD) -> str:
    values = {"username": person.user.username, "password": password}
    return client.post("/login", values, follow=True).content.decode()


def test_a_sign_in_leads_to_the_board_and_stands_in_the_trail(
    client: Client, agency: Agency, bookkeeper: Person
) -> None:
    page = sign_in(client, bookkeeper)

    assert "本月清卡" in page
    assert "郑会计" in page
    assert sign_ins(agency) == 1


def test_a_failed_sign_in_says_so_plainly_and_never_which_half_was_wrong(
    client: Client, agency: Agency, bookkeeper: Person
) -> None:
    wrong = sign_in(client, bookkeeper, "Wr0ng-marker")
    nobody = client.post("/login", {"username": "nobody", "password": "x"}).content.decode()

    for page in (wrong, nobody):
        assert "账号或口令不对" in page
    assert "Wr0ng-marker" not in wrong
    assert sign_ins(agency) == 0


def test_signing_out_needs_a_post(login: Login, bookkeeper: Person) -> None:
    client = login(bookkeeper)

    assert client.get("/logout").status_code == 405
    assert client.post("/logout").status_code == 302
    assert client.get("/").status_code == 302


def test_a_person_of_two_agencies_changes_between_them(
    client: Client, agency: Agency, other_agency: Agency, bookkeeper: Person
) -> None:
    with agency_scope(other_agency.pk):
        member_add(
            agency=other_agency,
            username=bookkeeper.user.username,
            password=PASSWORD,
            name="郑兼职",
            role=Role.OWNER,
        )
    page = sign_in(client, bookkeeper)
    assert "切换机构" in page
    assert "郑会计" in page

    page = client.post("/agency", {"agency": other_agency.pk}, follow=True).content.decode()

    assert "郑兼职" in page
    assert (sign_ins(agency), sign_ins(other_agency)) == (1, 1)


def test_an_agency_one_does_not_belong_to_is_a_404(
    login: Login, other_agency: Agency, bookkeeper: Person
) -> None:
    client = login(bookkeeper)

    assert "切换机构" not in client.get("/").content.decode()
    for wanted in (str(other_agency.pk), "999999", "x", ""):
        assert client.post("/agency", {"agency": wanted}).status_code == 404
    assert client.get("/agency").status_code == 405


def test_chinese_comes_first_and_english_on_request(client: Client, database: None) -> None:
    assert "登录口令" in client.get("/login").content.decode()

    client.post("/language", {"language": "en", "next": "/login"})
    page = client.get("/login").content.decode()

    assert "Login password" in page
    assert '<html lang="en">' in page


def test_a_fragment_after_the_session_reloads_the_whole_page(
    client: Client, database: None
) -> None:
    response = client.get("/login?next=/board/rows", headers={"HX-Request": "true"})

    assert response["HX-Refresh"] == "true"


def test_healthz_answers_without_a_session(client: Client) -> None:
    response = client.get("/healthz")

    assert (response.status_code, response.content) == (200, b"ok")


def test_an_unknown_address_is_a_page_of_the_site(login: Login, bookkeeper: Person) -> None:
    response = login(bookkeeper).get("/nowhere")

    assert response.status_code == 404
    assert "没有找到" in response.content.decode()


def test_a_person_without_an_agency_is_told_so(client: Client, bookkeeper: Person) -> None:
    with agency_scope(bookkeeper.viewer.agency_id):
        bookkeeper.member.active = False
        bookkeeper.member.save()
    client.force_login(bookkeeper.user)

    response = client.get("/")

    assert response.status_code == 403
    assert "还不属于任何代账机构" in response.content.decode()


def test_a_form_without_its_token_gets_a_page_that_explains(
    agency: Agency, bookkeeper: Person
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(bookkeeper.user)

    response = client.post("/act/start", {"action": "read"})

    assert response.status_code == 403
    assert "页面已过期" in response.content.decode()


def test_an_error_page_needs_no_database(
    login: Login, bookkeeper: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login(bookkeeper)
    client.raise_request_exception = False
    monkeypatch.setattr("clearing.pages.failures.groups", None)

    response = client.get("/failures")

    assert response.status_code == 500
    assert "系统出错" in response.content.decode()


def test_no_page_asks_a_foreign_host_or_holds_inline_code(
    login: Login, supervisor: Person, make_company: Callable[..., object]
) -> None:
    make_company()
    client = login(supervisor)

    for path in (
        "/",
        "/failures",
        "/batches",
        "/audit",
        "/import/",
        "/machines",
        "/machines/add",
        "/disks/unknown",
        "/login",
    ):
        page = client.get(path, follow=True).content.decode()
        assert "<style" not in page
        assert " style=" not in page
        assert " onclick=" not in page
        assert "http://" not in page
        assert "https://" not in page
        assert page.count("<script") == page.count("<script src=") == 2


def test_a_session_ends_after_a_working_day_however_busy(
    login: Login, bookkeeper: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = login(bookkeeper)
    assert client.get("/").status_code == 200
    begun = client.session["since"]
    for hours, status in ((11, 200), (13, 302), (13, 302)):
        moment = begun + hours * 3600
        monkeypatch.setattr(sessions, "time", SimpleNamespace(time=partial(float, moment)))
        assert client.get("/").status_code == status
    assert client.get("/")["Location"].startswith("/login")


def test_signing_out_ends_the_session_and_clears_the_browser(
    login: Login, bookkeeper: Person
) -> None:
    client = login(bookkeeper)
    kept = client.cookies["sessionid"].value
    answer = client.post("/logout")
    assert answer["Clear-Site-Data"] == '"cache", "storage"'
    client.cookies["sessionid"] = kept
    assert client.get("/").status_code == 302
