"""The contract of a driver: whoever passes this suite is one, whoever does not is not."""

from __future__ import annotations

import datetime as dt

import pytest

from devices.protocol.control import is_cleared_all, is_reported_all, open_period
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from tests.contract.conftest import MakeOffice, MakeSubject
from tests.contract.month import (
    Office,
    clear_all,
    read_until,
    report_all,
    run,
    units_of,
)
from tests.contract.subject import (
    DEADLINE,
    NEXT_DEADLINE,
    PERIOD,
    TAX_ID,
    WRONG,
    Break,
    Step,
    Subject,
)
from tests.devices.drivers.test_ic_card_trouble import failure_of

NOTHING = {"report": 0, "clear": 0, "wrong": 0}
D = dt.date


class TestReading:
    def test_the_identity_is_told_without_a_password(self, subject: Subject) -> None:
        identity = subject.open().identify()
        assert identity.device_no == subject.device_no
        assert identity.tax_id in ("", TAX_ID)
        assert identity.kind == subject.kind
        assert (identity.training, identity.retired) == (False, False)
        assert not subject.asked_for_secrets()

    def test_a_training_disk_says_so(self, make_subject: MakeSubject) -> None:
        assert make_subject(training=True).open().identify().training

    def test_the_control_data_are_those_of_the_world_whatever_the_kind_writes(
        self, subject: Subject
    ) -> None:
        controls = subject.open().read_control()
        assert set(controls) == set(subject.types)
        for control in controls.values():
            assert control.issue_deadline == DEADLINE
            assert (control.period_start, control.period_end) == (D(2026, 2, 1), D(2026, 2, 28))
            assert control.last_reported_on == D(2026, 2, 1)
            assert control.device_clock is not None
            assert control.device_clock.date() == D(2026, 3, 5)
            assert control.clock_source == ("host" if subject.kind == "ic_card" else "device")
            assert control.limits["single"] == 10_000_000
            assert control.raw
        assert open_period(controls) == PERIOD

    def test_reading_changes_nothing(self, subject: Subject) -> None:
        disk = subject.open()
        disk.identify()
        disk.read_control()
        assert disk.pending_uploads() == 0
        backup = disk.export()
        assert subject.device_no.encode() in backup
        assert b"PIN0" not in backup
        assert subject.writes() == NOTHING

    def test_every_type_is_in_exactly_one_unit(self, subject: Subject) -> None:
        units = units_of(subject.open())
        assert sorted(t for unit in units for t in unit.types) == sorted(subject.types)
        assert all(list(unit.types) == sorted(unit.types) for unit in units)

    def test_a_closed_disk_says_nothing_and_closes_twice(self, subject: Subject) -> None:
        disk = subject.open()
        disk.close()
        disk.close()

    def test_a_broken_link_while_reading_leaves_nothing_in_doubt(self, subject: Subject) -> None:
        for step in (Step.IDENTIFY, Step.READ):
            for how in (Break.BEFORE, Break.AFTER):
                subject.strike(step, how)
                disk = subject.open()
                failure = failure_of(lambda disk=disk: (disk.identify(), disk.read_control()))  # type: ignore[misc]
                assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, False)
                subject.revive()
        assert set(subject.open().read_control()) == set(subject.types)

    def test_garbage_while_reading_is_called_garbage(self, subject: Subject) -> None:
        for step in (Step.IDENTIFY, Step.READ):
            subject.strike(step, Break.GARBAGE)
            disk = subject.open()
            failure = failure_of(lambda disk=disk: (disk.identify(), disk.read_control()))  # type: ignore[misc]
            assert failure.code in (Code.DEVICE_GARBLED, Code.DEVICE_REFUSED, Code.FOREIGN_CARD)
            assert not failure.outcome_unknown
            subject.revive()


class TestReport:
    def test_a_report_moves_the_date_and_hands_out_the_period(
        self, subject: Subject, office: Office
    ) -> None:
        disk = subject.open()
        packages = report_all(disk, office)
        controls = read_until(disk, lambda read: is_reported_all(read, PERIOD))
        assert is_reported_all(controls, PERIOD)
        assert not is_cleared_all(controls, PERIOD)
        assert open_period(controls) == PERIOD
        for package in packages:
            assert package.period == PERIOD
            assert package.fields["sq"].startswith("20260201")
            assert package.fields["fphz"]
        totals = {name: sum(p.statistics[name] for p in packages) for name in (
            "valid_count", "return_count", "void_count", "valid_fen", "return_fen",
        )}  # fmt: skip
        assert totals == {
            "valid_count": 5, "return_count": 1, "void_count": 1,
            "valid_fen": 1500_50, "return_fen": 20_00,
        }  # fmt: skip
        assert subject.writes()["report"] == len(packages)

    def test_a_report_repeated_gives_the_same_package(
        self, subject: Subject, office: Office
    ) -> None:
        first = report_all(subject.open(), office)
        again = report_all(subject.open(), office)
        assert [p.fields["fphz"] for p in again] == [p.fields["fphz"] for p in first]
        assert [p.statistics for p in again] == [p.statistics for p in first]

    def test_only_the_open_period_is_reported(self, subject: Subject) -> None:
        disk = subject.open()
        unit = units_of(disk)[0]
        assert failure_of(lambda: disk.report(unit, Month(2026, 1))).code is Code.ALREADY_CLEARED
        assert failure_of(lambda: disk.report(unit, Month(2026, 3))).code is Code.OLDEST_FIRST
        assert subject.writes() == NOTHING

    def test_a_month_that_is_not_over_is_not_reported(self, make_subject: MakeSubject) -> None:
        subject = make_subject(cleared_through="2026-02-28", issue_deadline="2026-04-15")
        disk = subject.open()
        failure = failure_of(lambda: disk.report(units_of(disk)[0], Month(2026, 3)))
        assert failure.code is Code.OUTSIDE_WINDOW
        assert subject.writes() == NOTHING

    def test_invoices_that_are_not_uploaded_stop_it(self, make_subject: MakeSubject) -> None:
        subject = make_subject(pending=3)
        if not subject.tells_pending:
            return
        disk = subject.open()
        assert disk.pending_uploads() == 3
        assert disk.read_control()[subject.types[0]].pending_uploads == 3
        unit = next(unit for unit in units_of(disk) if subject.types[0] in unit.types)
        failure = failure_of(lambda: disk.report(unit, PERIOD))
        assert failure.code is Code.INVOICES_PENDING
        assert failure.raw_code
        assert not failure.outcome_unknown
        assert subject.writes() == NOTHING

    def test_a_foreign_unit_is_not_supported(self, subject: Subject) -> None:
        disk = subject.open()
        unit = units_of(disk)[0]
        foreign = type(unit)((*unit.types, "099"))
        assert failure_of(lambda: disk.report(foreign, PERIOD)).code is Code.NOT_SUPPORTED
        assert subject.writes() == NOTHING


class TestClear:
    def test_a_clear_moves_the_deadline_and_opens_the_next_period(
        self, subject: Subject, office: Office
    ) -> None:
        disk = subject.open()
        report_all(disk, office)
        clear_all(disk, office)
        controls = read_until(disk, lambda read: is_cleared_all(read, PERIOD))
        assert is_cleared_all(controls, PERIOD)
        assert {control.issue_deadline for control in controls.values()} == {NEXT_DEADLINE}
        assert open_period(controls) == Month(2026, 3)
        assert subject.writes()["clear"] == len(units_of(disk))

    def test_a_clear_repeated_changes_nothing(self, subject: Subject, office: Office) -> None:
        disk = subject.open()
        report_all(disk, office)
        written = clear_all(disk, office)
        before = read_until(disk, lambda read: is_cleared_all(read, PERIOD))
        once = subject.writes()["clear"]
        for unit in units_of(disk):
            failure = failure_of(lambda unit=unit: disk.clear(unit, written[unit.key]))  # type: ignore[misc]
            assert failure.code in (Code.ALREADY_CLEARED, Code.CLEAR_DATA_MISMATCH)
            assert not failure.outcome_unknown
        after = disk.read_control()
        assert {t: c.issue_deadline for t, c in after.items()} == {
            t: c.issue_deadline for t, c in before.items()
        }
        assert subject.writes()["clear"] == once

    def test_what_was_not_reported_is_not_cleared(
        self, make_subject: MakeSubject, make_office: MakeOffice
    ) -> None:
        reported, untouched = make_subject(), make_subject()
        office = make_office(reported)
        first = reported.open()
        report_all(first, office)
        data = office.clear_data(first, units_of(first)[0])
        disk = untouched.open()
        failure = failure_of(lambda: disk.clear(data.unit, data))
        assert failure.code is Code.CLEAR_DATA_MISMATCH
        assert not is_cleared_all(disk.read_control(), PERIOD)
        assert untouched.writes()["clear"] == 0

    def test_damaged_clear_data_change_nothing(self, subject: Subject, office: Office) -> None:
        disk = subject.open()
        report_all(disk, office)
        unit = units_of(disk)[0]
        data = office.clear_data(disk, unit)
        good = data.fields["fpjkmw"]
        for bad in ("", "zz", good[:-8] + "00000000", good[:-2]):
            broken = type(data)(unit, {**data.fields, "fpjkmw": bad})
            failure = failure_of(lambda broken=broken: disk.clear(unit, broken))  # type: ignore[misc]
            assert failure.code in (Code.CLEAR_DATA_MISMATCH, Code.BUREAU_GARBLED), bad
        assert subject.writes()["clear"] == 0
        disk.clear(unit, data)


class TestSecrets:
    def test_another_disk_in_the_slot_is_told_and_gets_no_password(
        self, subject: Subject, office: Office
    ) -> None:
        subject.swap()
        outcome = run(subject, office)
        assert (outcome.end, outcome.code) == ("failed", Code.WRONG_DISK)
        assert not subject.asked_for_secrets()
        assert subject.writes() == NOTHING

    def test_a_disk_swapped_between_two_calls_gets_nothing_of_the_first(
        self, subject: Subject
    ) -> None:
        disk = subject.open()
        disk.identify()
        unit = units_of(disk)[0]
        subject.swap()
        for action in (disk.read_control, lambda: disk.report(unit, PERIOD), disk.export):
            failure = failure_of(action)
            assert failure.code in (Code.WRONG_DISK, Code.DISK_ABSENT, Code.NO_ANSWER)
            assert not failure.outcome_unknown
        assert subject.writes() == NOTHING
        assert not subject.asked_for_secrets()

    def test_a_wrong_password_costs_one_try_and_ends_the_run(
        self, subject: Subject, office: Office
    ) -> None:
        outcome = run(subject, office, password=WRONG)
        assert (outcome.end, outcome.code) == ("failed", Code.PASSWORD_WRONG)
        assert outcome.raw_code
        assert subject.writes() == {"report": 0, "clear": 0, "wrong": 1}

    def test_a_wrong_password_says_how_many_tries_are_left(self, subject: Subject) -> None:
        disk = subject.open(password=WRONG)
        unit = subject.open().units(subject.types)[0]
        disk = subject.open(password=WRONG)
        failure = failure_of(lambda: disk.report(unit, PERIOD))
        assert (failure.code, failure.tries_left) == (Code.PASSWORD_WRONG, 2)
        assert WRONG not in str(failure) + repr(failure) + repr(failure.__dict__)

    def test_a_locked_disk_is_left_alone(
        self, make_subject: MakeSubject, make_office: MakeOffice
    ) -> None:
        subject = make_subject(tries=0)
        outcome = run(subject, make_office(subject))
        assert (outcome.end, outcome.code) == ("failed", Code.PASSWORD_LOCKED)
        assert subject.writes()["report"] == subject.writes()["clear"] == 0


class TestInDoubt:
    @pytest.mark.parametrize("how", [Break.BEFORE, Break.AFTER])
    def test_a_report_without_an_answer_is_in_doubt_until_read(
        self, subject: Subject, office: Office, how: Break
    ) -> None:
        disk = subject.open()
        unit = units_of(disk)[0]
        subject.strike(Step.REPORT, how)
        failure = failure_of(lambda: disk.report(unit, PERIOD))
        assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)
        subject.revive()
        happened = how is Break.AFTER
        again = subject.open()
        controls = read_until(
            again,
            lambda read: happened == is_reported_all({t: read[t] for t in unit.types}, PERIOD),
        )
        assert is_reported_all({t: controls[t] for t in unit.types}, PERIOD) is happened
        assert subject.writes()["report"] == (1 if happened else 0)
        assert run(subject, office).end == "done"
        assert subject.writes()["clear"] == len(again.units(subject.types))

    @pytest.mark.parametrize("how", [Break.BEFORE, Break.AFTER])
    def test_a_clear_without_an_answer_is_in_doubt_until_read(
        self, subject: Subject, office: Office, how: Break
    ) -> None:
        disk = subject.open()
        report_all(disk, office)
        read_until(disk, lambda read: is_reported_all(read, PERIOD))
        unit = units_of(disk)[0]
        data = office.clear_data(disk, unit)
        subject.strike(Step.CLEAR, how)
        failure = failure_of(lambda: disk.clear(unit, data))
        assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)
        subject.revive()
        controls = subject.open().read_control()
        happened = how is Break.AFTER
        assert is_cleared_all({t: controls[t] for t in unit.types}, PERIOD) is happened
        assert run(subject, office).end == "done"
        assert subject.writes()["clear"] == len(subject.open().units(subject.types))

    @pytest.mark.parametrize("step", [Step.REPORT, Step.CLEAR])
    def test_garbage_after_a_change_is_in_doubt(
        self, subject: Subject, office: Office, step: Step
    ) -> None:
        disk = subject.open()
        if step is Step.CLEAR:
            report_all(disk, office)
            read_until(disk, lambda read: is_reported_all(read, PERIOD))
        unit = units_of(disk)[0]
        data = office.clear_data(disk, unit) if step is Step.CLEAR else None
        subject.strike(step, Break.GARBAGE)
        failure = failure_of(lambda: disk.clear(unit, data) if data else disk.report(unit, PERIOD))
        assert failure.outcome_unknown
        assert failure.code in (Code.DEVICE_GARBLED, Code.DEVICE_REFUSED)
        subject.revive()
        assert run(subject, office).end == "done"
        assert subject.writes()["clear"] == len(subject.open().units(subject.types))


def test_failures_are_failures() -> None:
    """The helper that the whole suite leans on lets nothing else through."""
    with pytest.raises(ZeroDivisionError):
        failure_of(lambda: 1 // 0)
    assert isinstance(Failure(Code.NO_ANSWER), Exception)
