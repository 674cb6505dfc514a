"""The procedure over its ports: order, doubt, resume, and what it never does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from clearing.bureau.port import Filing
from clearing.outcomes import outcome_of, quiet_for
from clearing.procedure import run
from clearing.wire import Denial, End, FactKind, Held, Order, Outcome, Owed
from devices.protocol.failures import Code, Failure
from tests.clearing.fakes import NOW, PERIOD, FakeBureau, FakeDisk, FakeLedger, FixedClock, order


@pytest.fixture
def disk() -> FakeDisk:
    return FakeDisk()


@pytest.fixture
def bureau() -> FakeBureau:
    return FakeBureau()


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


Play = Callable[..., Outcome]


@pytest.fixture
def play(disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger) -> Play:
    def go(given: Order | None = None, at: dt.datetime = NOW, **fields: Any) -> Outcome:
        return run(
            given or order(**fields),
            open_disk=disk.open,
            bureau=bureau,
            ledger=ledger,
            clock=FixedClock(at),
        )

    return go


def raising(code: Code, **more: Any) -> Callable[[], None]:
    def fault() -> None:
        raise Failure(code, **more)

    return fault


def once(code: Code, **more: Any) -> Callable[[], None]:
    left = [Failure(code, **more)]

    def fault() -> None:
        if left:
            raise left.pop()

    return fault


def test_a_fresh_disk_is_reported_backed_up_cleared_read_back_and_confirmed(
    play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
) -> None:
    assert play() == Outcome(End.DONE)
    assert disk.writes == ["report 025 2026-10", "clear 025 2026-10"]
    assert ledger.log == [
        "read",
        "granted report 025 2026-10",
        "held 025 2026-10",
        "read",
        "backup 2026-10",
        "granted clear 025 2026-10",
        "read",
    ]
    assert bureau.confirmed == {"025 2026-10"}
    assert ledger.stages() == [
        "identify",
        "read",
        "report",
        "upload",
        "read",
        "filing",
        "backup",
        "fetch",
        "clear",
        "read",
        "confirm",
    ]


def test_a_read_writes_nothing_and_asks_the_bureau_nothing(
    play: Play, disk: FakeDisk, bureau: FakeBureau
) -> None:
    assert play(intent="read") == Outcome(End.DONE)
    assert disk.writes == []
    assert bureau.calls == []


def test_a_report_ends_after_the_date_has_moved(play: Play, disk: FakeDisk) -> None:
    assert play(intent="report") == Outcome(End.DONE)
    assert disk.writes == ["report 025 2026-10"]


def test_a_disk_cleared_elsewhere_is_done_without_a_write(play: Play, disk: FakeDisk) -> None:
    disk.reported = disk.cleared = PERIOD
    assert play() == Outcome(End.DONE)
    assert disk.writes == []


def test_a_disk_reported_elsewhere_goes_on_to_the_clear(
    play: Play, disk: FakeDisk, bureau: FakeBureau
) -> None:
    disk.reported = PERIOD
    bureau.reported.add("025 2026-10")
    assert play() == Outcome(End.DONE)
    assert disk.writes == ["clear 025 2026-10"]


def test_a_bureau_that_knows_of_no_report_leads_back_to_it_once(
    play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
) -> None:
    disk.reported = PERIOD
    assert play() == Outcome(End.DONE)
    assert disk.writes == ["report 025 2026-10", "clear 025 2026-10"]
    # The backup is newer than the report that changed the disk.
    assert ledger.log[-4:] == ["read", "backup 2026-10", "granted clear 025 2026-10", "read"]
    bureau.reported.clear()
    disk.cleared_types.clear()
    disk.writes.clear()
    bureau.refuse["QLJS"] = [Failure(Code.NOT_REPORTED), Failure(Code.NOT_REPORTED)]
    assert play().code == Code.NOT_REPORTED
    assert disk.writes == ["report 025 2026-10"]


def test_a_disk_that_is_behind_is_done_oldest_first(
    play: Play, disk: FakeDisk, ledger: FakeLedger
) -> None:
    disk.reported = disk.cleared = PERIOD.plus(-2)
    assert play() == Outcome(End.DONE)
    assert disk.writes == [
        "report 025 2026-09",
        "clear 025 2026-09",
        "report 025 2026-10",
        "clear 025 2026-10",
    ]
    assert [line for line in ledger.log if line.startswith("backup")] == [
        "backup 2026-09",
        "backup 2026-10",
    ]


def test_a_disk_that_is_ahead_without_being_cleared_is_superseded(
    play: Play, disk: FakeDisk
) -> None:
    disk.cleared = PERIOD
    assert play().end == End.SUPERSEDED
    assert disk.writes == []


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"device_no": "6619000000000002"}, Code.WRONG_DISK),
        ({"tax_id": "91420100MA00000025"}, Code.WRONG_DISK),
        ({"training": True}, Code.TRAINING_DISK),
        ({"retired": True}, Code.RETIRED_DISK),
    ],
)
def test_a_disk_that_must_not_be_touched_is_not(
    play: Play, disk: FakeDisk, ledger: FakeLedger, changed: dict[str, Any], code: Code
) -> None:
    from dataclasses import replace

    disk.identity = replace(disk.identity, **changed)
    assert play().code == code
    assert disk.writes == []
    assert ledger.log == []


def test_several_types_are_reported_and_cleared_unit_by_unit_and_the_worst_decides(
    play: Play, disk: FakeDisk
) -> None:
    disk.types = ("004", "007")
    disk.cleared_types["004"] = PERIOD
    disk.reported = PERIOD.plus(-1)
    assert play() == Outcome(End.DONE)
    assert disk.writes[-1:] == ["clear 007 2026-10"]
    assert "clear 004 2026-10" not in disk.writes


class TestTheFilingGate:
    def test_not_filed_waits_after_the_report_and_does_not_clear(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        bureau.filing = Filing.NOT_FILED
        outcome = play()
        assert (outcome.end, outcome.reason, outcome.retry_after) == (End.WAITING, "filing", 7200)
        assert disk.writes == ["report 025 2026-10"]

    def test_a_mark_goes_before_what_the_bureau_says(self, play: Play, bureau: FakeBureau) -> None:
        bureau.filing = Filing.NOT_FILED
        assert play(filed=("2026-10",)) == Outcome(End.DONE)
        assert "SBZTCX 2026-10" not in bureau.calls

    def test_a_return_that_is_not_due_is_not_asked_for(
        self, play: Play, bureau: FakeBureau
    ) -> None:
        bureau.filing = Filing.UNKNOWN
        assert play(not_due=("2026-10",)) == Outcome(End.DONE)

    def test_the_policy_try_leaves_the_answer_to_the_bureau(
        self, play: Play, bureau: FakeBureau
    ) -> None:
        bureau.refuse["QLJS"] = [Failure(Code.COMPARISON_FAILED, raw_code="9103")]
        outcome = play(policy_try=True)
        assert (outcome.reason, outcome.code, outcome.raw_code) == (
            "filing",
            "comparison_failed",
            "9103",
        )


class TestDoubt:
    """After a permission nothing is said before the disk was read."""

    def test_a_clear_whose_answer_was_lost_is_decided_by_the_read_back(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        disk.after["clear"] = raising(Code.NO_ANSWER, outcome_unknown=True)
        assert play() == Outcome(End.DONE)
        assert disk.writes.count("clear 025 2026-10") == 1
        assert disk.opened == 2
        assert bureau.confirmed == {"025 2026-10"}

    def test_a_clear_that_did_not_take_effect_is_not_called_done(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        disk.before["clear"] = raising(Code.NO_ANSWER, outcome_unknown=True)
        outcome = play()
        assert (outcome.end, outcome.code) == (End.WAITING, Code.NO_ANSWER)
        assert bureau.confirmed == set()

    def test_a_disk_that_can_no_longer_be_read_leaves_the_run_unknown(
        self, play: Play, disk: FakeDisk
    ) -> None:
        def gone() -> None:
            disk.before["read"] = raising(Code.DISK_ABSENT)
            raise Failure(Code.DISK_ABSENT, outcome_unknown=True)

        disk.after["clear"] = gone
        assert play().end == End.UNKNOWN

    def test_a_disk_of_several_types_goes_on_with_the_next_once_the_doubt_is_read_away(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
    ) -> None:
        self.reported_types(disk, bureau)
        disk.after["clear"] = once(Code.NO_ANSWER, outcome_unknown=True)
        assert play() == Outcome(End.DONE)
        assert disk.writes == ["clear 004 2026-10", "clear 007 2026-10"]
        # Nothing of the next type before the disk was read, nor before a backup newer than that.
        assert ledger.log == [
            "read",
            "backup 2026-10",
            "granted clear 004 2026-10",
            "read",
            "backup 2026-10",
            "granted clear 007 2026-10",
            "read",
        ]
        assert bureau.confirmed == {"004 2026-10", "007 2026-10"}

    def test_a_disk_of_several_types_stops_at_one_that_did_not_take_effect(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
    ) -> None:
        self.reported_types(disk, bureau)
        disk.before["clear"] = once(Code.NO_ANSWER, outcome_unknown=True)
        outcome = play()
        assert (outcome.end, outcome.code) == (End.WAITING, Code.NO_ANSWER)
        assert disk.writes == []
        assert "granted clear 007 2026-10" not in ledger.log
        assert bureau.confirmed == set()

    def test_a_disk_of_several_types_stops_at_one_that_nobody_can_read(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        def gone() -> None:
            disk.before["read"] = raising(Code.DISK_ABSENT)
            raise Failure(Code.NO_ANSWER, outcome_unknown=True)

        self.reported_types(disk, bureau)
        disk.after["clear"] = gone
        assert play().end == End.UNKNOWN
        assert disk.writes == ["clear 004 2026-10"]
        assert bureau.confirmed == set()

    def test_no_backup_is_made_where_nothing_is_left_to_clear(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
    ) -> None:
        """Of the last type the answer is lost, the disk is cleared, and then no copy can be made of
        it any more: the clear is confirmed all the same."""

        def lost_and_unreadable() -> None:
            disk.before["export"] = raising(Code.DEVICE_GARBLED)
            raise Failure(Code.NO_ANSWER, outcome_unknown=True)

        disk.after["clear"] = lost_and_unreadable
        assert play() == Outcome(End.DONE)
        assert bureau.confirmed == {"025 2026-10"}
        assert ledger.log.count("backup 2026-10") == 1

    @staticmethod
    def reported_types(disk: FakeDisk, bureau: FakeBureau) -> None:
        disk.types, disk.reported = ("004", "007"), PERIOD
        bureau.reported |= {"004 2026-10", "007 2026-10"}

    def test_a_failed_report_is_settled_only_after_a_read(
        self, play: Play, disk: FakeDisk, ledger: FakeLedger
    ) -> None:
        disk.before["report"] = raising(Code.PASSWORD_WRONG, tries_left=2)
        outcome = play()
        assert (outcome.end, outcome.code) == (End.FAILED, "password_wrong")
        assert ledger.log == ["read", "granted report 025 2026-10", "read"]
        passwords = [data for kind, data in ledger.facts if kind == FactKind.PASSWORD]
        assert passwords == [{"code": "password_wrong", "tries_left": 2}]

    def test_a_cancel_between_two_units_reads_before_it_ends(
        self, play: Play, disk: FakeDisk, ledger: FakeLedger
    ) -> None:
        disk.types, disk.reported = ("004", "007"), PERIOD
        bureau_knows = FakeBureau(reported={"004 2026-10", "007 2026-10"})
        disk.after["clear"] = lambda: ledger.deny.update(clear=Denial.CANCELLED)
        outcome = run(
            order(), open_disk=disk.open, bureau=bureau_knows, ledger=ledger, clock=FixedClock()
        )
        assert outcome.end == End.CANCELLED
        assert disk.writes == ["clear 004 2026-10"]
        assert ledger.log[-1] == "read"

    def test_a_report_that_moves_no_date_is_not_called_reported(
        self, play: Play, disk: FakeDisk
    ) -> None:
        disk.after["report"] = lambda: setattr(disk, "reported", PERIOD.plus(-1))
        assert play().code == Code.REPORT_NOT_SEEN

    @pytest.mark.parametrize("code", [Code.PERIOD_DATA_EXIST, Code.NOTHING_TO_REPORT])
    def test_a_disk_with_nothing_to_hand_in_is_judged_by_its_dates(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, code: Code
    ) -> None:
        disk.after["report"] = raising(code, raw_code="195")
        bureau.reported.add("025 2026-10")
        assert play() == Outcome(End.DONE)
        assert "WLCB 025 2026-10" not in bureau.calls
        disk.reported = disk.cleared = PERIOD.plus(-1)
        disk.cleared_types.clear()
        disk.before["report"] = raising(code, raw_code="195")
        assert play().code == Code.REPORT_NOT_SEEN

    def test_already_cleared_from_the_disk_only_leads_to_a_read(
        self, play: Play, disk: FakeDisk
    ) -> None:
        disk.before["clear"] = raising(Code.ALREADY_CLEARED, raw_code="09d118")
        assert play().code == Code.CLEAR_NOT_SEEN

    def test_already_cleared_from_the_bureau_only_leads_to_a_read(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        bureau.refuse["QLJS"] = [Failure(Code.ALREADY_CLEARED)]
        assert play().code == Code.CLEAR_NOT_SEEN
        assert disk.writes == ["report 025 2026-10"]

    def test_clear_data_that_do_not_fit_are_fetched_once_more(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        disk.before["clear"] = once(Code.CLEAR_DATA_MISMATCH, raw_code="6988")
        assert play() == Outcome(End.DONE)
        assert bureau.calls.count("QLJS 025 2026-10") == 2
        disk.before["clear"] = raising(Code.CLEAR_DATA_MISMATCH)
        disk.cleared_types.clear()
        assert play().code == Code.CLEAR_DATA_MISMATCH

    def test_a_read_without_an_answer_is_tried_once_more_on_a_fresh_connection(
        self, play: Play, disk: FakeDisk
    ) -> None:
        disk.before["identify"] = once(Code.NO_ANSWER)
        assert play(intent="read") == Outcome(End.DONE)
        assert disk.opened == 2


class TestResume:
    def test_a_held_package_is_sent_again_as_it_is(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
    ) -> None:
        disk.reported = PERIOD
        held = (Held("2026-10", "025", {"fphz": "as it was"}),)
        assert play(held=held) == Outcome(End.DONE)
        assert disk.writes == ["clear 025 2026-10"]
        answers = [data["answer"] for kind, data in ledger.facts if kind == FactKind.BUREAU]
        assert answers[0]["fphz"] == "as it was"

    def test_a_held_package_is_sent_only_with_a_permission_of_its_own(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
    ) -> None:
        disk.reported = PERIOD
        held = (Held("2026-10", "025", {"fphz": "as it was"}),)
        assert play(held=held, intent="report") == Outcome(End.DONE)
        assert ledger.log == ["read", "granted upload 025 2026-10", "read"]
        assert bureau.calls == ["WLCB 025 2026-10"]

    @pytest.mark.parametrize(
        ("denial", "end"),
        [
            (Denial.CANCELLED, End.CANCELLED),
            (Denial.LEASE_LOST, End.LOST),
            (Denial.HELD, End.WAITING),
            (Denial.BUREAU_PAUSED, End.WAITING),
        ],
    )
    def test_a_held_package_that_may_not_be_sent_stays_here(
        self,
        play: Play,
        disk: FakeDisk,
        bureau: FakeBureau,
        ledger: FakeLedger,
        denial: Denial,
        end: End,
    ) -> None:
        disk.reported = PERIOD
        ledger.deny["upload"] = denial
        assert play(held=(Held("2026-10", "025", {"fphz": "as it was"}),)).end == end
        assert bureau.calls == []
        # Nothing was asked of the bureau, so nothing is told of it.
        assert "upload" not in ledger.stages()

    def test_a_held_package_is_not_sent_in_quiet_hours(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
    ) -> None:
        disk.reported = PERIOD
        held = (Held("2026-10", "025", {"fphz": "as it was"}),)
        outcome = play(at=NOW.replace(hour=0, minute=2), held=held)
        assert (outcome.end, outcome.reason) == (End.WAITING, "quiet")
        assert bureau.calls == []
        assert "upload" not in ledger.stages()

    def test_an_upload_that_fails_is_settled_only_after_a_read(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
    ) -> None:
        disk.reported = PERIOD
        bureau.refuse["WLCB"] = [Failure(Code.BUREAU_UNREACHABLE, outcome_unknown=True)]
        outcome = play(held=(Held("2026-10", "025", {"fphz": "as it was"}),))
        assert (outcome.end, outcome.reason) == (End.WAITING, "bureau")
        assert ledger.log == ["read", "granted upload 025 2026-10", "read"]

    def test_an_open_report_intent_without_a_package_is_reported_again(
        self, play: Play, disk: FakeDisk
    ) -> None:
        disk.reported = PERIOD
        assert play(report_open=Owed("2026-10", "025")) == Outcome(End.DONE)
        assert disk.writes[0] == "report 025 2026-10"

    def test_a_report_that_the_bureau_has_answered_is_not_made_again(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        """The disk could not be read after its report went through: doubt, but no second one."""
        disk.reported = PERIOD
        bureau.reported.add("025 2026-10")
        at = Owed("2026-10", "025")
        assert play(report_open=at, reported=(at,)) == Outcome(End.DONE)
        assert disk.writes == ["clear 025 2026-10"]

    def test_a_lost_upload_waits_for_the_bureau_with_the_package_held(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger
    ) -> None:
        bureau.refuse["WLCB"] = [Failure(Code.BUREAU_UNREACHABLE, outcome_unknown=True)]
        outcome = play()
        assert (outcome.end, outcome.reason) == (End.WAITING, "bureau")
        assert "held 025 2026-10" in ledger.log
        assert ledger.log[-1] == "read"

    def test_an_unanswered_confirmation_is_owed_and_the_disk_stays_cleared(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        bureau.refuse["QLJSJGQR"] = [Failure(Code.BUREAU_UNREACHABLE)]
        outcome = play()
        assert (outcome.end, outcome.reason) == (End.WAITING, "confirm")
        assert disk.writes[-1] == "clear 025 2026-10"
        owed = (Owed("2026-10", "025"),)
        disk.writes.clear()
        assert play(confirm_owed=owed) == Outcome(End.DONE)
        assert (disk.writes, bureau.confirmed) == ([], {"025 2026-10"})


class TestPermission:
    @pytest.mark.parametrize(
        ("denial", "end"),
        [
            (Denial.CANCELLED, End.CANCELLED),
            (Denial.LEASE_LOST, End.LOST),
            (Denial.REVOKED, End.LOST),
            (Denial.NO_BACKUP, End.FAILED),
            (Denial.ALREADY_CLEARED, End.DONE),
            (Denial.WRONG_DISK, End.FAILED),
            (Denial.BUREAU_PAUSED, End.WAITING),
            (Denial.PIN_HELD, End.WAITING),
            (Denial.QUIET_HOURS, End.WAITING),
        ],
    )
    def test_a_denied_clear_writes_nothing(
        self, play: Play, disk: FakeDisk, ledger: FakeLedger, denial: Denial, end: End
    ) -> None:
        ledger.deny["clear"] = denial
        assert play().end == end
        assert disk.writes == ["report 025 2026-10"]

    @pytest.mark.parametrize(
        ("at", "seconds"),
        [
            ((9, 0, 0, 0), 300),
            ((9, 0, 4, 59), 1),
            ((9, 0, 5, 0), 0),
            ((9, 23, 59, 59), 0),
            ((30, 23, 49, 59), 0),
            ((30, 23, 50, 0), 900),
            ((1, 0, 30, 0), 0),
            ((1, 7, 59, 0), 0),
        ],
    )
    def test_the_turn_of_a_day_and_of_a_month_are_quiet(
        self, at: tuple[int, int, int, int], seconds: float
    ) -> None:
        day, hour, minute, second = at
        assert quiet_for(NOW.replace(day=day, hour=hour, minute=minute, second=second)) == seconds

    def test_in_quiet_hours_the_disk_is_read_but_not_changed(
        self, play: Play, disk: FakeDisk, ledger: FakeLedger
    ) -> None:
        outcome = play(at=NOW.replace(hour=0, minute=2))
        assert (outcome.end, outcome.reason, outcome.retry_after) == (End.WAITING, "quiet", 180)
        assert disk.writes == []
        assert ledger.log == ["read"]

    def test_pending_uploads_stop_the_report(self, play: Play, disk: FakeDisk) -> None:
        disk.pending = 4
        outcome = play()
        assert (outcome.code, outcome.detail) == ("invoices_pending", "4")
        assert disk.writes == []


class TestAsked:
    """Each stage says whether it came to its call to the bureau: only then may what it ended with
    be the bureau's word."""

    @pytest.mark.parametrize("there", [True, False], ids=["disk there", "disk pulled"])
    def test_the_fetch_asks_the_bureau_only_where_the_disk_gave_its_request(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau, ledger: FakeLedger, there: bool
    ) -> None:
        if there:
            bureau.refuse["QLJS"] = [Failure(Code.OUTSIDE_WINDOW)]
        else:
            disk.before["clear_request"] = raising(Code.NO_ANSWER)
        play()
        asked = {
            fact["stage"]: fact["asked"] for kind, fact in ledger.facts if kind == FactKind.STAGE
        }
        expected = {"upload": True, "filing": True, "report": False, "backup": False}
        assert {name: asked[name] for name in expected} == expected
        assert asked["fetch"] == there


class TestTheClockOfTheDisk:
    """It dates what the disk writes; only another Beijing date than ours stops a step."""

    @pytest.mark.parametrize("days", [-400, -1, 1])
    def test_on_another_date_the_disk_is_read_but_not_reported(
        self, play: Play, disk: FakeDisk, ledger: FakeLedger, days: int
    ) -> None:
        disk.clock = NOW + dt.timedelta(days=days)
        outcome = play()
        assert (outcome.end, outcome.code) == (End.FAILED, "device_clock_wrong")
        assert outcome.detail == disk.clock.date().isoformat()
        assert (disk.writes, ledger.log) == ([], ["read"])

    @pytest.mark.parametrize("clock", [NOW.replace(hour=0, minute=1), NOW.replace(hour=23)])
    def test_a_wrong_hour_of_the_right_date_stops_nothing(
        self, play: Play, disk: FakeDisk, clock: dt.datetime
    ) -> None:
        disk.clock = clock
        assert play() == Outcome(End.DONE)

    def test_the_date_is_that_of_beijing_whatever_zone_it_is_told_in(
        self, play: Play, disk: FakeDisk
    ) -> None:
        at = NOW.replace(hour=1)
        disk.clock = at.astimezone(dt.UTC)
        assert disk.clock.date() != at.date()
        assert play(at=at) == Outcome(End.DONE)

    def test_a_clear_that_puts_the_clock_right_is_not_stopped_by_it(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        disk.reported = PERIOD
        disk.clock = NOW - dt.timedelta(days=1)
        bureau.reported.add("025 2026-10")
        outcome = play()
        assert (outcome.code, disk.writes) == ("device_clock_wrong", [])
        bureau.clock_data = "20261109101200"
        assert play() == Outcome(End.DONE)
        assert disk.writes == ["clear 025 2026-10"]

    def test_a_package_that_is_held_goes_out_whatever_the_disk_s_clock_says(
        self, play: Play, disk: FakeDisk, bureau: FakeBureau
    ) -> None:
        disk.reported = PERIOD
        disk.clock = NOW - dt.timedelta(days=1)
        held = (Held("2026-10", "025", {"fphz": "as it was"}),)
        assert play(held=held, intent="report") == Outcome(End.DONE)
        assert bureau.calls == ["WLCB 025 2026-10"]

    def test_a_clock_that_is_over_midnight_a_little_before_ours_waits_for_ours(
        self, play: Play, disk: FakeDisk
    ) -> None:
        at = NOW.replace(hour=23, minute=59, second=30)
        disk.clock = at + dt.timedelta(minutes=1)
        outcome = play(at=at)
        assert (outcome.end, outcome.reason, outcome.retry_after) == (End.WAITING, "quiet", 330)
        assert disk.writes == []


@pytest.mark.parametrize("code", list(Code))
def test_every_failure_settles_a_run_somehow(code: Code) -> None:
    outcome = outcome_of(Failure(code, raw_code="X1"))
    assert outcome.code == code
    assert outcome.end in {End.FAILED, End.WAITING, End.SKIPPED}
    assert (outcome.end == End.WAITING) == bool(outcome.reason)


def test_an_order_survives_the_wire_and_hides_its_passwords() -> None:
    given = order(
        device_password="MARK0001",
        certificate_password="MARK0002",
        held=(Held("2026-10", "025", {"a": "b"}),),
        report_open=Owed("2026-10", "025"),
        confirm_owed=(Owed("2026-09", "025"),),
        filed=("2026-10",),
    )
    assert Order.from_json(given.to_json()) == given
    assert "MARK" not in repr(given)
    with pytest.raises(Failure):
        Order.from_json({"run_id": 1})
