"""The operator's site: whose it is, how one gets in, and what it never shows."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from django.db import models
from django.test import Client
from django.urls import get_resolver

from agency import second_factor, support
from agency.choices import Role
from agency.errors import ServiceError
from agency.models import PLATFORM, Agency, AuditEntry, User
from agency.operator.read_only import ReadOnly
from agency.operator.site import site
from agency.scope import agency_scope
from agency.sealed import SealedField, SealedFileField
from agency.services import member_add
from agency.tenancy import TenantModel
from clearing.choices import PeriodState
from clearing.states import RunState
from devices.models import Machine, TaxDisk
from devices.services import disk_password_enter, machine_create
from tests.agency.pages.test_second_factor import code
from tests.clearing import scenes
from tests.conftest import (
    NOW,
    PASSWORD,
    TOTP_SECRET,
    MakeCompany,
    MakeDisk,
    Operator,
    Person,
    signed_in,
)

# The addresses of the site register the views of all layers.
assert get_resolver().url_patterns
VIEWS: dict[Any, ReadOnly] = {
    model: view for model, view in site._registry.items() if isinstance(view, ReadOnly)
}
#: Columns that are no secret although their names sound like one.
HARMLESS = {"password_state", "password_entered_at", "pin_generation"} | {
    "pin_intent_machine",
    "pin_intent_at",
}
SECRET = re.compile("password|pin|token|hash|salt|sealed|secret|key|account|content|storage")


def shown(view: ReadOnly) -> set[str]:
    """Every column that a page, a sort key or a search of this view reaches."""
    return {*view.columns, *view.facts, *view.search_fields, *view.ordering}


def test_every_view_is_one_of_ours() -> None:
    assert set(VIEWS) == set(site._registry)
    assert {model.__name__ for model in VIEWS} == {
        *("Company", "AuditEntry", "Machine", "Slot", "TaxDisk", "DiskPeriod", "Run", "Batch")
    }
    assert all(issubclass(model, TenantModel) for model in VIEWS)


@pytest.mark.parametrize("model", VIEWS, ids=lambda model: str(model.__name__))
def test_no_view_shows_a_sealed_or_hashed_column(model: type[models.Model]) -> None:
    view = VIEWS[model]
    for path in shown(view):
        *_way, name = path.removeprefix("-").split("__")
        assert name in HARMLESS or not SECRET.search(name), path
    sealed = {
        field.name
        for field in model._meta.get_fields()
        if isinstance(field, SealedField | SealedFileField | models.BinaryField)
    }
    assert not sealed & shown(view)


def test_the_search_for_secrets_finds_one() -> None:
    for name in ("device_password", "token_hash", "pin_late", "storage_name", "broker_account"):
        assert SECRET.search(name)
        assert name not in HARMLESS


@pytest.mark.parametrize("view", VIEWS.values(), ids=str)
def test_no_view_adds_changes_deletes_or_offers_an_action(view: ReadOnly, rf: Any) -> None:
    request = rf.get("/")
    assert not view.has_add_permission(request)
    assert not view.has_change_permission(request)
    assert not view.has_delete_permission(request)
    assert view.actions is None
    assert len(view.get_urls()) == 2


def test_the_site_has_only_these_addresses() -> None:
    found = {
        str(pattern.name)
        for entry in site.get_urls()
        for pattern in getattr(entry, "url_patterns", [entry])
    }
    assert {name for name in found if not re.search("_(changelist|change)$", name)} == {
        *("index", "trail", "support-open", "support-leave")
    }
    assert len(found) == 4 + 2 * len(VIEWS)
    resolver = get_resolver()
    assert "admin" in resolver.app_dict
    assert resolver.app_dict["admin"] == ["operator"]


def visit(operator: Operator, agency: Agency) -> Client:
    with agency_scope(agency.pk):
        support.consent_give(agency=agency)
    browser = signed_in(operator)
    assert operator.visit(browser, agency).status_code == 302
    return browser


def test_no_page_holds_a_password_a_token_or_a_sealed_value(
    operator: Operator, agency: Agency, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    disk = make_disk(make_company())
    row = scenes.period(disk, PeriodState.TO_REPORT)
    run = scenes.run(disk, RunState.QUEUED)
    with agency_scope(agency.pk):
        made = machine_create(agency=agency, name="前台读盘机", simulated=True)
        machine = Machine.objects.get(pk=made.machine.pk)
        disk_password_enter(disk=disk, device_password="m4rk-pw-1", now=NOW)
        sealed = bytes(TaxDisk.objects.get(pk=disk.pk).device_password or b"")
        entry = AuditEntry.objects.order_by("sequence")[0]
    browser = visit(operator, agency)
    body = ""
    for model, view in VIEWS.items():
        name = f"/operator/{model._meta.app_label}/{model._meta.model_name}/"
        answer = browser.get(name)
        assert answer.status_code == 200, name
        body += answer.content.decode()
        rows = {TaxDisk: disk, Machine: machine, type(row): row, type(run): run}
        rows |= {type(run.batch): run.batch, type(disk.company): disk.company, AuditEntry: entry}
        if model in rows:
            answer = browser.get(f"{name}{rows[model].pk}/")
            assert answer.status_code == 200, name
            body += answer.content.decode()
            with agency_scope(agency.pk):
                assert str(view.label(view.facts[0])) in body
    assert disk.device_no is not None and disk.device_no in body
    token = bytes(machine.token_hash)
    assert sealed and token
    for secret in ("m4rk-pw-1", repr(sealed), sealed.hex(), repr(token), token.hex()):
        assert secret not in body
    assert made.token not in body


def test_an_address_asks_about_no_other_column(
    operator: Operator, agency: Agency, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    disk = make_disk(make_company())
    browser = visit(operator, agency)
    for query in ("device_password__isnull=0", "pin_generation=0", "company__remark=", "id=1"):
        assert browser.get(f"/operator/devices/taxdisk/?{query}").status_code == 400, query
    for query in ("q=%00", "o=99.-7.x", "p=x", "p=99", "_to_field=device_password", "all="):
        answer = browser.get(f"/operator/devices/taxdisk/?{query}")
        assert answer.status_code in {200, 302, 400}, query
    assert browser.get(f"/operator/devices/taxdisk/{disk.pk}/").status_code == 200
    for number in ("x", "0", "9" * 30, "%00"):
        assert browser.get(f"/operator/devices/taxdisk/{number}/").status_code == 404, number


def test_another_agencys_rows_are_not_there(
    operator: Operator, agency: Agency, other_agency: Agency, make_company: MakeCompany
) -> None:
    foreign = make_company(of=other_agency)
    browser = visit(operator, agency)
    assert browser.get(f"/operator/agency/company/{foreign.pk}/").status_code == 404
    listed = browser.get("/operator/agency/company/", {"q": foreign.tax_id}).content.decode()
    assert foreign.short_name not in listed


def test_without_a_session_the_names_of_agencies_are_all_there_is(
    operator: Operator, agency: Agency, make_company: MakeCompany, owner: Person
) -> None:
    company = make_company()
    browser = signed_in(operator)
    page = browser.get("/operator/", {"q": agency.name}).content.decode()
    assert agency.name in page
    assert "未同意" in page
    listed = browser.get("/operator/", {"q": "平台"}).context["page"].paginator.object_list
    assert PLATFORM not in {row.pk for row in listed}
    assert company.short_name not in page
    assert owner.member.name not in page
    for model in VIEWS:
        answer = browser.get(f"/operator/{model._meta.app_label}/{model._meta.model_name}/")
        assert answer.status_code == 403
    for path in ("/audit", "/machines", "/members", "/batches", f"/companies/{company.pk}"):
        assert browser.get(path).status_code in {403, 404}, path


def test_the_platforms_trail_is_there_and_no_agencys(
    operator: Operator, agency: Agency, make_company: MakeCompany
) -> None:
    company = make_company()
    browser = visit(operator, agency)
    browser.get(f"/companies/{company.pk}")
    page = browser.get("/operator/trail").content.decode()
    assert "平台开启支持会话" in page
    assert f"/companies/{company.pk}" in page  # refused, to the operator
    assert "新增客户" not in page
    assert company.short_name not in page


def test_a_session_opens_the_operators_pages_and_no_others(
    operator: Operator, agency: Agency, make_company: MakeCompany
) -> None:
    company = make_company()
    browser = visit(operator, agency)
    for path in ("/audit", "/machines", "/members", "/batches", f"/companies/{company.pk}"):
        answer = browser.get(path)
        assert answer.status_code in {403, 404}, path
        assert company.short_name not in answer.content.decode()
    assert browser.get("/")["Location"] == "/operator/"


def test_from_createsuperuser_to_the_site(client: Client, database: None) -> None:
    """A first sign-in leads to the second factor, and nothing is seen before."""
    user = User.objects.create_superuser("first-operator", password=PASSWORD)
    assert second_factor.demanded_somewhere(user.pk)
    answer = client.post("/login", {"username": user.username, "password": PASSWORD})
    assert answer["Location"] == "/operator/"
    for path in ("/operator/", "/", "/operator/agency/company/", "/account"):
        assert client.get(path)["Location"] == "/account/second-factor", path
    page = client.get("/account/second-factor").content.decode()
    assert "平台运维账号必须使用两步验证" in page
    secret = re.search(r"<code>(\w+)</code>", page)
    assert secret is not None
    assert client.post("/account/second-factor", {"code": code(secret[1])}).status_code == 302
    assert client.get("/operator/").status_code == 200
    assert client.get("/account/second-factor/off").status_code == 200
    refused = client.post("/account/second-factor/off").content.decode()
    assert "要求两步验证，不能停用" in refused
    with agency_scope(PLATFORM):
        mine = AuditEntry.objects.filter(actor_id=user.pk).order_by("sequence")
        assert [entry.action for entry in mine] == ["member.signed_in", "member.second_factor_on"]
        assert {entry.actor_kind for entry in mine} == {"operator"}


def test_with_a_second_factor_the_code_is_asked_at_each_sign_in(
    client: Client, operator: Operator
) -> None:
    asked = {"username": operator.user.username, "password": PASSWORD}
    assert client.post("/login", asked)["Location"] == "/login/code"
    assert client.get("/operator/")["Location"].startswith("/login")
    answer = client.post("/login/code", {"code": code(TOTP_SECRET)})
    assert answer["Location"] == "/operator/"
    assert client.get("/operator/").status_code == 200


def test_for_a_member_the_site_answers_like_an_address_that_does_not_exist(
    owner: Person, client: Client
) -> None:
    browser = signed_in(owner)
    missing = browser.get("/nothing-here")
    for path in ("/operator/", "/operator/agency/company/", "/operator/agencies/1/open"):
        answer = browser.get(path)
        assert answer.status_code == missing.status_code == 404
        assert _plain(answer.content.decode()) == _plain(missing.content.decode())
        assert client.get(path)["Location"].startswith("/login?next=/operator/")
    with agency_scope(owner.viewer.agency_id):
        paths = AuditEntry.objects.filter(action="access.refused").values_list("data__path")
        assert ("/operator/",) in list(paths)


def _plain(text: str) -> str:
    text = re.sub(r'(?<=csrfmiddlewaretoken" value=")\w+', "*", text)
    return re.sub(r'(?<=name="next" value=")[^"]+', "*", text)


def test_a_member_is_never_an_operator_and_an_operator_never_a_member(
    owner: Person, operator: Operator, agency: Agency
) -> None:
    User.objects.filter(pk=owner.user.pk).update(is_staff=True, is_superuser=True)
    assert signed_in(owner).get("/operator/").status_code == 404
    with agency_scope(agency.pk), pytest.raises(ServiceError, match="平台运维账号"):
        member_add(
            agency=agency,
            username=operator.user.username,
            password=PASSWORD,
            name="运维",
            role=Role.SUPERVISOR,
        )


def test_staff_that_is_taken_away_ends_with_the_next_request(
    operator: Operator, agency: Agency
) -> None:
    browser = visit(operator, agency)
    assert browser.get("/operator/agency/company/").status_code == 200
    User.objects.filter(pk=operator.user.pk).update(is_staff=False)
    assert browser.get("/operator/agency/company/").status_code == 404
    assert browser.get("/operator/").status_code == 404


def test_opening_asks_again_who_it_is(operator: Operator, agency: Agency) -> None:
    with agency_scope(agency.pk):
        support.consent_give(agency=agency)
    browser = signed_in(operator)
    session = browser.session
    session["account_authentication_methods"] = [{"method": "mfa", "at": time.time() - 3600}]
    session.save()
    address = f"/operator/agencies/{agency.pk}/open"
    assert browser.get(address)["Location"] == f"/again?next={address.replace('/', '%2F')}"
    assert operator.visit(browser, agency)["Location"].startswith("/again?")
    assert support.running_in(Agency.objects.get(pk=agency.pk)) == []
