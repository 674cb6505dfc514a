"""What only a browser can show: rows that change by themselves, ticks that stay, narrow screens."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, expect

from agency import clock, people
from agency.choices import Role
from agency.models import Agency
from agency.scope import agency_scope
from agency.support import consent_give
from clearing.choices import PeriodState
from clearing.models import Batch, Run
from clearing.states import RunState
from tests.browser.conftest import SignIn, refuse_what_the_policy_stopped
from tests.clearing import scenes
from tests.conftest import NOW, PASSWORD, MakeCompany, MakeDisk, Operator, Person, signed_in

pytestmark = pytest.mark.committed


@pytest.fixture(autouse=True)
def _morning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)


def test_from_a_tick_to_a_running_batch(
    sign_in: SignIn,
    agency: Agency,
    bookkeeper: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    for name in ("晨光商贸", "恒泰机械"):
        make_disk(make_company(short_name=name, assigned_to=bookkeeper))
    page = sign_in(bookkeeper)

    page.get_by_label("勾选 晨光商贸").check()
    expect(page.get_by_text("本页已勾选 1 户")).to_be_visible()
    page.get_by_label("勾选本页").check()
    expect(page.get_by_text("本页已勾选 2 户")).to_be_visible()
    page.get_by_role("button", name="一键抄报清卡").click()
    expect(page.get_by_text("将办理 2 只税盘")).to_be_visible()
    page.get_by_role("button", name="确认一键抄报清卡").dblclick()

    expect(page.get_by_text("已开始：2 次新办理")).to_be_visible()
    expect(page.locator("#progress progress")).to_be_visible()
    with agency_scope(agency.pk):
        assert (Batch.objects.count(), Run.objects.count()) == (1, 2)


def test_a_row_changes_by_itself_keeps_its_tick_and_polling_ends(
    sign_in: SignIn,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    company = make_company(short_name="晨光商贸")
    disk = make_disk(company)
    run = scenes.run(disk, RunState.CLAIMED)
    page = sign_in(supervisor)
    row = page.get_by_role("row").filter(has_text="晨光商贸")
    expect(row).to_contain_text("办理中")
    page.get_by_label("勾选 晨光商贸").check()

    scenes.period(disk, PeriodState.CLEARED)
    with agency_scope(agency.pk):
        run.state, run.lease_until, run.ended_at = RunState.DONE, None, NOW
        run.save()

    expect(row).to_contain_text("已清卡", timeout=10_000)
    expect(page.get_by_label("勾选 晨光商贸")).to_be_checked()
    expect(page.locator("#rows")).not_to_have_attribute("hx-trigger", re.compile("."))
    expect(page.locator("#counter-cleared strong")).to_have_text("1", timeout=15_000)
    expect(page.locator("#counters")).not_to_have_attribute("hx-trigger", re.compile("."))


def test_everything_works_without_javascript(
    sign_in: SignIn,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    make_disk(make_company(short_name="晨光商贸"))
    page = sign_in(supervisor, javascript=False)

    page.get_by_label("勾选 晨光商贸").check()
    page.get_by_role("button", name="读盘", exact=True).click()
    page.get_by_role("button", name="确认读盘").click()

    assert "已开始：1 次新办理" in page.content()
    with agency_scope(agency.pk):
        assert Run.objects.count() == 1


def test_the_keyboard_is_enough(
    sign_in: SignIn, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    make_disk(make_company(short_name="晨光商贸"))
    page = sign_in(supervisor)

    page.keyboard.press("Tab")
    expect(page.get_by_text("跳到正文")).to_be_focused()
    page.get_by_label("勾选 晨光商贸").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="读盘", exact=True).focus()
    page.keyboard.press("Enter")
    # The confirmation waits with its button under the finger.
    expect(page.get_by_role("button", name="确认读盘")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.get_by_text("已开始：1 次新办理")).to_be_visible()


@pytest.mark.parametrize("width", [375, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_no_page_is_wider_than_the_screen(
    sign_in: SignIn,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    width: int,
    dark: bool,
) -> None:
    company = make_company(short_name="晨光商贸", assigned_to=supervisor)
    disk = make_disk(company)
    row = scenes.period(disk, PeriodState.TO_REPORT)
    batch = scenes.run(disk, RunState.FAILED, code="invoices_pending").batch
    page = sign_in(supervisor, width=width, dark=dark)

    for path in (
        "/",
        f"/companies/{company.pk}",
        "/failures",
        "/batches",
        f"/batches/{batch.pk}",
        "/audit",
        "/members",
        "/account",
        "/account/second-factor",
        f"/companies/{company.pk}/links",
        "/import/",
        f"/disks/{disk.pk}/password",
        f"/disks/{disk.pk}/pin",
        "/disks/unknown",
        "/machines",
        "/machines/add",
        f"/periods/{row.pk}/by-hand",
        f"/act/confirm?action=report_and_clear&company={company.pk}",
    ):
        response = page.goto(path)
        assert response is not None and response.status == 200, path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


def test_the_client_reads_the_answer_on_a_phone(
    sign_in: SignIn, client_person: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    scenes.period(make_disk(make_company(assigned_to=client_person)), PeriodState.CLEARED)
    page = sign_in(client_person, width=375)

    answer = page.get_by_text("本月已清卡")

    expect(answer).to_be_in_viewport()
    expect(answer).to_have_class(re.compile("green"))


def test_the_invited_join_by_their_link_and_no_address_leaves_with_them(
    site: str, browser: Browser, agency: Agency
) -> None:
    with agency_scope(agency.pk):
        made = people.invitation_create(
            agency=agency, name="新会计", role=Role.BOOKKEEPER, by="周", now=clock.real_now()
        )
    page = browser.new_page(locale="zh-CN")
    referers = []
    page.on("request", lambda request: referers.append(request.headers.get("referer", "")))
    page.goto(f"{site}/join/{made.token}")
    page.get_by_label("账号").fill(f"new-{made.token[:8]}")
    for label in ("登录口令", "再输一遍新口令"):
        page.get_by_label(label, exact=True).fill(PASSWORD)
    page.get_by_role("button", name="加入").click()

    page.wait_for_url(f"{site}/")
    assert set(referers) <= {"", f"{site}/"}


@pytest.mark.parametrize("width", [375, 1440])
def test_no_page_of_a_support_session_is_wider_than_the_screen(
    site: str,
    browser: Browser,
    agency: Agency,
    operator: Operator,
    owner: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    width: int,
) -> None:
    disk = make_disk(make_company(short_name="晨光商贸"))
    batch = scenes.run(disk, RunState.FAILED, code="invoices_pending").batch
    with agency_scope(agency.pk):
        consent_give(agency=agency)
    visitor = signed_in(operator)
    assert operator.visit(visitor, agency).status_code == 302
    visited = ["", "trail", f"agencies/{agency.pk}/open", "agency/company/", "agency/auditentry/"]
    visited += ["clearing/run/", f"clearing/batch/{batch.pk}/", f"devices/taxdisk/{disk.pk}/"]
    for client, paths in (
        (visitor, [f"/operator/{path}" for path in visited]),
        (signed_in(owner), ["/", "/support", "/members"]),
    ):
        context = browser.new_context(base_url=site, viewport={"width": width, "height": 900})
        context.add_cookies(
            [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}]
        )
        page = context.new_page()
        page.on("console", refuse_what_the_policy_stopped)
        for path in paths:
            response = page.goto(path)
            assert response is not None and response.status == 200, path
            assert page.locator("aside.support").count() == 1, path
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
