"""The storm's checker is itself checked: each protection switched off, one at a time, is noticed.

Every protection is met by the accident that it protects from. With all of them in place the checker
is silent; with one switched off (here, never in the product) it reports the violation by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agency import clock
from agency.scope import agency_scope
from agency.services import agency_create
from clearing import procedure
from clearing.models import Run
from clearing.services import grants, run_cancel
from clearing.services.facts import Held
from clearing.wire import FactKind
from clearing.worker.client import ServerClient
from clearing.worker.ledger import ServerLedger
from clearing.worker.watch import WatchedDisk
from deploy.demonstration.people import AGENCY
from deploy.weather.verdict import Entry, too_late
from devices.protocol.control import to_json
from devices.protocol.failures import Code
from devices.protocol.month import Month
from devices.simulator.rack_faults import Fault, Mode
from tests.conftest import NOW
from tests.reliability.one_disk import OneDisk


@pytest.fixture
def one(database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneDisk]:
    with pytest.MonkeyPatch.context() as patch:
        house = OneDisk(tmp_path, agency_create(name=AGENCY, practice=True), patch)
        house.press()
        yield house
        house.close()


# -- the accidents ---------------------------------------------------------------------------------


def nothing_happens(one: OneDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    one.work_to_the_end()


def the_clear_command_is_lost(one: OneDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    one.fault(Fault(Mode.LOSE_COMMAND, command="UPDATE_CONTROLS"))
    one.work_to_the_end()


def another_machine_takes_over(one: OneDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first machine stalls just before it asks to clear; its lease is over, the disk has been
    plugged in elsewhere and claimed there. Then it asks."""
    asks = ServerLedger.intend
    stalls = iter([True])

    def intend(self: ServerLedger, stage: str, unit: Any, period: Month) -> None:
        if stage == "clear" and next(stalls, False):
            one.let_time_pass()
            one.plug_in(1)
            assert one.machines[1].claim() is not None
        asks(self, stage, unit, period)

    monkeypatch.setattr(ServerLedger, "intend", intend)
    one.plug_in(0)
    one.work(0)
    one.work_to_the_end(1)


class _Killed(BaseException):
    """The process of the run is gone; nothing of it catches this."""


def it_is_cancelled_and_killed_just_after_the_clear(
    one: OneDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is cleared, and nobody has read it when the run is given back."""
    clears = WatchedDisk.clear

    def clear(self: WatchedDisk, *args: Any) -> None:
        clears(self, *args)
        with agency_scope(one.disk.agency_id):
            run_cancel(run_id=Run.objects.get().pk, by="周负责", now=clock.now())
        raise _Killed

    one.plug_in(0)
    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(WatchedDisk, "clear", clear)
        one.work(0)
    one.work_to_the_end()


# -- the protections, switched off -----------------------------------------------------------------


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a permission is taken for the owner."""
    holds = grants.hold

    def hold(*args: Any) -> Held:
        held = holds(*args)
        Run.objects.filter(pk=held.run.pk).update(attempt=held.attempt, state="claimed")
        held.run.refresh_from_db()
        held.run.disk = held.disk
        return held

    monkeypatch.setattr(grants, "hold", hold)
    monkeypatch.setattr(grants, "lives", lambda held, now: True)


def no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine asks nobody."""

    def intend(
        self: ServerClient, run_id: int, attempt: str, *, facts: Sequence[Any], **_: Any
    ) -> float:
        self.record(run_id, attempt, facts)
        return 60.0

    monkeypatch.setattr(ServerClient, "intend", intend)


def no_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A permission is given and told of, but the run does not note what may now be written."""
    permits = grants.intend

    def intend(*, run_id: int, **rest: Any) -> grants.Grant:
        grant = permits(run_id=run_id, **rest)
        Run.objects.filter(pk=run_id).update(open_intent=None)
        return grant

    monkeypatch.setattr(grants, "intend", intend)


def no_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a clear the machine believes what ought to be on the disk."""
    reads, reads_until = procedure._Work._read, procedure._Work._read_until
    last: dict[str, Any] = {}

    def read(self: procedure._Work) -> Any:
        last.update(reads(self))
        return dict(last)

    def believes(self: procedure._Work, there: Any, otherwise: Any) -> Any:
        if otherwise == Code.REPORT_NOT_SEEN:
            return reads_until(self, there, otherwise)
        controls = {kind: _moved_on(data) for kind, data in last.items()}
        types = {kind: to_json(data) for kind, data in controls.items()}
        read_at = self.clock.now().isoformat()
        self.ledger.record(FactKind.CONTROL, {"types": types, "read_at": read_at})
        return controls

    monkeypatch.setattr(procedure._Work, "_read", read)
    monkeypatch.setattr(procedure._Work, "_read_until", believes)


def _moved_on(data: Any) -> Any:
    after = Month.of(data.period_start).plus(1)
    return replace(
        data,
        period_start=after.first,
        period_end=after.last,
        issue_deadline=after.plus(1).first.replace(day=15),
    )


def no_backup_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody keeps one, and nobody asks for it."""
    monkeypatch.setattr(ServerLedger, "keep", lambda self, backup, period: None)
    monkeypatch.setattr(grants, "_backed_up", lambda held: True)


Accident = Callable[[OneDisk, pytest.MonkeyPatch], None]

_CASES: list[tuple[Callable[[pytest.MonkeyPatch], None], Accident, str]] = [
    (no_fence, another_machine_takes_over, "a late claim was given a permission"),
    (no_permission, nothing_happens, "written without permission"),
    (
        no_intent,
        it_is_cancelled_and_killed_just_after_the_clear,
        "the disk is cleared, the row says not",
    ),
    (no_read_back, the_clear_command_is_lost, "a row says cleared, the disk does not"),
    (no_backup_rule, nothing_happens, "no backup before the clear"),
]


@pytest.mark.parametrize("accident", list(dict.fromkeys(case[1] for case in _CASES)))
def test_with_every_protection_in_place_the_checker_is_silent(
    one: OneDisk, monkeypatch: pytest.MonkeyPatch, accident: Accident
) -> None:
    accident(one, monkeypatch)
    found = one.verdict()
    assert found.violations == []
    assert [claim.ending for claim in found.claims.disks] == ["done"]


@pytest.mark.parametrize(("switch_off", "accident", "named"), _CASES)
def test_each_protection_switched_off_is_noticed_and_named(
    one: OneDisk,
    monkeypatch: pytest.MonkeyPatch,
    switch_off: Callable[[pytest.MonkeyPatch], None],
    accident: Accident,
    named: str,
) -> None:
    switch_off(monkeypatch)
    accident(one, monkeypatch)
    violations = one.verdict().violations
    assert any(named in violation for violation in violations), violations


def test_a_permission_after_the_end_of_a_claim_is_too_late_and_one_within_it_is_not() -> None:
    claimed = Entry("run.claimed", NOW, 1, 1)
    allowed = Entry("run.clear_allowed", NOW, 1, 1)
    over = Entry("run.lease_over", NOW, 1)
    again = Entry("run.claimed", NOW, 1, 2)
    assert not list(too_late([claimed, allowed, over, again]))
    assert len(list(too_late([claimed, over, allowed]))) == 1
    assert len(list(too_late([claimed, over, again, allowed]))) == 1
