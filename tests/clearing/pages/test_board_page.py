"""本月清卡 and its fragments, as each role gets them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agency.models import Agency
from agency.scope import agency_scope
from clearing.choices import PeriodState
from clearing.models import DeadlineOverride
from clearing.states import Reason, RunState
from tests.clearing import scenes
from tests.conftest import MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]


def text(client: Client, path: str = "/") -> str:
    response = client.get(path)
    assert response.status_code == 200, path
    return response.content.decode()


def test_the_bookkeeper_sees_the_window_and_what_is_assigned(
    login: Login, bookkeeper: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    mine = make_company(short_name="晨光商贸", assigned_to=bookkeeper)
    make_company(short_name="别人的客户")
    scenes.period(make_disk(mine), PeriodState.CLEARED)

    page = text(login(bookkeeper))

    assert "2026年10月属期" in page
    assert "11月16日" in page  # the 15th is a Sunday
    assert "还有 7 天" in page
    assert "晨光商贸" in page
    assert "12月15日" in page
    assert "11月9日 10:12 读盘" in page
    assert "卷票 已清卡" in page
    assert "别人的客户" not in page
    assert "模拟" in page


def test_an_agencys_own_deadline_goes_before_the_rule(
    login: Login, agency: Agency, owner: Person
) -> None:
    with agency_scope(agency.pk):
        DeadlineOverride.objects.create(agency=agency, month="2026-11", deadline="2026-11-25")

    assert "11月25日" in text(login(owner))


def test_without_a_calendar_the_page_says_so_instead_of_guessing(
    login: Login, owner: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clearing.deadlines.calendar_knows", lambda year: False)

    assert "节假日日历尚未收录 2026 年" in text(login(owner))


def test_a_failure_shows_its_cause_whose_move_it_is_and_the_next_step(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    scenes.run(make_disk(make_company()), RunState.FAILED, code="invoices_pending", detail="3 张")

    page = text(login(supervisor))

    assert "有发票尚未上传" in page
    assert "3 张" in page
    assert "请在开票软件里联网上传全部发票" in page
    assert '<td data-label="责任方">客户</td>' in page


def test_a_quiet_board_is_not_polled(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    scenes.period(make_disk(make_company()), PeriodState.CLEARED)

    assert "hx-trigger" not in text(login(supervisor))


@pytest.mark.parametrize(
    ("state", "reason", "seconds"),
    [(RunState.QUEUED, "", 2), (RunState.CLAIMED, "", 2), (RunState.WAITING, Reason.DISK, 15)],
)
def test_rows_follow_the_work_fast_while_it_runs_and_slowly_while_it_waits(
    login: Login,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    state: RunState,
    reason: str,
    seconds: int,
) -> None:
    company = make_company()
    scenes.run(make_disk(company), state, reason=reason)
    client = login(supervisor)

    assert f'hx-trigger="every {seconds}s"' in text(client)
    assert f'hx-trigger="every {seconds}s"' in text(client, f"/board/rows?ids={company.pk}")


def test_the_fragment_holds_the_asked_rows_in_order_and_stops_when_nothing_is_open(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    first, second, third = (make_company(short_name=name) for name in ("甲户", "乙户", "丙户"))
    for company in (first, second, third):
        scenes.period(make_disk(company), PeriodState.CLEARED)

    page = text(login(supervisor), f"/board/rows?ids={second.pk},{first.pk}")

    assert page.index("乙户") < page.index("甲户")
    assert "丙户" not in page
    assert "hx-trigger" not in page
    assert 'id="progress" hx-swap-oob="true"' in page


def test_the_fragment_leaves_out_rows_of_others(
    login: Login,
    bookkeeper: Person,
    other_agency: Agency,
    make_company: MakeCompany,
) -> None:
    colleagues, foreign = (
        make_company(short_name="同事的"),
        make_company(short_name="外面的", of=other_agency),
    )

    page = text(login(bookkeeper), f"/board/rows?ids={colleagues.pk},{foreign.pk}")

    assert "同事的" not in page
    assert "外面的" not in page


def test_odd_ids_are_a_404(login: Login, supervisor: Person) -> None:
    assert login(supervisor).get("/board/rows?ids=1,x").status_code == 404


def test_counters_come_alone_and_are_asked_again_while_something_is_open(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    scenes.run(make_disk(make_company()), RunState.QUEUED)

    page = text(login(supervisor), "/board/counters")

    assert page.startswith('<nav class="counters"')
    assert 'hx-trigger="every 10s"' in page


def test_the_front_desk_sees_names_and_places_and_no_states(
    login: Login, front_desk: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company = make_company(short_name="晨光商贸")
    scenes.period(make_disk(company, device_no="6619000000000001"), PeriodState.TO_REPORT)
    client = login(front_desk)

    page = text(client)

    assert "晨光商贸" in page
    assert "6619000000000001" in page
    assert "没有插着" in page
    assert "待抄报" not in page
    assert "一键抄报清卡" not in page
    assert client.get("/board/rows?ids=1").status_code == 403
    assert client.get("/board/counters").status_code == 403


def test_a_client_gets_no_board(login: Login, client_person: Person) -> None:
    client = login(client_person)

    assert client.get("/board/rows?ids=1").status_code == 403
    assert client.get("/board/counters").status_code == 403


def test_nobody_is_sent_to_sign_in(client: Client, database: None) -> None:
    response = client.get("/")

    assert (response.status_code, response["Location"]) == (302, "/login?next=/")


def test_a_page_of_many_rows_is_cut_and_the_rest_can_be_ticked_as_well(
    login: Login, supervisor: Person, make_company: MakeCompany
) -> None:
    for _ in range(101):
        make_company()
    client = login(supervisor)

    page = text(client)

    assert page.count('name="company"') == 100
    assert "全选符合条件的 101 户" in page
    assert text(client, "/?page=2").count('name="company"') == 1


@pytest.mark.parametrize("path", ["/", "/failures", "/batches", "/board/counters", "/audit"])
def test_the_number_of_queries_does_not_grow_with_the_rows(
    login: Login,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    path: str,
) -> None:
    client = login(supervisor)

    def fill(companies: int) -> None:
        for number in range(companies):
            disk = make_disk(make_company(assigned_to=supervisor))
            if number % 2:
                scenes.run(disk, RunState.QUEUED)
            else:
                scenes.run(disk, RunState.FAILED, code="wrong_disk", raw_code="4002")

    def asked() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(path).status_code == 200
        return len(seen)

    fill(10)
    few = asked()
    fill(50)

    assert asked() == few
