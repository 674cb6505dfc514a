"""The company page, entering passwords and entries by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.choices import PeriodState, Stage
from clearing.models import DiskPeriod, Run, StageResult
from clearing.states import RunState
from devices.choices import DiskKind, PasswordState
from devices.models import TaxDisk
from devices.services import disk_passwords
from tests.clearing import scenes
from tests.conftest import NOW, MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]


def add_stages(run: Run, count: int = 3) -> None:
    with agency_scope(run.agency_id):
        for number in range(count):
            StageResult.objects.create(
                agency_id=run.agency_id,
                run=run,
                attempt=run.attempt,
                disk_period=run.disk_period,
                number=number + 1,
                stage=list(Stage)[number % len(Stage)],
                unit="025",
                ok=True,
                at=NOW,
                device_ms=137,
                bureau_ms=842,
            )


def test_the_page_tells_the_period_from_the_disk_to_the_last_stage(
    login: Login, bookkeeper: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company = make_company(short_name="晨光商贸", assigned_to=bookkeeper, phone="13800000000")
    disk = make_disk(company)
    scenes.period(disk, PeriodState.TO_CLEAR)
    scenes.period(disk, PeriodState.CLEARED, period="2026-09")
    add_stages(scenes.run(disk, RunState.CLAIMED))

    page = login(bookkeeper).get(f"/companies/{company.pk}").content.decode()

    for words in ("晨光商贸", "13800000000", disk.device_no or "", "待清卡", "11月16日"):
        assert words in page
    for words in ("前台读盘机 A-01", "郑会计 11月9日 10:12 开始", "核对盘号", "137", "842"):
        assert words in page
    assert "2026年9月" in page


def test_a_failure_has_its_three_texts_and_the_raw_words(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company = make_company()
    scenes.run(
        make_disk(company),
        RunState.FAILED,
        code="password_wrong",
        raw_code="63C2",
        raw_text="verify failed",
    )

    page = login(supervisor).get(f"/companies/{company.pk}").content.decode()

    for words in ("发生了什么", "下一步", "不要做什么", "63C2 verify failed", "不要猜口令"):
        assert words in page


def test_a_month_before_can_be_looked_at_and_one_ahead_cannot(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company = make_company()
    scenes.period(make_disk(company), PeriodState.CLEARED, period="2026-09")
    client = login(supervisor)

    past = client.get(f"/companies/{company.pk}?period=2026-09").content.decode()

    assert "正在查看 2026年9月属期" in past
    assert "一键抄报清卡" not in past
    for period in ("2026-11", "2026-13", "x"):
        assert client.get(f"/companies/{company.pk}?period={period}").status_code == 404


def test_the_number_of_queries_does_not_grow_with_disks_and_stages(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company, client = make_company(), login(supervisor)

    def asked() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(f"/companies/{company.pk}").status_code == 200
        return len(seen)

    add_stages(scenes.run(make_disk(company), RunState.CLAIMED))
    few = asked()
    for number in range(5):
        disk = make_disk(company, terminal_no=number + 1)
        scenes.period(disk, PeriodState.CLEARED, period="2026-09")
        add_stages(scenes.run(disk, RunState.CLAIMED), 8)

    assert asked() == few


def test_own_foreign_and_forbidden(
    login: Login,
    other_agency: Agency,
    bookkeeper: Person,
    front_desk: Person,
    client_person: Person,
    outsider: Person,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    company = make_company(assigned_to=bookkeeper)
    disk = make_disk(company)
    row = scenes.period(disk, PeriodState.UNREAD)
    paths = (
        f"/companies/{company.pk}",
        f"/disks/{disk.pk}/password",
        f"/periods/{row.pk}/by-hand",
    )

    def status(person: Person) -> list[int]:
        return [login(person).get(path).status_code for path in paths]

    assert status(supervisor) == [200, 200, 200]
    assert status(bookkeeper) == [200, 200, 403]
    assert status(front_desk) == [403, 403, 403]
    assert status(client_person) == [404, 404, 404]
    assert status(outsider) == [404, 404, 404]
    for path in ("/companies/999999", "/disks/999999/password", "/periods/999999/by-hand"):
        assert login(supervisor).get(path).status_code == 404


def test_a_refusal_names_who_may_and_stands_in_the_trail(
    login: Login,
    agency: Agency,
    supervisor: Person,
    bookkeeper: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    row = scenes.period(make_disk(make_company(assigned_to=bookkeeper)), PeriodState.UNREAD)

    page = login(bookkeeper).get(f"/periods/{row.pk}/by-hand").content.decode()

    assert "您没有“人工登记”的权限，请联系：主管 吴主管" in page
    with agency_scope(agency.pk):
        assert AuditEntry.objects.filter(action="access.refused", actor_name="郑会计").exists()


MARKER = "Zq7!marker"


@pytest.fixture
def wrong_disk(make_company: MakeCompany, make_disk: MakeDisk, bookkeeper: Person) -> TaxDisk:
    """A UKey whose password the disk refused."""
    disk = make_disk(make_company(assigned_to=bookkeeper), kind=DiskKind.UKEY)
    with agency_scope(disk.agency_id):
        TaxDisk.objects.filter(pk=disk.pk).update(password_state=PasswordState.WRONG)
    return disk


def enter(client: Client, disk: TaxDisk, **values: str) -> str:
    response = client.post(
        f"/disks/{disk.pk}/password",
        {"device_password": MARKER, **values},
        follow=True,
    )
    assert response.status_code == 200
    return response.content.decode()


def test_a_new_password_is_sealed_and_seen_nowhere(
    login: Login, agency: Agency, bookkeeper: Person, wrong_disk: TaxDisk
) -> None:
    page = enter(login(bookkeeper), wrong_disk, certificate_password="Cert" + MARKER)

    assert "口令已封存" in page
    with agency_scope(agency.pk):
        disk = TaxDisk.objects.get(pk=wrong_disk.pk)
        assert disk_passwords(disk) == (MARKER, "Cert" + MARKER)
        assert disk.password_state == PasswordState.UNTRIED
        assert MARKER not in str(list(AuditEntry.objects.values_list("data", flat=True)))
    assert MARKER not in page


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"device_password": ""}, "请至少录入一个口令"),
        ({"device_password": MARKER + "中文"}, "口令只能是不带空格的字母、数字和符号"),
        ({"device_password": MARKER + " x"}, "口令只能是不带空格的字母、数字和符号"),
    ],
)
def test_a_refused_entry_changes_nothing_and_never_comes_back(
    login: Login,
    agency: Agency,
    bookkeeper: Person,
    wrong_disk: TaxDisk,
    values: dict[str, str],
    sentence: str,
) -> None:
    page = enter(login(bookkeeper), wrong_disk, **values)

    assert sentence in page
    assert MARKER not in page
    with agency_scope(agency.pk):
        disk = TaxDisk.objects.get(pk=wrong_disk.pk)
        assert disk.password_state == PasswordState.WRONG
        assert MARKER not in disk_passwords(disk)


def test_a_card_is_asked_for_its_pin_and_for_no_certificate(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    disk = make_disk(make_company())

    page = login(supervisor).get(f"/disks/{disk.pk}/password").content.decode()

    assert "卡上现在的 PIN" in page
    assert "证书口令" not in page


def test_an_entry_by_hand_needs_a_reason_and_is_never_cleared(
    login: Login,
    agency: Agency,
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    company = make_company()
    row = scenes.period(make_disk(company), PeriodState.UNREAD)
    client = login(supervisor)
    path = f"/periods/{row.pk}/by-hand"

    client.post(path, {"note": "厂商软件截图已存档"})
    with agency_scope(agency.pk):
        assert DiskPeriod.objects.get(pk=row.pk).state == PeriodState.UNREAD
    page = client.post(path, {"note": "厂商软件截图已存档", "sure": "on"}, follow=True)

    assert "未读盘核实" in page.content.decode()
    with agency_scope(agency.pk):
        assert DiskPeriod.objects.get(pk=row.pk).state == PeriodState.BY_HAND
        entry = AuditEntry.objects.get(action="period.by_hand")
        assert entry.data["note"] == "厂商软件截图已存档"


def test_an_entry_by_hand_is_refused_where_the_disk_has_spoken(
    login: Login, supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    row = scenes.period(make_disk(make_company()), PeriodState.CLEARED)

    page = login(supervisor).post(f"/periods/{row.pk}/by-hand", {"note": "x", "sure": "on"})

    assert "已读盘确认清卡，无需人工登记" in page.content.decode()
