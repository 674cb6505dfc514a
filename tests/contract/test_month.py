"""The whole procedure on every subject: proven ends, exact writes, deaths at the worst moments."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clearing.wire import End, FactKind
from devices.protocol.control import is_cleared_all, is_reported_all
from devices.protocol.failures import Code
from devices.protocol.month import Month
from tests.clearing.fakes import FakeLedger
from tests.contract.conftest import MakeOffice, MakeSubject
from tests.contract.month import Office, read_until, report_all, run, units_of
from tests.contract.subject import PERIOD, Break, Situation, Step, Subject
from tests.contract.subjects import KILLABLE, cases
from tests.devices.drivers.test_ic_card_trouble import failure_of


def expected(subject: Subject, periods: int = 1) -> dict[str, int]:
    units = len(subject.open().units(subject.types))
    return {"report": units * periods, "clear": units * periods, "wrong": 0}


def test_a_month_ends_done_with_exactly_its_writes(subject: Subject, office: Office) -> None:
    ledger = FakeLedger()
    assert run(subject, office, ledger=ledger).end is End.DONE
    assert subject.writes() == expected(subject)
    assert is_cleared_all(subject.open().read_control(), PERIOD)
    confirmed = office.state().confirmed()[(subject.device_no, PERIOD)]
    assert set(confirmed) == set(subject.types)
    held = [line for line in ledger.log if line.startswith("held")]
    assert len(held) == expected(subject)["report"]


def test_a_month_done_is_not_done_again(subject: Subject, office: Office) -> None:
    run(subject, office)
    once = subject.writes()
    assert run(subject, office).end is End.DONE
    assert subject.writes() == once


def test_a_disk_two_months_behind_is_brought_up_period_by_period(
    make_subject: MakeSubject, make_office: MakeOffice
) -> None:
    subject = make_subject(cleared_through="2025-12-31", issue_deadline="2026-02-24")
    assert run(subject, make_office(subject)).end is End.DONE
    assert subject.writes() == expected(subject, periods=2)


def test_a_disk_reported_elsewhere_goes_on_to_the_clear(subject: Subject, office: Office) -> None:
    disk = subject.open()
    report_all(disk, office)
    read_until(disk, lambda read: is_reported_all(read, PERIOD))
    assert run(subject, office).end is End.DONE
    assert subject.writes() == expected(subject)


def test_a_report_the_bureau_never_got_is_given_again_by_the_disk(
    subject: Subject, office: Office
) -> None:
    disk = subject.open()
    for unit in units_of(disk):
        disk.report(unit, PERIOD)
    read_until(disk, lambda read: is_reported_all(read, PERIOD))
    assert run(subject, office).end is End.DONE
    assert subject.writes()["clear"] == expected(subject)["clear"]


def test_a_clear_whose_answer_is_lost_is_not_written_twice(
    subject: Subject, office: Office
) -> None:
    subject.strike(Step.CLEAR, Break.AFTER)
    assert run(subject, office).end is End.DONE
    assert subject.writes()["clear"] == expected(subject)["clear"]


def test_uploads_that_wait_stop_the_run_before_anything_is_written(
    make_subject: MakeSubject, make_office: MakeOffice
) -> None:
    subject = make_subject(pending=3)
    if not subject.tells_pending:
        return
    outcome = run(subject, make_office(subject))
    assert (outcome.end, outcome.code, outcome.detail) == (End.FAILED, Code.INVOICES_PENDING, "3")
    assert subject.writes() == {"report": 0, "clear": 0, "wrong": 0}


def test_a_training_disk_is_skipped(make_subject: MakeSubject, make_office: MakeOffice) -> None:
    subject = make_subject(training=True)
    assert run(subject, make_office(subject)).end is End.SKIPPED
    assert not subject.asked_for_secrets()


def test_a_read_sees_everything_and_writes_nothing(subject: Subject, office: Office) -> None:
    ledger = FakeLedger()
    assert run(subject, office, intent="read", ledger=ledger).end is End.DONE
    read = next(data for kind, data in ledger.facts if kind is FactKind.CONTROL)
    assert set(read["types"]) == set(subject.types)
    assert subject.writes() == {"report": 0, "clear": 0, "wrong": 0}


@pytest.mark.parametrize("name", cases(KILLABLE))
@pytest.mark.parametrize("how", [Break.KILLED_BEFORE, Break.KILLED_AFTER])
@pytest.mark.parametrize("step", [Step.REPORT, Step.CLEAR])
def test_a_disk_survives_the_death_of_what_holds_it(
    name: str, step: Step, how: Break, make_office: MakeOffice
) -> None:
    subject = KILLABLE[name](Situation())
    try:
        office = make_office(subject)
        disk = subject.open()
        action: Callable[[], object] = lambda: disk.report(units_of(disk)[0], PERIOD)  # noqa: E731
        proof = is_reported_all
        if step is Step.CLEAR:
            report_all(disk, office)
            unit = units_of(disk)[0]
            data = office.clear_data(disk, unit)
            action, proof = lambda: disk.clear(unit, data), is_cleared_all
        subject.strike(step, how)
        failure = failure_of(action)
        assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)
        subject.revive()
        happened = how is Break.KILLED_AFTER
        types = units_of(subject.open())[0].types
        controls = read_until(
            subject.open(), lambda read: proof({t: read[t] for t in types}, PERIOD) is happened
        )
        assert proof({t: controls[t] for t in types}, PERIOD) is happened
        assert subject.writes()[step.value] == happened
        assert run(subject, office).end is End.DONE
        assert subject.writes()["clear"] == expected(subject)["clear"]
    finally:
        subject.close()


def test_the_window_is_that_of_the_period() -> None:
    assert PERIOD.window == Month(2026, 3)
