"""读盘机: enrol, roll, revoke, declare lost; own, foreign and forbidden; secrets stay off pages."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from agency.clock import real_now
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from deploy.embedded import EmbeddedValkey
from devices.choices import PasswordState
from devices.models import EnrolmentCode, Machine, TaxDisk
from devices.services import SlotReport, machine_create, pin_intent_open, presence_note
from tests.conftest import MakeCompany, MakeDisk, Person

Login = Callable[[Person], Client]
CODE = re.compile(r"\b(?:[3-9A-Y]{4}-){3}[3-9A-Y]{4}\b")


@pytest.fixture(autouse=True)
def _fresh_counts(valkey: EmbeddedValkey) -> Iterator[None]:
    with redis.Redis.from_url(valkey.url) as client:
        for key in client.keys(f"{settings.SERVER_KEY_PREFIX}throttle:*"):
            client.delete(key)
    yield


@pytest.fixture
def machine(agency: Agency) -> Machine:
    return make_machine(agency, "前台")


def make_machine(agency: Agency, name: str) -> Machine:
    with agency_scope(agency.pk):
        return machine_create(agency=agency, name=name, simulated=True).machine


def present(machine: Machine, *slots: SlotReport, ago: float = 0) -> None:
    with agency_scope(machine.agency_id):
        moment = real_now() - dt.timedelta(seconds=ago)
        presence_note(machine=machine, slots=slots, version="1.4", now=moment)


def text(client: Client, path: str, **values: Any) -> str:
    response = client.post(path, values, follow=True) if values else client.get(path)
    assert response.status_code == 200, path
    return response.content.decode()


def test_the_page_tells_who_is_there_and_what_is_plugged_in(
    login: Login,
    agency: Agency,
    supervisor: Person,
    machine: Machine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    disk = make_disk(make_company(short_name="晨光商贸"))
    present(
        machine,
        SlotReport("A-01", disk.device_no or ""),
        SlotReport("A-02"),
        SlotReport("A-03", problem="foreign_card"),
    )
    away = make_machine(agency, "机房")
    present(away, ago=600)
    make_machine(agency, "新的")

    page = text(login(supervisor), "/machines")

    for words in ("在线", "离线", "还没有上线过", "版本 1.4", "3 个盘位，插着 1 只", "晨光商贸"):
        assert words in page
    assert "起没有消息" in page
    assert "foreign_card" not in page  # its title instead


def test_a_code_is_shown_once_with_the_command_to_run(
    login: Login, agency: Agency, supervisor: Person
) -> None:
    client = login(supervisor)

    page = text(client, "/machines/add", name="前台", parallel="4", https_only="on")

    (code, again) = CODE.findall(page)
    assert code == again
    assert f"qingka-reader enroll {code} --server http://testserver</pre>" in page
    assert code not in text(client, "/machines")
    with agency_scope(agency.pk):
        row = EnrolmentCode.objects.get()
        assert (row.name, row.parallel, row.https_only, row.created_by) == (
            "前台",
            4,
            True,
            "吴主管",
        )
    answer = Client().post(
        "/machine/v1/enrol",
        {"code": code, "version": "1", "api": 1},
        content_type="application/json",
    )
    assert answer.json()["broker"] == "none"
    assert answer.json()["token"] not in text(client, "/machines")
    assert "仅走 HTTPS" in text(client, "/machines")


def test_a_taken_name_is_said_in_the_form(
    login: Login, supervisor: Person, machine: Machine
) -> None:
    page = text(login(supervisor), "/machines/add", name="前台", parallel="8")
    assert "已有名为“前台”的读盘机" in page
    assert not CODE.search(page)


def test_rolling_asks_first_and_then_shows_a_code(
    login: Login, agency: Agency, supervisor: Person, machine: Machine
) -> None:
    client, path = login(supervisor), f"/machines/{machine.pk}/roll"
    assert "旧密钥立即失效" in text(client, path)
    with agency_scope(agency.pk):
        assert bytes(Machine.objects.get().token_hash) == machine.token_hash

    page = text(client, path, yes="1")

    assert CODE.search(page)
    assert "--force" in page
    with agency_scope(agency.pk):
        assert bytes(Machine.objects.get().token_hash) != machine.token_hash
        assert AuditEntry.objects.filter(action="machine.rolled", actor_name="吴主管").exists()


def test_revoking_asks_first_and_is_for_good(
    login: Login, agency: Agency, supervisor: Person, machine: Machine
) -> None:
    client, path = login(supervisor), f"/machines/{machine.pk}/revoke"
    assert "停用后不能恢复" in text(client, path)
    with agency_scope(agency.pk):
        assert Machine.objects.get().revoked_at is None

    page = text(client, path, yes="1")

    assert "已停用读盘机“前台”" in page
    assert "已停用，请另行登记" in text(client, f"/machines/{machine.pk}/roll", yes="1")


@pytest.fixture
def held(agency: Agency, machine: Machine, make_company: MakeCompany, make_disk: MakeDisk) -> Any:
    """A disk whose new PIN only the machine may have."""
    disk = make_disk(make_company(short_name="晨光商贸"))
    present(machine, ago=600)
    with agency_scope(agency.pk):
        long_ago = real_now() - dt.timedelta(hours=1)
        pin_intent_open(disk=TaxDisk.objects.get(pk=disk.pk), machine=machine, now=long_ago)
    return disk


def test_declaring_a_machine_lost_asks_first(
    login: Login, agency: Agency, supervisor: Person, machine: Machine, held: TaxDisk
) -> None:
    client, path = login(supervisor), f"/machines/{machine.pk}/lost"
    assert "晨光商贸" in text(client, path)
    assert "还没有从这台读盘机交回" in text(client, "/machines")

    with agency_scope(agency.pk):
        assert TaxDisk.objects.get(pk=held.pk).pin_intent_machine_id == machine.pk
    page = text(client, path, yes="1")

    assert "1 只税盘改为“PIN 待确认”" in page
    with agency_scope(agency.pk):
        disk = TaxDisk.objects.get(pk=held.pk)
        assert (disk.password_state, disk.pin_intent_machine) == (PasswordState.PIN_UNKNOWN, None)
        assert AuditEntry.objects.filter(
            action="machine.declared_lost", actor_name="吴主管"
        ).exists()


def test_a_machine_that_is_online_is_not_declared_lost(
    login: Login, supervisor: Person, machine: Machine, held: TaxDisk
) -> None:
    present(machine)
    page = text(login(supervisor), f"/machines/{machine.pk}/lost", yes="1")
    assert "读盘机在线" in page


def test_labels_name_every_slot(login: Login, supervisor: Person, machine: Machine) -> None:
    present(machine, SlotReport("A-01"), SlotReport("A-02"))
    page = text(login(supervisor), f"/machines/{machine.pk}/labels")
    assert "<strong>A-01</strong>" in page
    assert "<strong>A-02</strong>" in page


def test_own_foreign_and_forbidden(
    login: Login,
    supervisor: Person,
    bookkeeper: Person,
    front_desk: Person,
    client_person: Person,
    outsider: Person,
    machine: Machine,
) -> None:
    own = [f"/machines/{machine.pk}/{what}" for what in ("roll", "revoke", "lost", "labels")]

    def statuses(person: Person, paths: list[str], method: str = "get") -> set[int]:
        client = login(person)
        return {getattr(client, method)(path).status_code for path in paths}

    assert statuses(supervisor, ["/machines", "/machines/add", *own]) == {200}
    for person in (bookkeeper, front_desk, client_person):
        assert statuses(person, ["/machines", "/machines/add", *own]) == {403}
        assert statuses(person, ["/machines/add", *own[:3]], "post") == {403}
    assert statuses(outsider, own) == statuses(outsider, own[:3], "post") == {404}
    missing = [re.sub(r"\d+", "999999", path) for path in own]
    assert statuses(supervisor, missing) == {404}
    with agency_scope(machine.agency_id):
        assert Machine.objects.get().revoked_at is None


def test_the_number_of_queries_does_not_grow(
    login: Login,
    agency: Agency,
    supervisor: Person,
    machine: Machine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    client = login(supervisor)

    def asked() -> int:
        with CaptureQueriesContext(connection) as seen:
            text(client, "/machines")
        return len(seen)

    def fill(machine: Machine, letter: str, count: int) -> None:
        known = [make_disk(make_company()) for _ in range(count)]
        reports = [
            SlotReport(f"{letter}-{index}", disk.device_no or "", disk.company.tax_id)
            for index, disk in enumerate(known)
        ]
        reports += [
            SlotReport(f"{letter}x{index}", f"77{letter}{index:013d}", disk.company.tax_id)
            for index, disk in enumerate(known)
        ]
        # An alarm: a disk of another company.
        reports[0] = SlotReport(f"{letter}-0", known[0].device_no or "", known[-1].company.tax_id)
        present(machine, *reports)

    fill(machine, "A", 2)
    few = asked()
    fill(machine, "A", 6)
    fill(make_machine(agency, "机房"), "B", 5)

    assert asked() == few
