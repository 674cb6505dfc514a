"""失败处理 and the batches: causes with their remedy, and how far a click has come."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

from django.test import Client

from agency.access import companies_of
from agency.models import Agency
from agency.scope import agency_scope
from clearing.choices import FilingState, PeriodState
from clearing.selectors.batches import progress
from clearing.selectors.failures import groups
from clearing.states import Reason, RunState
from devices.protocol.month import Month
from tests.clearing import scenes
from tests.conftest import NOW, MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]


def test_failures_are_grouped_by_cause_the_largest_first(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    for _ in range(2):
        scenes.run(
            make_disk(make_company()), RunState.FAILED, code="device_refused", raw_code="E7F3"
        )
    scenes.run(make_disk(make_company()), RunState.FAILED, code="wrong_disk")
    scenes.run(make_disk(make_company()), RunState.UNKNOWN)
    scenes.run(make_disk(make_company()), RunState.WAITING, reason=Reason.BY_HAND)
    scenes.run(make_disk(make_company()), RunState.WAITING, reason=Reason.PIN)
    scenes.period(
        make_disk(make_company(filing_frequency="monthly")),
        PeriodState.TO_CLEAR,
        filing=FilingState.COMPARISON_FAILED,
    )

    with agency_scope(supervisor.viewer.agency_id):
        found = groups(companies_of(supervisor.viewer), Month(2026, 10), NOW.date())
    page = login(supervisor).get("/failures").content.decode()

    assert [(group.code, len(group.lines)) for group in found] == [
        ("device_refused", 2),
        ("by_hand", 1),
        ("comparison_failed", 1),
        ("pin", 1),
        ("unknown", 1),
        ("wrong_disk", 1),
    ]
    assert "7 户需处理" in page
    assert '<span class="mono">E7F3</span> ×2' in page
    assert "未收录代码，请转给技术支持" in page
    assert page.count("重试这一组") == 2  # only what has failed can be retried


def test_a_bookkeeper_sees_the_failures_of_their_own(
    login: Login, bookkeeper: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    mine = make_company(short_name="我的户", assigned_to=bookkeeper)
    scenes.run(make_disk(mine), RunState.FAILED, code="password_wrong")
    scenes.run(
        make_disk(make_company(short_name="同事的户")), RunState.FAILED, code="password_wrong"
    )

    page = login(bookkeeper).get("/failures").content.decode()

    assert "我的户" in page
    assert "同事的户" not in page
    assert "录入口令" in page


def test_the_front_desk_has_no_failures_page(login: Login, front_desk: Person) -> None:
    assert login(front_desk).get("/failures").status_code == 403


def test_a_batch_counts_its_runs_by_outcome_and_is_followed_while_it_works(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    first = scenes.run(make_disk(make_company()), RunState.DONE)
    batch = first.batch
    scenes.run(make_disk(make_company()), RunState.FAILED, batch=batch, code="wrong_disk")
    busy = scenes.run(make_disk(make_company()), RunState.QUEUED, batch=batch)
    client = login(supervisor)

    page = client.get(f"/batches/{batch.pk}").content.decode()
    part = client.get(f"/batches/{batch.pk}", headers={"HX-Request": "true"}).content.decode()

    assert "已办 2 / 3" in page
    for words in ("排队中 1", "已完成 1", "未办成 1"):
        assert words in page
    assert part.startswith('<div id="batch"')
    assert 'hx-trigger="every 2s"' in part
    with agency_scope(agency.pk):
        busy.state, busy.ended_at = RunState.CANCELLED, NOW
        busy.save()
    assert "hx-trigger" not in client.get(f"/batches/{batch.pk}").content.decode()


def test_the_time_left_is_told_only_when_something_is_known(
    agency: Agency, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    batch = scenes.run(make_disk(make_company()), RunState.QUEUED).batch
    mine = companies_of

    def left(minutes: int) -> str:
        with agency_scope(agency.pk):
            now = batch.created_at + dt.timedelta(minutes=minutes)
            return progress(batch, mine(supervisor.viewer), now).remaining_text

    assert left(5) == "办过几户后才能估算剩余时间"
    for _ in range(4):
        scenes.run(make_disk(make_company()), RunState.DONE, batch=batch)
    scenes.run(make_disk(make_company()), RunState.WAITING, batch=batch, reason=Reason.DISK)
    assert left(8) == "约还需 2 分钟"
    assert left(9) == "约还需 3 分钟"
    assert left(60 * 48) == "进展很慢，暂时无法估算剩余时间"


def test_batches_of_others_are_not_there(
    login: Login,
    bookkeeper: Person,
    outsider: Person,
    front_desk: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    mine = scenes.run(make_disk(make_company(assigned_to=bookkeeper)), RunState.DONE).batch
    colleagues = scenes.run(make_disk(make_company()), RunState.DONE).batch

    assert login(bookkeeper).get(f"/batches/{mine.pk}").status_code == 200
    assert login(bookkeeper).get(f"/batches/{colleagues.pk}").status_code == 403
    assert login(outsider).get(f"/batches/{mine.pk}").status_code == 404
    assert login(front_desk).get(f"/batches/{mine.pk}").status_code == 403
    listed = login(bookkeeper).get("/batches").content.decode()
    assert f"/batches/{mine.pk}" in listed
    assert f"/batches/{colleagues.pk}" not in listed
    assert login(bookkeeper).get(f"/?batch={colleagues.pk}").status_code == 200
