"""Permission and facts, and the guard between a permission and the disk."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from clearing import procedure
from clearing.stages import Denied
from clearing.wire import Denial, End, FactKind, Limits, Outcome
from clearing.worker import child
from clearing.worker.client import ServerClient, ServerError
from clearing.worker.gate import Gate
from clearing.worker.grant import Grant
from clearing.worker.hardware import Component, Hardware
from clearing.worker.journal import AttemptLog, Journal
from clearing.worker.ledger import ServerLedger
from clearing.worker.steady import steady
from clearing.worker.task import Task
from clearing.worker.watch import Watch, WatchedDisk
from devices.drivers.contract import Capabilities, ClearData, ReportPackage, Unit
from devices.drivers.ic_card import IcCardDisk
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from tests.clearing.fakes import FakeBureau, FakeDisk, FakeLedger, FixedClock, order
from tests.clearing.worker.fake_server import TOKEN, Answer, Call, FakeServer
from tests.clearing.worker.test_pins import DEVICE, an_order

UNIT, PERIOD = Unit(("025",)), Month(2026, 2)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.fixture
def log(journal: Journal) -> Iterator[AttemptLog]:
    with journal.open(7, "a1", DEVICE) as opened:
        yield opened


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
def ledger(
    server: FakeServer, journal: Journal, log: AttemptLog, gate: Gate
) -> Iterator[ServerLedger]:
    with ServerClient(server.url, TOKEN) as client:
        order = an_order(limits=Limits(grant=60.0, call=60.0, bureau=2.0))
        watch = Watch(lambda event: None)
        yield ServerLedger(order, client, log, journal.pins, watch=watch, gate=gate)


def test_what_is_not_delivered_rides_along_once(ledger: ServerLedger, server: FakeServer) -> None:
    ledger.record(FactKind.STAGE, {"at": 1})
    ledger.record(FactKind.STAGE, {"at": 2})
    assert server.calls == []
    ledger.intend("report", UNIT, PERIOD)
    ledger.record(FactKind.STAGE, {"at": 3})
    ledger.keep(b"backup", PERIOD)
    ledger.settle(Outcome(End.DONE))
    sent = [
        (call.verb, [fact["number"] for fact in call.body["facts"]])
        for call in server.calls
        if call.body["facts"]
    ]
    assert sent == [("intend", [1, 2]), ("keep", [3])]
    assert server.backups == [b"backup"]


def test_a_slow_answer_shortens_the_permission(ledger: ServerLedger, server: FakeServer) -> None:
    answered_at: list[float] = []

    def slow(call: Call) -> Answer | None:
        time.sleep(0.3)
        answered_at.append(steady())
        return None

    server.scripts["intend"] = slow
    server.grant_seconds = 50.0
    ledger.intend("report", UNIT, PERIOD)
    # Counted from before it was asked: the 0.3 seconds are gone.
    assert ledger.remaining() <= 50.0 - 0.3


def test_a_new_question_drops_the_old_permission(ledger: ServerLedger, server: FakeServer) -> None:
    ledger.intend("report", UNIT, PERIOD)
    assert ledger.remaining() > 0
    server.scripts["intend"] = lambda call: (409, {"granted": False, "reason": "cancelled"})
    with pytest.raises(Denied) as caught:
        ledger.intend("clear", UNIT, PERIOD)
    assert caught.value.denial == Denial.CANCELLED
    assert ledger.remaining() == 0


def test_the_pin_s_generation_is_journaled_before_the_server_is_asked(
    ledger: ServerLedger, server: FakeServer, log: AttemptLog
) -> None:
    asked: list[int | None] = []

    def look(call: Call) -> None:
        if call.verb == "intend":
            asked.append(log.asked_roll)

    server.scripts["intend"] = look
    ledger.capabilities = Capabilities(rolls_pin=True)
    ledger.intend("report", UNIT, PERIOD)
    assert asked == [3]
    assert server.of("intend")[0].body["rolls_pin"] is True


def test_a_package_that_is_sent_again_rolls_no_pin(
    ledger: ServerLedger, server: FakeServer, log: AttemptLog
) -> None:
    ledger.capabilities = Capabilities(rolls_pin=True)
    ledger.intend("upload", UNIT, PERIOD)
    body = server.of("intend")[0].body
    assert (body["stage"], body["rolls_pin"], log.asked_roll) == ("upload", False, None)
    assert ledger.in_doubt


def test_a_denied_roll_is_not_told_as_one(ledger: ServerLedger, server: FakeServer) -> None:
    server.scripts["intend"] = lambda call: (409, {"granted": False, "reason": "pin_held"})
    ledger.capabilities = Capabilities(rolls_pin=True)
    with pytest.raises(Denied):
        ledger.intend("report", UNIT, PERIOD)
    ledger.settle(Outcome(End.WAITING, reason="pin"))
    assert server.pins_of("a1") == []


def test_a_permission_whose_answer_is_lost_is_told_as_not_begun(
    ledger: ServerLedger, server: FakeServer
) -> None:
    server.scripts["intend"] = lambda call: (503, {})
    ledger.capabilities = Capabilities(rolls_pin=True)
    with pytest.raises(Denied) as caught:
        ledger.intend("report", UNIT, PERIOD)
    assert caught.value.denial == Denial.LEASE_LOST
    ledger.release(ledger.denial)
    assert server.pins_of("a1") == [{"generation": 3, "refused": True, "sent": False}]


def test_doubt_lasts_from_a_permission_to_a_read(ledger: ServerLedger) -> None:
    assert not ledger.in_doubt
    ledger.intend("clear", UNIT, PERIOD)
    ledger.record(FactKind.STAGE, {})
    assert ledger.in_doubt
    ledger.record(FactKind.CONTROL, {})
    assert not ledger.in_doubt


def test_a_package_is_a_fact_that_an_order_can_give_back(
    ledger: ServerLedger, log: AttemptLog
) -> None:
    package = ReportPackage(UNIT, PERIOD, {"sq": "x"}, {"valid_count": 2})
    ledger.hold(package)
    (fact,) = log.undelivered
    order = an_order().to_json() | {"held": [fact["data"]]}
    held = type(an_order()).from_json(order).held[0]
    assert held.package() == package


def test_an_outcome_that_cannot_be_told_waits_in_the_journal(
    ledger: ServerLedger, server: FakeServer, log: AttemptLog
) -> None:
    server.scripts["settle"] = lambda call: (503, {})
    with pytest.raises(ServerError):
        ledger.settle(Outcome(End.DONE))
    assert log.outcome == Outcome(End.DONE)


# --- the guard ------------------------------------------------------------------------------------


class Channel:
    """A card that counts."""

    def __init__(self) -> None:
        self.sent = 0

    def transmit(self, apdu: bytes) -> bytes:
        self.sent += 1
        return b"\x6f\x00"

    def close(self) -> None:
        pass


def guarded(channel: Channel, grant: Grant, events: list[Any], rest: float = 0.0) -> WatchedDisk:
    disk = IcCardDisk(channel, pins=None, host_now=lambda: dt.datetime.now(dt.UTC))
    return WatchedDisk(disk, Watch(events.append), grant, Limits(call=10.0), rest=rest)


def test_a_write_without_enough_permission_never_reaches_the_disk() -> None:
    channel, grant, events = Channel(), Grant(), list[Any]()
    disk = guarded(channel, grant, events)
    for seconds in (0.0, 9.9):
        grant.take(steady(), seconds)
        with pytest.raises(Denied):
            disk.report(UNIT, PERIOD)
        with pytest.raises(Denied):
            disk.clear(UNIT, ClearData(UNIT, {}))
    assert channel.sent == 0


def test_one_permission_is_for_one_write() -> None:
    channel, grant, events = Channel(), Grant(), list[Any]()
    disk = guarded(channel, grant, events)
    grant.take(steady(), 60.0)
    with pytest.raises(Failure):
        disk.report(UNIT, PERIOD)
    sent = channel.sent
    assert sent > 0
    with pytest.raises(Denied):
        disk.report(UNIT, PERIOD)
    assert channel.sent == sent


def test_every_call_is_announced_with_its_limit_and_ended() -> None:
    channel, grant, events = Channel(), Grant(), list[Any]()
    disk = guarded(channel, grant, events)
    with pytest.raises(Failure):
        disk.read_control()
    assert events == [
        {"event": "call", "name": "disk.read_control", "limit": 10.0, "writes": False},
        {"event": "end", "name": "disk.read_control"},
    ]


class Granting(FakeLedger):
    """Its permissions are those of a real grant."""

    def __init__(self, grant: Grant) -> None:
        super().__init__()
        self.grant = grant

    def intend(self, stage: str, unit: Unit, period: Month) -> None:
        super().intend(stage, unit, period)
        self.grant.take(steady(), 60.0)


def cleared_late(disk: FakeDisk, *, rest: float) -> tuple[Outcome, list[str]]:
    """A clear whose answer never came, of a component that writes while we let it rest."""
    grant, calls = Grant(), list[str]()

    def heard(event: Mapping[str, Any]) -> None:
        if event["event"] == "call":
            calls.append(event["name"])
        if event == {"event": "end", "name": "disk.rest"}:
            disk.clear(Unit(("025",)), ClearData(UNIT, {"period": "2026-10"}))

    def hangs() -> None:
        disk.before.clear()
        raise Failure(Code.NO_ANSWER, raw_code="Timeout", outcome_unknown=True)

    disk.before["clear"] = hangs
    outcome = procedure.run(
        order(),
        open_disk=lambda: WatchedDisk(disk, Watch(heard), grant, Limits(call=1.0), rest=rest),
        bureau=FakeBureau(),
        ledger=Granting(grant),
        clock=FixedClock(),
    )
    return outcome, calls


def test_a_component_that_did_not_answer_a_write_is_left_in_peace_before_it_is_read() -> None:
    disk = FakeDisk()
    outcome, calls = cleared_late(disk, rest=0.01)
    assert outcome == Outcome(End.DONE)
    assert disk.writes == ["report 025 2026-10", "clear 025 2026-10"]
    at = calls.index("disk.rest")
    assert calls[at - 1 : at + 2] == ["disk.clear", "disk.rest", "disk.close"]


def test_a_card_s_reader_does_nothing_behind_our_back_and_is_read_at_once() -> None:
    outcome, calls = cleared_late(FakeDisk(), rest=0.0)
    assert outcome.code == Code.NO_ANSWER
    assert "disk.rest" not in calls


@pytest.mark.parametrize("behind", [True, False], ids=["component", "reader"])
def test_the_child_lets_what_is_behind_a_component_rest_for_the_time_of_a_call(
    ledger: ServerLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    def hangs() -> None:
        raise Failure(Code.NO_ANSWER, raw_code="Timeout", outcome_unknown=True)

    disk, events = FakeDisk(before={"report": hangs}), list[Mapping[str, Any]]()
    monkeypatch.setattr(child, "open_disk", lambda hardware, wanted: disk)
    given = order(kind="baiwang", bureau_url="http://127.0.0.1:1/", limits=Limits(call=0.2))
    component = Component(given.slot, "baiwang", "http://127.0.0.1:1")
    hardware = Hardware(components=(component,) if behind else ())
    task = Task(given, "", TOKEN, tmp_path, hardware, None, steady(), 0)
    assert child._work(task, ledger, Watch(events.append), events.append).code == Code.NO_ANSWER
    limits = [
        each["limit"] for each in events if each.get("name") == "disk.rest" and "limit" in each
    ]
    assert limits == ([0.2] if behind else [])
