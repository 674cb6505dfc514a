"""From ticks to work: the confirmation says what will happen, the key makes two clicks one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from agency.choices import Action, FilingFrequency
from agency.models import Agency, AuditEntry, Company
from agency.scope import agency_scope
from clearing.choices import Intent, PeriodState
from clearing.models import Batch, DiskPeriod, Run
from clearing.selectors.confirmation import preview
from clearing.states import Reason, RunState
from tests.clearing import scenes
from tests.conftest import NOW, MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]
ACTIONS = [
    "read",
    "report",
    "report_and_clear",
    "mark_filed",
    "unmark_filed",
    "retry",
    "cancel",
]


def fields(page: str) -> dict[str, str]:
    """The hidden fields of the confirmation."""
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    found.pop("csrfmiddlewaretoken", None)
    return found


def confirm(client: Client, action: str, *companies: Company, **more: Any) -> str:
    ids = [company.pk for company in companies]
    response = client.get("/act/confirm", {"action": action, "company": ids, **more})
    assert response.status_code == 200
    return response.content.decode()


def start(client: Client, page: str) -> str:
    """Press the button; the page that follows."""
    response = client.post("/act/start", fields(page), follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_the_confirmation_says_how_many_run_and_who_is_skipped_and_why(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    fresh, cleared, running, without = (make_company() for _ in range(4))
    make_disk(fresh)
    make_disk(fresh, terminal_no=1)
    scenes.period(make_disk(cleared), PeriodState.CLEARED)
    scenes.run(make_disk(running), RunState.CLAIMED)

    page = confirm(login(supervisor), "report_and_clear", fresh, cleared, running, without)

    assert "所选 4 户" in page
    assert "将办理 2 只税盘" in page
    assert "另有 1 只已在办理，将并入本批次" in page
    assert "本月已清卡 <strong>1</strong>" in page
    assert "没有税盘 (数电)，无需清卡 <strong>1</strong>" in page


def test_a_confirmed_batch_starts_and_a_double_click_is_one(
    login: Login,
    agency: Agency,
    bookkeeper: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    company = make_company(assigned_to=bookkeeper)
    make_disk(company)
    client = login(bookkeeper)
    page = confirm(client, "report_and_clear", company)

    first, second = start(client, page), start(client, page)

    assert "已开始：1 次新办理" in first
    assert "批次进度" in first
    assert "批次进度" in second
    with agency_scope(agency.pk):
        assert Batch.objects.count() == 1
        assert Run.objects.count() == 1
        assert Batch.objects.get().started_by == "郑会计"


def test_two_confirmations_are_two_clicks_and_the_second_joins(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    company = make_company()
    make_disk(company)
    client = login(supervisor)
    start(client, confirm(client, "read", company))

    page = start(client, confirm(client, "read", company))

    assert "0 次新办理，1 次已在办理并入" in page
    with agency_scope(agency.pk):
        assert (Batch.objects.count(), Run.objects.count()) == (2, 1)


def test_all_that_match_a_filter_can_be_chosen_at_once(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    for name in ("晨光一", "晨光二", "恒泰"):
        make_disk(make_company(short_name=name))

    page = confirm(login(supervisor), "read", all="1", q="晨光", state="unread")

    assert "所选 2 户" in page


def test_a_cause_of_failure_chooses_its_companies(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    for code in ("no_answer", "no_answer", "wrong_disk"):
        scenes.run(make_disk(make_company()), RunState.FAILED, code=code)
    client = login(supervisor)

    assert "所选 2 户" in confirm(client, "retry", code="no_answer")
    nothing = client.get("/act/confirm", {"action": "retry", "code": "x"}, follow=True)
    assert "请先勾选客户" in nothing.content.decode()


def test_retrying_a_group_retries_the_runs_of_that_group_only(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    company = make_company()
    asked = scenes.run(make_disk(company), RunState.FAILED, code="no_answer")
    other = scenes.run(make_disk(company, terminal_no=1), RunState.FAILED, code="wrong_disk")
    client = login(supervisor)

    page = confirm(client, "retry", code="no_answer")
    assert "将办理 1 只税盘" in page
    # One that fails for the same cause after the question was asked is not part of the answer.
    later = scenes.run(make_disk(make_company()), RunState.FAILED, code="no_answer")
    start(client, page)

    with agency_scope(agency.pk):
        counts = {
            run.pk: Run.objects.filter(disk=run.disk).count() for run in (asked, other, later)
        }
    assert counts == {asked.pk: 2, other.pk: 1, later.pk: 1}


def test_a_cleared_company_needs_no_filing_mark(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company = make_company()
    scenes.period(make_disk(company), PeriodState.CLEARED)

    page = confirm(login(supervisor), "mark_filed", company)

    assert "没有可以办理的" in page
    assert "本月已清卡 <strong>1</strong>" in page


def test_marking_warns_of_unreported_disks_and_can_be_taken_back(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    ready = make_company(filing_frequency=FilingFrequency.MONTHLY)
    early = make_company(short_name="早标的", filing_frequency=FilingFrequency.MONTHLY)
    scenes.period(make_disk(ready), PeriodState.TO_CLEAR)
    scenes.period(make_disk(early), PeriodState.TO_REPORT)
    client = login(supervisor)

    page = confirm(client, "mark_filed", ready, early)
    assert "1 户还有税盘未抄报 (早标的)" in page
    after = start(client, page)

    assert "已标记 2 户申报" in after
    assert "其中 1 户还有税盘未抄报" in after
    with agency_scope(agency.pk):
        assert DiskPeriod.objects.filter(marked_filed_by="吴主管").count() == 2

    again = confirm(client, "mark_filed", ready)
    assert "没有可以办理的" in again
    start(client, confirm(client, "unmark_filed", ready, early))
    with agency_scope(agency.pk):
        assert not DiskPeriod.objects.filter(marked_filed_at__isnull=False).exists()


def test_retry_takes_the_failed_and_leaves_the_rest(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    failed, fine, running = (make_company() for _ in range(3))
    scenes.run(make_disk(failed), RunState.FAILED, code="no_answer")
    scenes.period(make_disk(fine), PeriodState.CLEARED)
    scenes.run(make_disk(running), RunState.QUEUED)
    client = login(supervisor)

    page = confirm(client, "retry", failed, fine, running)
    assert "将办理 1 只税盘" in page
    assert "没有未办成的办理 <strong>1</strong>" in page
    assert "已在办理 <strong>1</strong>" in page
    start(client, page)
    start(client, page)  # the same click

    with agency_scope(agency.pk):
        assert Run.objects.filter(disk__company=failed).count() == 2


def test_cancel_ends_what_waits_and_never_what_is_unknown(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    waiting, unknown = make_company(), make_company()
    scenes.run(make_disk(waiting), RunState.WAITING, reason=Reason.DISK)
    scenes.run(make_disk(unknown), RunState.UNKNOWN)
    client = login(supervisor)

    page = confirm(client, "cancel", waiting, unknown)
    assert "结果待核实，须先读盘，不能取消 <strong>1</strong>" in page
    start(client, page)

    with agency_scope(agency.pk):
        assert set(Run.objects.values_list("state", flat=True)) == {"cancelled", "unknown"}


def test_a_run_that_ends_between_looking_and_cancelling_keeps_no_other_from_it(
    monkeypatch: pytest.MonkeyPatch,
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    companies = [make_company() for _ in range(3)]
    runs = [
        scenes.run(make_disk(company), RunState.WAITING, reason=Reason.DISK)
        for company in companies
    ]
    client = login(supervisor)
    page = confirm(client, "cancel", *companies)

    def look(*given: Any, **more: Any) -> Any:
        seen = preview(*given, **more)
        Run.objects.filter(pk=runs[1].pk).update(state=RunState.DONE, reason="", ended_at=NOW)
        return seen

    monkeypatch.setattr("clearing.pages.actions.preview", look)
    after = start(client, page)

    assert "已取消 2 次办理" in after
    assert "1 次办理此前已结束或结果待核实，没有取消" in after
    with agency_scope(agency.pk):
        assert [Run.objects.get(pk=run.pk).state for run in runs] == [
            "cancelled",
            "done",
            "cancelled",
        ]
        cancelled = AuditEntry.objects.filter(action=Action.RUN_CANCELLED)
        assert {entry.data["run"] for entry in cancelled} == {runs[0].pk, runs[2].pk}


def test_a_retry_says_what_it_does_with_each_disk(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    read, cleared = make_company(), make_company()
    scenes.run(make_disk(read), RunState.FAILED, intent=Intent.READ, code="no_answer")
    scenes.run(make_disk(cleared), RunState.FAILED, code="no_answer")
    client = login(supervisor)

    both = confirm(client, "retry", read, cleared)
    only_read = confirm(client, "retry", read)

    assert "各按原来的办理内容重试" in both
    assert "读盘 <strong>1</strong>" in both
    assert "抄报清卡 <strong>1</strong>" in both
    assert "请勿拔盘" in both
    assert "抄报清卡 <strong>" not in only_read
    assert "请勿拔盘" not in only_read


def test_a_confirmation_of_another_period_is_asked_again(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    company = make_company()
    make_disk(company)
    client = login(supervisor)
    values = fields(confirm(client, "read", company))

    page = client.post("/act/start", {**values, "period": "2026-09"}, follow=True)

    assert "确认之后已进入新属期" in page.content.decode()
    with agency_scope(agency.pk):
        assert not Batch.objects.exists()


@pytest.mark.parametrize("key", ["", "not-a-uuid", "1" * 80])
def test_a_key_that_is_none_starts_nothing(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    key: str,
) -> None:
    company = make_company()
    make_disk(company)
    client = login(supervisor)
    values = fields(confirm(client, "read", company))

    page = client.post("/act/start", {**values, "key": key}, follow=True)

    assert "页面已过期，请重新确认" in page.content.decode()
    with agency_scope(agency.pk):
        assert not Batch.objects.exists()


def test_without_a_tick_nothing_is_confirmed(login: Login, supervisor: Person) -> None:
    response = login(supervisor).get("/act/confirm", {"action": "read"}, follow=True)

    assert "请先勾选客户" in response.content.decode()


def test_the_way_back_never_leaves_the_site(
    login: Login, supervisor: Person, make_company: MakeCompany
) -> None:
    client, company = login(supervisor), make_company()

    for wanted in ("https://evil.example/", "//evil.example", "javascript:alert(1)", "x"):
        assert fields(confirm(client, "read", company, next=wanted))["next"] == "/"
    assert fields(confirm(client, "read", company, next="/?q=a"))["next"] == "/?q=a"


@pytest.mark.parametrize("action", ACTIONS)
def test_foreign_and_unknown_companies_are_the_same_404(
    login: Login,
    agency: Agency,
    other_agency: Agency,
    owner: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    action: str,
) -> None:
    mine, foreign = make_company(), make_company(of=other_agency)
    make_disk(foreign)
    client = login(owner)

    for number in (foreign.pk, 999_999_999):
        both = f"{mine.pk},{number}"
        asked = client.get("/act/confirm", {"action": action, "company": both})
        done = client.post("/act/start", {"action": action, "company": both, "period": "2026-10"})
        assert (asked.status_code, done.status_code) == (404, 404)
    with agency_scope(other_agency.pk):
        assert not Run.objects.exists()


@pytest.mark.parametrize("action", ACTIONS)
def test_a_colleagues_company_and_a_role_without_the_right_are_403(
    login: Login,
    bookkeeper: Person,
    front_desk: Person,
    client_person: Person,
    supervisor: Person,
    make_company: MakeCompany,
    action: str,
) -> None:
    colleagues = make_company()
    theirs = make_company(assigned_to=client_person)

    for person, company in (
        (bookkeeper, colleagues),
        (front_desk, colleagues),
        (client_person, theirs),
    ):
        asked: dict[str, str | int] = {"action": action, "company": company.pk}
        client = login(person)
        refused = client.get("/act/confirm", asked)
        assert refused.status_code == 403
        assert client.post("/act/start", {**asked, "period": "2026-10"}).status_code == 403
    assert "主管 吴主管" in refused.content.decode()


def test_an_unknown_action_is_a_404_and_starting_needs_a_post(
    login: Login, supervisor: Person
) -> None:
    client = login(supervisor)

    assert client.get("/act/confirm", {"action": "clear_all"}).status_code == 404
    assert client.get("/act/start").status_code == 405
    assert client.post("/act/confirm", {"action": "read"}).status_code == 405
