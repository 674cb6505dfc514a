"""Support sessions: only with consent, only for a while, and the agency sees all of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.test import Client

from agency import audit, support
from agency.clock import real_now
from agency.errors import ServiceError
from agency.models import PLATFORM, Agency, AuditEntry, SupportSession
from agency.operator.read_only import ReadOnly
from agency.scope import agency_scope
from agency.tasks import settle_refusals
from tests.conftest import MakeCompany, Operator, Person, add_operator, signed_in

COMPANIES = "/operator/agency/company/"


def entries(agency_id: int, start: str = "support.") -> list[AuditEntry]:
    with agency_scope(agency_id):
        found = AuditEntry.objects.filter(action__startswith=start).order_by("sequence")
        return list(found)


def actions(agency_id: int) -> list[str]:
    return [entry.action for entry in entries(agency_id)]


def consent(agency: Agency) -> None:
    with agency_scope(agency.pk):
        support.consent_give(agency=agency)
    agency.refresh_from_db()


def opened(operator: Operator, agency: Agency, **fields: Any) -> SupportSession:
    asked: dict[str, Any] = {"reason": "客户来电求助", "minutes": 15, "now": real_now(), **fields}
    return support.session_open(operator=operator.user, agency=agency, **asked)


def test_without_consent_no_session_opens(operator: Operator, agency: Agency) -> None:
    with pytest.raises(ServiceError, match="没有同意平台支持"):
        opened(operator, agency)
    client = signed_in(operator)
    page = operator.visit(client, agency)
    assert "没有同意平台支持" in page.content.decode()
    assert client.get(COMPANIES).status_code == 403
    assert actions(agency.pk) == []


@pytest.mark.parametrize(
    ("fields", "said"), [({"reason": "  查  看 "}, "请写明原因"), ({"minutes": 61}, "请选择时长")]
)
def test_a_session_says_why_and_ends_by_itself(
    operator: Operator, agency: Agency, fields: dict[str, Any], said: str
) -> None:
    consent(agency)
    with pytest.raises(ServiceError, match=said):
        opened(operator, agency, **fields)


def test_the_database_knows_no_session_without_a_reason_or_an_end(
    operator: Operator, agency: Agency
) -> None:
    consent(agency)
    session = opened(operator, agency)
    for change in (
        {"reason": ""},
        {"expires_at": session.opened_at + dt.timedelta(minutes=61)},
        {"ended_at": session.opened_at},
    ):
        with agency_scope(agency.pk), pytest.raises(DatabaseError), transaction.atomic():
            SupportSession.objects.filter(pk=session.pk).update(**change)


def test_a_session_stands_in_both_trails_and_both_chains_hold(
    operator: Operator, agency: Agency, owner: Person
) -> None:
    before = len(entries(PLATFORM))
    signed_in(owner).post("/support/allow")
    browser = signed_in(operator)
    assert operator.visit(browser, agency)["Location"] == "/operator/"
    browser.post("/operator/leave")

    assert actions(agency.pk) == ["support.allowed", "support.opened", "support.ended"]
    here = entries(agency.pk)[1]
    assert (here.actor_kind, here.actor_name) == ("operator", operator.user.username)
    assert here.data == {"reason": "客户来电求助", "minutes": 60}
    there = entries(PLATFORM)[before:]
    assert [entry.action for entry in there] == ["support.opened", "support.ended"]
    assert there[0].object_name == agency.name
    assert there[0].data["operator"] == operator.user.username
    for chain in (agency.pk, PLATFORM):
        with agency_scope(chain):
            assert audit.first_bad_sequence() is None


def test_each_page_stands_in_the_agencys_trail_equal_ones_of_a_minute_counted(
    operator: Operator,
    agency: Agency,
    make_company: MakeCompany,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consent(agency)
    company = make_company()
    browser = signed_in(operator)
    operator.visit(browser, agency)
    moment = real_now() - dt.timedelta(minutes=5)
    monkeypatch.setattr("agency.refusals.real_now", lambda: moment)
    for _ in range(3):
        assert browser.get(COMPANIES, {"q": company.tax_id}).status_code == 200
    assert browser.get(f"{COMPANIES}{company.pk}/").status_code == 200
    settle_refusals()

    looks = [entry.data for entry in entries(agency.pk, "support.looked")]
    assert [look["path"] for look in looks] == [
        f"{COMPANIES}?q={company.tax_id}",
        f"{COMPANIES}{company.pk}/",
        f"{COMPANIES}?q={company.tax_id}",
    ]
    assert looks[2]["repeated"] == 2


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{COMPANIES}999999999/", 404),
        (f"{COMPANIES}?phone__startswith=1", 400),
        ("/operator/devices/taxdisk/x/", 404),
    ],
)
def test_a_look_at_what_is_not_there_stands_in_the_trail_all_the_same(
    operator: Operator, agency: Agency, path: str, status: int
) -> None:
    consent(agency)
    browser = signed_in(operator)
    operator.visit(browser, agency)

    assert browser.get(path).status_code == status

    (look,) = entries(agency.pk, "support.looked")
    assert look.data == {"path": path}
    assert (look.actor_kind, look.actor_name) == ("operator", operator.user.username)


def test_a_page_that_fails_was_looked_at(
    operator: Operator, agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    consent(agency)
    browser = signed_in(operator)
    operator.visit(browser, agency)
    browser.raise_request_exception = False
    monkeypatch.setattr(ReadOnly, "get_queryset", None, raising=False)

    assert browser.get(COMPANIES).status_code == 500

    assert [look.data["path"] for look in entries(agency.pk, "support.looked")] == [COMPANIES]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE agency_company SET remark = 'x'",
        "DELETE FROM agency_company",
        "INSERT INTO agency_refusalcount (agency_id, minute, digest, entry, count)"
        " VALUES (0, now(), '', '{}', 1)",
        "UPDATE agency_supportsession SET expires_at = now() + interval '1 minute'",
        "SELECT password FROM agency_user",
    ],
)
def test_whatever_a_page_of_a_visit_tries_the_database_lets_it_only_read(
    operator: Operator,
    agency: Agency,
    make_company: MakeCompany,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
) -> None:
    consent(agency)
    company = make_company()
    browser = signed_in(operator)
    operator.visit(browser, agency)
    tried = []

    def queryset(view: ReadOnly, request: HttpRequest) -> QuerySet[Any]:
        tried.append(statement)
        with connection.cursor() as cursor:
            cursor.execute(statement)
        found: QuerySet[Any] = super(ReadOnly, view).get_queryset(request)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ReadOnly, "get_queryset", queryset, raising=False)
        with pytest.raises(DatabaseError, match="permission denied"):
            browser.get(COMPANIES)
    assert tried
    assert company.short_name in browser.get(COMPANIES).content.decode()
    assert "已结束" in browser.post("/operator/leave", follow=True).content.decode()


def expire(session: SupportSession) -> None:
    with agency_scope(session.agency_id):
        now = real_now()
        SupportSession.objects.filter(pk=session.pk).update(
            opened_at=now - dt.timedelta(minutes=20), expires_at=now - dt.timedelta(seconds=1)
        )


def end(session: SupportSession) -> None:
    support.session_end(session=session, by="周负责", now=real_now())


def withdraw(session: SupportSession) -> None:
    with agency_scope(session.agency_id):
        support.consent_withdraw(agency=session.agency, by="周负责", now=real_now())


def withdraw_in_the_table(session: SupportSession) -> None:
    Agency.objects.filter(pk=session.agency_id).update(support_consent=False)


@pytest.mark.parametrize("how", [expire, end, withdraw, withdraw_in_the_table])
def test_a_session_that_is_over_opens_nothing_in_the_next_request(
    operator: Operator, agency: Agency, make_company: MakeCompany, how: Any
) -> None:
    consent(agency)
    company = make_company()
    browser = signed_in(operator)
    operator.visit(browser, agency)
    assert company.short_name in browser.get(COMPANIES).content.decode()
    with agency_scope(agency.pk):
        session = SupportSession.objects.select_related("agency").get()

    how(session)

    for path in (COMPANIES, f"{COMPANIES}{company.pk}/"):
        refused = browser.get(path)
        assert refused.status_code == 403
        assert company.short_name not in refused.content.decode()
        assert "没有进行中的支持会话" in refused.content.decode()
    assert "结束会话" not in browser.get("/operator/").content.decode()


def test_a_session_opens_nothing_in_another_browser_or_for_another_operator(
    operator: Operator, agency: Agency
) -> None:
    consent(agency)
    browser = signed_in(operator)
    operator.visit(browser, agency)
    assert browser.get(COMPANIES).status_code == 200
    assert signed_in(operator).get(COMPANIES).status_code == 403
    kept = browser.session["support"]
    thief = signed_in(add_operator())
    session = thief.session
    session["support"] = kept
    session.save()
    assert thief.get(COMPANIES).status_code == 403


def test_signing_out_and_going_elsewhere_end_the_session(
    operator: Operator, agency: Agency, other_agency: Agency
) -> None:
    consent(agency)
    consent(other_agency)
    browser = signed_in(operator)
    operator.visit(browser, agency)
    operator.visit(browser, other_agency)
    assert actions(agency.pk)[-1] == "support.ended"
    assert support.running_in(agency) == []
    assert len(support.running_in(other_agency)) == 1
    operator.visit(browser, other_agency)
    assert len(support.running_in(other_agency)) == 1
    assert browser.get(COMPANIES).status_code == 200
    browser.post("/logout")
    assert support.running_in(other_agency) == []


def test_everybody_of_the_agency_sees_it_and_only_the_owner_ends_it(
    operator: Operator, agency: Agency, owner: Person, bookkeeper: Person, outsider: Person
) -> None:
    people: dict[str, Client] = {
        "owner": signed_in(owner), "bookkeeper": signed_in(bookkeeper), "out": signed_in(outsider),
    }  # fmt: skip
    people["owner"].post("/support/allow")
    operator.visit(signed_in(operator), agency, reason="查看第 3 批次卡住的原因")

    seen = {name: browser.get("/").content.decode() for name, browser in people.items()}
    for name in ("owner", "bookkeeper"):
        assert operator.user.username in seen[name]
        assert "查看第 3 批次卡住的原因" in seen[name]
    assert operator.user.username not in seen["out"]
    assert "立即结束" in seen["owner"]
    assert "立即结束" not in seen["bookkeeper"]

    with agency_scope(agency.pk):
        session = SupportSession.objects.get()
    assert people["bookkeeper"].post(f"/support/{session.pk}/end").status_code == 403
    assert people["out"].post(f"/support/{session.pk}/end").status_code == 404
    assert people["owner"].post(f"/support/{session.pk}/end").status_code == 302
    assert "正在查看" not in people["bookkeeper"].get("/").content.decode()
    page = people["owner"].get("/support").content.decode()
    assert "查看第 3 批次卡住的原因" in page
    assert owner.member.name in page


def test_withdrawing_consent_ends_what_runs_and_needs_no_proof(
    operator: Operator, agency: Agency, owner: Person
) -> None:
    browser = signed_in(owner)
    browser.post("/support/allow")
    operator.visit(signed_in(operator), agency)
    session = browser.session
    session["account_authentication_methods"] = []
    session.save()

    assert browser.post("/support/withdraw")["Location"] == "/support"

    assert actions(agency.pk)[-2:] == ["support.withdrawn", "support.ended"]
    with agency_scope(agency.pk):
        row = SupportSession.objects.get()
    assert (row.ended_by, row.ended_at is not None) == (owner.member.name, True)
    assert browser.post("/support/allow")["Location"].startswith("/again?")


def test_a_consent_that_changes_nothing_leaves_no_entry(agency: Agency, owner: Person) -> None:
    browser = signed_in(owner)
    for path in ("withdraw", "allow", "allow", "withdraw", "withdraw"):
        browser.post(f"/support/{path}")
    assert actions(agency.pk) == ["support.allowed", "support.withdrawn"]
