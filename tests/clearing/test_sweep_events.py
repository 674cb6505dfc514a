"""The sweeper comes by the clock and when something happened, and waits for nobody for long."""

from __future__ import annotations

import datetime as dt
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connection
from pytest_django import Settings

from agency.models import Agency, AuditHead, Bureau
from agency.scope import agency_scope, current_agency_id
from agency.services import agency_create
from clearing import bell, tasks
from clearing.choices import PeriodState
from clearing.models import DiskPeriod, Run, Tick
from clearing.services import (
    batch_start,
    bureau_pause,
    bureau_resume,
    enter_by_hand,
    hold,
    mark_filed,
    release_hold,
    run_cancel,
    run_start_waiting,
)
from clearing.services import sweep as sweeping
from clearing.services.moves import MoveRefused
from clearing.states import Reason, RunState
from deploy.embedded import EmbeddedValkey
from devices.broker import prefix_of
from devices.models import Machine, TaxDisk
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import PERIOD, PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk
from tests.reliability.regressions.desk import until

pytestmark = [pytest.mark.committed, pytest.mark.usefixtures("unhurried")]


def moment(seconds: float = 0.0) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


class Office:
    """An agency with one disk at a bureau of its own, and a machine that is not heard of yet."""

    def __init__(self, agency: Agency, machine: PlayedMachine, disk: TaxDisk, address: str) -> None:
        self.agency, self.machine, self.disk, self.address = agency, machine, disk, address
        self.start: StartBatch

    def run(self) -> Run:
        with agency_scope(self.agency.pk):
            return Run.objects.get(disk=self.disk)

    def does(self, act: Callable[..., Any], **values: Any) -> None:
        with agency_scope(self.agency.pk):
            act(**values)


@pytest.fixture
def office(
    agency: Agency,
    machine: PlayedMachine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
) -> Office:
    own = uuid.uuid4().hex
    bureau = Bureau.objects.create(
        code=str(uuid.uuid4().int)[:11],
        name=f"某局 {own}",
        address=f"http://{own}.test/",
        simulated=True,
    )
    made = Office(agency, machine, make_disk(make_company(bureau=bureau)), bureau.address)
    made.start = start
    return made


@pytest.fixture
def broker(valkey: EmbeddedValkey, settings: Settings) -> Iterator[redis.Redis]:
    """The sweeper's own keys at the broker, of this test alone."""
    settings.SERVER_KEY_PREFIX = f"{uuid.uuid4().hex}:"
    with redis.Redis.from_url(valkey.url) as client:
        yield client


def asked_for(broker: redis.Redis, settings: Settings) -> list[int]:
    """The agencies whose sweep was asked for and not heard yet; the pause begins anew."""
    prefix = settings.SERVER_KEY_PREFIX
    found = []
    while (raw := broker.rpop(f"{prefix}celery")) is not None:
        message = json.loads(str(raw, "utf-8") if isinstance(raw, bytes) else str(raw))
        assert message["headers"]["task"] == "clearing.sweep_agency"
        found.append(int(message["headers"]["argsrepr"].strip("[]")))
    for key in broker.scan_iter(f"{prefix}sweep:*"):
        broker.delete(key)
    return found


# -- what happens ----------------------------------------------------------------------------------


def _clicked(office: Office) -> None:
    office.start(office.disk)


def _plugged(office: Office) -> None:
    office.machine.present(office.disk)


def _pulled(office: Office) -> None:
    office.machine.present()


def _away_for_a_while(office: Office) -> None:
    with agency_scope(office.agency.pk):
        Machine.objects.update(seen_at=moment(-60))


def _claimed(office: Office) -> None:
    assert office.machine.claim() is not None


def _settled(office: Office) -> None:
    office.machine.settle("waiting", reason="filing", code="not_filed")


def _by_hand(office: Office) -> None:
    office.machine.settle("waiting", reason="by_hand", code="not_supported")


def _released(office: Office) -> None:
    office.machine.on_run("release")


def _too_late(office: Office) -> None:
    with agency_scope(office.agency.pk):
        Run.objects.update(lease_until=moment(-1))


def _asks_too_late(office: Office) -> None:
    assert office.machine.intend("report").status_code == 409


def _renews_too_late(office: Office) -> None:
    assert office.machine.on_run("renew").status_code == 409


def _keeps_too_late(office: Office) -> None:
    assert office.machine.keep(b"{}").status_code == 409


def _filed(office: Office) -> None:
    companies = [office.disk.company_id]
    office.does(mark_filed, company_ids=companies, period=str(PERIOD), by="会计", now=NOW)


def _held(office: Office) -> None:
    office.does(hold, disk_ids=[office.disk.pk], note="x", by="会计", real_now=moment())


def _let_go(office: Office) -> None:
    office.does(release_hold, disk_ids=[office.disk.pk], by="会计", real_now=moment())


def _paused(office: Office) -> None:
    office.does(bureau_pause, address=office.address, note="维护", by="主管", now=moment())


def _resumed(office: Office) -> None:
    office.does(bureau_resume, address=office.address, note="好了", by="主管", now=moment())


def _cancelled(office: Office) -> None:
    office.does(run_cancel, run_id=office.run().pk, by="会计", now=NOW)


def _at_the_counter(office: Office) -> None:
    office.does(run_start_waiting, disk_id=office.disk.pk, real_now=moment())


def _entered(office: Office) -> None:
    with agency_scope(office.agency.pk):
        row = DiskPeriod.objects.exclude(state=PeriodState.CLEARED).get(period=str(PERIOD))
    office.does(enter_by_hand, disk_period_id=row.pk, by="会计", note="电子税务局", now=NOW)


Happening = Callable[[Office], None]


@pytest.mark.parametrize(
    ("before", "event"),
    [
        ([], _clicked),
        ([], _plugged),
        ([_plugged], _pulled),
        ([_plugged, _away_for_a_while], _plugged),
        ([_plugged, _clicked, _claimed], _settled),
        ([_plugged, _clicked, _claimed], _released),
        ([_plugged, _clicked, _claimed, _too_late], _asks_too_late),
        ([_plugged, _clicked, _claimed, _too_late], _renews_too_late),
        ([_plugged, _clicked, _claimed, _too_late], _keeps_too_late),
        ([_plugged, _clicked, _claimed, _settled], _filed),
        ([], _held),
        ([_held], _let_go),
        ([], _paused),
        ([_paused], _resumed),
        ([_clicked], _cancelled),
        ([_plugged, _clicked], _at_the_counter),
        ([_plugged, _clicked, _claimed, _by_hand], _entered),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else None,
)
def test_what_may_move_a_run_asks_for_the_sweeper_once(
    office: Office,
    broker: redis.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    before: list[Happening],
    event: Happening,
) -> None:
    monkeypatch.setattr(bell, "SWEEP_PAUSE", 60.0)
    for each in before:
        each(office)
    asked_for(broker, settings)
    event(office)
    assert asked_for(broker, settings) == [office.agency.pk]


def test_a_presence_report_that_tells_nothing_new_asks_for_nothing(
    office: Office, broker: redis.Redis, settings: Settings
) -> None:
    _plugged(office)
    asked_for(broker, settings)
    _plugged(office)
    assert asked_for(broker, settings) == []


def test_much_that_happens_in_one_agency_is_one_message_and_another_agency_has_its_own(
    broker: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bell, "SWEEP_PAUSE", 60.0)
    began = moment()
    for _ in range(30):
        bell.send_sweep(1)
    bell.send_sweep(2)
    raw = broker.lindex(f"{settings.SERVER_KEY_PREFIX}celery", -1)
    eta = json.loads(str(raw, "utf-8") if isinstance(raw, bytes) else str(raw))["headers"]["eta"]
    # Heard when the pause is over: after the last of what it stands for.
    assert dt.datetime.fromisoformat(eta) >= began + dt.timedelta(seconds=60)
    assert asked_for(broker, settings) == [1, 2]
    bell.send_sweep(1)
    assert asked_for(broker, settings) == [1]


# -- the server's worker hears it ------------------------------------------------------------------


@pytest.fixture
def server_worker(
    valkey: EmbeddedValkey,
    broker: redis.Redis,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    """A worker of the server's tasks, with no clock that rings it."""
    monkeypatch.setattr("clearing.tasks.now", lambda: NOW)
    # A busy machine is no finding.
    monkeypatch.setattr(bell, "_EXPIRES", 600.0)
    monkeypatch.setattr(tasks, "_STATEMENT_MS", 60_000)
    app = Celery(broker=bell.transport_url(valkey.url), set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": settings.SERVER_KEY_PREFIX}
    app.conf.task_ignore_result = True
    with start_worker(app, pool="solo", perform_ping_check=False):
        yield
    app.close()


def test_without_any_clock_a_pause_and_its_end_are_seen_to(
    office: Office, server_worker: None
) -> None:
    _plugged(office)
    _clicked(office)
    _paused(office)
    until(lambda: office.run().reason == Reason.BUREAU, "the run does not wait for the bureau")
    _resumed(office)
    until(lambda: office.run().state == RunState.QUEUED, "the run does not go on")
    _pulled(office)
    until(lambda: office.run().reason == Reason.DISK, "the run does not wait for its disk")


def test_a_round_of_the_sweeper_rings_the_machines_that_have_work(
    office: Office, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clearing.tasks.now", lambda: NOW)
    monkeypatch.setattr(tasks, "_STATEMENT_MS", 60_000)
    queue = prefix_of(office.machine.machine.broker_account) + bell.BELL_QUEUE
    _plugged(office)
    tasks.sweep_agency(office.agency.pk)
    assert broker.llen(queue) == 0
    _clicked(office)
    broker.delete(queue)
    tasks.sweep_agency(office.agency.pk)
    assert broker.llen(queue) == 1


def test_a_message_for_an_agency_or_a_run_that_is_gone_does_nothing(database: None) -> None:
    tasks.sweep_agency(2**40)


# -- leases belong to the clock --------------------------------------------------------------------


def test_an_event_takes_a_lease_only_while_the_clock_comes_round(database: None) -> None:
    now = moment()

    def ticked(at: dt.datetime, patient_until: dt.datetime | None) -> bool:
        Tick.objects.update_or_create(
            job=sweeping.JOB, defaults={"at": at, "patient_until": patient_until}
        )
        return sweeping.may_take_leases(real_now=now, every=2)

    assert ticked(now, None)
    assert ticked(now, now)
    assert not ticked(now, now + dt.timedelta(seconds=9))  # after a gap
    assert not ticked(now - dt.timedelta(seconds=60), None)  # in one
    Tick.objects.all().delete()
    assert not sweeping.may_take_leases(real_now=now, every=2)


# -- nobody is waited for --------------------------------------------------------------------------


class Mute:
    """A broker that takes connections and never says a word."""

    def __init__(self, path: Path) -> None:
        self.url = f"unix://{path}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("ring", ["send_bells", "send_sweep"])
def test_a_broker_that_never_answers_holds_nobody_up(
    valkey: EmbeddedValkey, settings: Settings, ring: str, caplog: pytest.LogCaptureFixture
) -> None:
    mute = Mute(valkey.socket_path.with_name(f"m{uuid.uuid4().hex[:6]}"))
    settings.REDIS_URL = mute.url
    call = {
        "send_bells": lambda: bell.send_bells("m1", 8),
        "send_sweep": lambda: bell.send_sweep(1),
    }
    ringing = threading.Thread(target=call[ring], daemon=True)
    try:
        ringing.start()
        ringing.join(90)
        assert not ringing.is_alive()
        assert "not delivered" in caplog.text or "not asked for" in caplog.text
    finally:
        mute.close()


def test_one_agency_that_keeps_its_chain_locked_does_not_stop_the_round_for_the_others(
    office: Office,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As while an agency brings in thousands of clients in one transaction."""
    monkeypatch.setattr("clearing.tasks.now", lambda: NOW)
    blocked = agency_create(name=f"忙碌代账 {uuid.uuid4().hex}", practice=True)
    waiting = [office.disk, make_disk(make_company(of=blocked))]
    for home, disk in zip((office.agency, blocked), waiting, strict=True):
        machine = PlayedMachine.enrol(home, "读盘机二")
        machine.present(disk)
        _press(home, disk)
        assert machine.claim() is not None
        with agency_scope(home.pk):  # the sweeper has an entry to write
            Run.objects.update(lease_until=moment(-1))
    monkeypatch.setattr(tasks, "due_agencies", lambda kind: [blocked.pk, office.agency.pk])
    monkeypatch.setattr("clearing.tasks.random.shuffle", lambda due: None)
    monkeypatch.setattr(sweeping, "tick", lambda **_: True)
    monkeypatch.setattr(tasks, "_STATEMENT_MS", 60_000)
    locked, done = threading.Event(), threading.Event()

    def keep_locked() -> None:
        try:
            with agency_scope(blocked.pk):
                AuditHead.objects.select_for_update().get()
                locked.set()
                done.wait(100)
        finally:
            connection.close()

    keeper = threading.Thread(target=keep_locked)
    keeper.start()
    assert locked.wait(60)
    tasks.sweep()
    done.set()
    keeper.join()
    assert office.run().state == RunState.QUEUED
    with agency_scope(blocked.pk):
        assert Run.objects.get().state == RunState.CLAIMED  # the next round's
    tasks.sweep()
    with agency_scope(blocked.pk):
        assert Run.objects.get().state == RunState.QUEUED


@pytest.mark.parametrize("round_", ["sweep", "keep_backups"])
def test_a_defect_in_one_agency_ends_no_round_for_the_others_and_is_reported(
    agency: Agency,
    other_agency: Agency,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    round_: str,
) -> None:
    seen = _raise_in_the_first(monkeypatch, MoveRefused("done → queued"), agency, other_agency)
    with pytest.raises(tasks.RoundBroken, match=str(agency.pk)):
        getattr(tasks, round_)()
    assert seen == [agency.pk, other_agency.pk]
    assert "done → queued" in caplog.text


@pytest.mark.parametrize("round_", ["sweep", "keep_backups"])
def test_a_round_whose_time_is_over_ends(
    agency: Agency, other_agency: Agency, monkeypatch: pytest.MonkeyPatch, round_: str
) -> None:
    seen = _raise_in_the_first(monkeypatch, SoftTimeLimitExceeded(), agency, other_agency)
    with pytest.raises(SoftTimeLimitExceeded):
        getattr(tasks, round_)()
    assert seen == [agency.pk]


def _raise_in_the_first(
    monkeypatch: pytest.MonkeyPatch, error: Exception, *agencies: Agency
) -> list[int | None]:
    """Which agencies the rounds come to; the work in the first raises ``error``."""
    seen: list[int | None] = []

    def work(**_: Any) -> None:
        seen.append(current_agency_id())
        if len(seen) == 1:
            raise error

    ids = [each.pk for each in agencies]
    monkeypatch.setattr(sweeping, "sweep", work)
    monkeypatch.setattr(sweeping, "tick", lambda **_: True)
    monkeypatch.setattr("clearing.tasks.retention.close_expired", work)
    monkeypatch.setattr(tasks, "due_agencies", lambda kind: ids)
    monkeypatch.setattr(tasks, "every_agency", lambda: ids)
    monkeypatch.setattr("clearing.tasks.random.shuffle", lambda due: None)
    return seen


def _press(home: Agency, disk: TaxDisk) -> None:
    with agency_scope(home.pk):
        batch_start(
            disk_ids=[disk.pk],
            intent="report_and_clear",
            key=str(uuid.uuid4()),
            started_by="会计",
            now=NOW,
        )


def test_the_sweeper_s_statements_are_shorter_than_anybody_s(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def look(**_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            seen.append(cursor.fetchone()[0])
            cursor.execute("SHOW statement_timeout")
            seen.append(cursor.fetchone()[0])

    look(agency=agency)
    monkeypatch.setattr(sweeping, "sweep", look)
    tasks.sweep_agency(agency.pk)
    look(agency=agency)
    assert seen == ["30s", "1min", "2s", "10s", "30s", "1min"]
