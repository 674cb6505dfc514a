"""Where a disk and a company stand: the rules as a table, then the board over real rows."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agency.access import companies_of
from agency.choices import ClearPolicy, FilingFrequency
from agency.models import Company
from agency.scope import agency_scope
from clearing.choices import FilingState, PeriodState
from clearing.selectors.board import Board, Flag, Query, board, complete, type_states
from clearing.selectors.standing import (
    COLOURS,
    RULES,
    SEVERITY,
    URGENCY,
    DiskFacts,
    Standing,
    standing_of,
    worst,
)
from clearing.states import Reason, RunState
from devices.choices import DiskKind
from devices.models import TaxDisk
from devices.protocol.month import Month
from tests.clearing import scenes
from tests.conftest import NOW, MakeCompany, MakeDisk, Person

OCTOBER = Month(2026, 10)

# what is known of the disk → where it stands
TABLE: list[tuple[DiskFacts, Standing]] = [
    (DiskFacts(), Standing.UNREAD),
    (DiskFacts(state=PeriodState.TO_REPORT), Standing.TO_REPORT),
    (DiskFacts(state=PeriodState.TO_CLEAR), Standing.TO_FILE),
    (DiskFacts(state=PeriodState.TO_CLEAR, filed=True), Standing.TO_CLEAR),
    (DiskFacts(state=PeriodState.TO_CLEAR, clear_waits_for_filing=False), Standing.TO_CLEAR),
    (
        DiskFacts(
            state=PeriodState.TO_CLEAR,
            filed=True,
            run_state=RunState.WAITING,
            run_reason=Reason.FILING,
        ),
        Standing.TO_FILE,
    ),
    (DiskFacts(state=PeriodState.CLEARED), Standing.CLEARED),
    (DiskFacts(state=PeriodState.BY_HAND), Standing.BY_HAND),
    # a run under way
    (DiskFacts(run_state=RunState.QUEUED), Standing.IN_PROGRESS),
    (DiskFacts(state=PeriodState.TO_REPORT, run_state=RunState.CLAIMED), Standing.IN_PROGRESS),
    (DiskFacts(run_state=RunState.QUEUED, failed=True), Standing.IN_PROGRESS),
    (DiskFacts(state=PeriodState.CLEARED, run_state=RunState.CLAIMED), Standing.IN_PROGRESS),
    # waiting for something that comes by itself changes nothing
    (
        DiskFacts(state=PeriodState.TO_REPORT, run_state=RunState.WAITING, run_reason=Reason.DISK),
        Standing.TO_REPORT,
    ),
    (
        DiskFacts(state=PeriodState.CLEARED, run_state=RunState.WAITING, run_reason=Reason.CONFIRM),
        Standing.CLEARED,
    ),
    # what a person has to look at
    (DiskFacts(failed=True), Standing.NEEDS),
    (DiskFacts(state=PeriodState.TO_CLEAR, filed=True, failed=True), Standing.NEEDS),
    (DiskFacts(run_state=RunState.UNKNOWN), Standing.NEEDS),
    (DiskFacts(state=PeriodState.CLEARED, run_state=RunState.UNKNOWN), Standing.NEEDS),
    (DiskFacts(run_state=RunState.WAITING, run_reason=Reason.BY_HAND), Standing.NEEDS),
    (DiskFacts(run_state=RunState.WAITING, run_reason=Reason.PIN), Standing.NEEDS),
    (
        DiskFacts(state=PeriodState.TO_CLEAR, filing=FilingState.COMPARISON_FAILED),
        Standing.NEEDS,
    ),
    (
        DiskFacts(state=PeriodState.TO_CLEAR, filing=FilingState.COMPARISON_FAILED, filed=True),
        Standing.TO_CLEAR,
    ),
    # a disk that is done stays done
    (DiskFacts(state=PeriodState.CLEARED, failed=True), Standing.CLEARED),
    (DiskFacts(state=PeriodState.BY_HAND, failed=True), Standing.BY_HAND),
]


@pytest.mark.parametrize(("facts", "expected"), TABLE)
def test_the_first_rule_that_applies_gives_the_standing(
    facts: DiskFacts, expected: Standing
) -> None:
    assert standing_of(facts) == expected


def test_every_standing_but_that_of_a_company_without_disks_is_in_the_table() -> None:
    assert {standing for _facts, standing in TABLE} == set(Standing) - {Standing.NOTHING}
    assert {standing for standing, _rule in RULES} == set(Standing) - {Standing.NOTHING}
    assert set(SEVERITY) == set(URGENCY) == set(COLOURS) == set(Standing)


def test_only_a_proven_clear_is_green() -> None:
    assert [standing for standing in Standing if COLOURS[standing] == "green"] == [Standing.CLEARED]


@pytest.mark.parametrize(
    ("disks", "expected"),
    [
        ([], Standing.NOTHING),
        ([Standing.CLEARED, Standing.CLEARED], Standing.CLEARED),
        ([Standing.CLEARED, Standing.BY_HAND], Standing.BY_HAND),
        ([Standing.TO_FILE, Standing.TO_REPORT], Standing.TO_REPORT),
        ([Standing.TO_FILE, Standing.UNREAD], Standing.UNREAD),
        ([Standing.TO_CLEAR, Standing.TO_FILE], Standing.TO_FILE),
        ([Standing.TO_REPORT, Standing.NEEDS], Standing.NEEDS),
        ([Standing.NEEDS, Standing.IN_PROGRESS], Standing.IN_PROGRESS),
    ],
)
def test_a_company_stands_where_its_worst_disk_stands(
    disks: list[Standing], expected: Standing
) -> None:
    assert worst(disks) == expected


def look(person: Person, **query: str) -> Board:
    with agency_scope(person.viewer.agency_id):
        return board(companies_of(person.viewer), Query.of(query), OCTOBER, NOW.date())


def counts(found: Board) -> dict[str, int]:
    return {counter.key: counter.count for counter in found.counters if counter.count}


def names(found: Board) -> set[str]:
    return {row.short_name for row in found.rows}


@pytest.fixture
def mixed(make_company: MakeCompany, make_disk: MakeDisk) -> dict[str, Company]:
    """One company for every standing; a monthly filer, so that a return is due."""
    companies = {
        standing: make_company(
            short_name=str(standing.label), filing_frequency=FilingFrequency.MONTHLY
        )
        for standing in Standing
    }
    disks: dict[str, TaxDisk] = {
        standing: make_disk(company)
        for standing, company in companies.items()
        if standing != Standing.NOTHING
    }
    scenes.period(disks["to_report"], PeriodState.TO_REPORT)
    scenes.period(disks["to_file"], PeriodState.TO_CLEAR)
    scenes.period(
        disks["to_clear"], PeriodState.TO_CLEAR, marked_filed_at=NOW, marked_filed_by="郑会计"
    )
    scenes.period(disks["cleared"], PeriodState.CLEARED)
    scenes.period(disks["by_hand"], PeriodState.BY_HAND)
    scenes.run(disks["in_progress"], RunState.CLAIMED)
    scenes.run(disks["needs"], RunState.FAILED, code="wrong_disk")
    return {str(standing): company for standing, company in companies.items()}


def test_counters_are_disjoint_and_add_up(supervisor: Person, mixed: dict[str, Company]) -> None:
    found = look(supervisor)

    assert counts(found) == {"": len(Standing), **dict.fromkeys(Standing.values, 1)}
    assert {row.short_name: str(row.standing.label) for row in found.rows} == {
        str(standing.label): str(standing.label) for standing in Standing
    }


@pytest.mark.parametrize("standing", list(Standing))
def test_a_counter_is_a_filter_and_leaves_the_counters_alone(
    supervisor: Person, mixed: dict[str, Company], standing: Standing
) -> None:
    found = look(supervisor, state=str(standing))

    assert names(found) == {str(standing.label)}
    assert counts(found)[""] == len(Standing)


def test_entries_by_hand_get_a_counter_only_while_there_are_some(
    supervisor: Person, make_company: MakeCompany
) -> None:
    make_company()

    assert "by_hand" not in {counter.key for counter in look(supervisor).counters}


def test_what_nobody_knows_is_no_filter(supervisor: Person, mixed: dict[str, Company]) -> None:
    assert len(look(supervisor, state="'; drop", flag="x", sort="-nonsense").rows) == len(Standing)


def test_a_sub_machine_left_unreported_holds_the_company_back(
    supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company = make_company(filing_frequency=FilingFrequency.MONTHLY)
    scenes.period(make_disk(company), PeriodState.TO_CLEAR)
    scenes.period(make_disk(company, terminal_no=1), PeriodState.TO_REPORT)

    assert counts(look(supervisor)) == {"": 1, "to_report": 1}


def test_retired_and_training_disks_do_not_count(
    supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    company = make_company()
    scenes.period(make_disk(company), PeriodState.CLEARED)
    for field in ({"retired_at": NOW}, {"training": True}):
        disk = make_disk(company)
        with agency_scope(disk.agency_id):
            TaxDisk.objects.filter(pk=disk.pk).update(**field)
    only_retired = make_company()
    disk = make_disk(only_retired)
    with agency_scope(disk.agency_id):
        TaxDisk.objects.filter(pk=disk.pk).update(retired_at=NOW)

    assert counts(look(supervisor)) == {"": 2, "cleared": 1, "nothing": 1}


def test_a_quarterly_filer_has_no_return_due_in_november(
    supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    quarterly = make_company(filing_frequency=FilingFrequency.QUARTERLY)
    scenes.period(make_disk(quarterly), PeriodState.TO_CLEAR)
    trying = make_company(filing_frequency=FilingFrequency.MONTHLY, clear_policy=ClearPolicy.TRY)
    scenes.period(make_disk(trying), PeriodState.TO_CLEAR)

    assert counts(look(supervisor)) == {"": 2, "to_clear": 2}


def test_a_later_success_or_cancel_is_told_from_a_failure(
    supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    better, cancelled = make_disk(make_company()), make_disk(make_company())
    for disk in (better, cancelled):
        scenes.period(disk, PeriodState.TO_REPORT)
        scenes.run(disk, RunState.FAILED, code="no_answer")
    scenes.run(better, RunState.DONE)
    scenes.run(cancelled, RunState.CANCELLED)

    # A cancelled retry answers nothing: what failed before still stands.
    assert counts(look(supervisor)) == {"": 2, "to_report": 1, "needs": 1}


def test_a_retry_that_waits_for_its_disk_is_the_answer_to_the_failure(
    supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    disk = make_disk(make_company())
    scenes.period(disk, PeriodState.TO_REPORT)
    scenes.run(disk, RunState.FAILED, code="no_answer")
    scenes.run(disk, RunState.WAITING, reason=Reason.DISK)

    assert counts(look(supervisor)) == {"": 1, "to_report": 1}


def test_flags_stand_beside_the_standing(
    supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    absent, closing, overdue = (make_disk(make_company(short_name=n)) for n in "插锁过")
    scenes.run(absent, RunState.WAITING, reason=Reason.DISK)
    for disk, day in ((closing, 12), (overdue, 8)):
        scenes.period(disk, PeriodState.TO_REPORT)
        with agency_scope(disk.agency_id):
            TaxDisk.objects.filter(pk=disk.pk).update(issue_deadline=dt.date(2026, 11, day))

    found = look(supervisor)

    assert {row.short_name: row.flags for row in found.rows} == {
        "插": [Flag.ABSENT],
        "锁": [Flag.CLOSING],
        "过": [Flag.OVERDUE],
    }
    assert names(look(supervisor, flag="closing")) == {"锁"}
    assert counts(found) == {"": 3, "unread": 1, "to_report": 2}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("晨光", {"晨光"}),
        ("晨光商贸", {"晨光"}),
        ("91330106MA2000001", {"晨光"}),
        ("771900000001", {"晨光"}),
        ("白盘", {"晨光"}),
        ("黑盘", {"恒泰"}),
        ("UKEY", set()),
        ("反写", {"恒泰"}),
        ("清盘 黑盘", {"恒泰"}),
        ("抄税", {"晨光"}),
        ("白盘 恒泰", set()),
        ("待清卡", {"恒泰"}),
    ],
)
def test_search_knows_names_numbers_and_the_words_of_the_trade(
    supervisor: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    words: str,
    expected: set[str],
) -> None:
    white = make_company(
        short_name="晨光", name="杭州晨光商贸有限公司", tax_id="91330106MA2000001X"
    )
    black = make_company(short_name="恒泰", name="杭州恒泰机械厂")
    scenes.period(
        make_disk(white, kind=DiskKind.AISINO, device_no="771900000001"), PeriodState.TO_REPORT
    )
    scenes.period(make_disk(black, kind=DiskKind.BAIWANG), PeriodState.TO_CLEAR)

    assert names(look(supervisor, q=words)) == expected


def test_a_bookkeeper_sees_the_companies_assigned_to_them(
    bookkeeper: Person, make_company: MakeCompany
) -> None:
    make_company(short_name="我的", assigned_to=bookkeeper)
    make_company(short_name="别人的")

    assert names(look(bookkeeper)) == {"我的"}


def test_rows_are_ordered_by_urgency_and_sorted_on_demand(
    supervisor: Person, mixed: dict[str, Company]
) -> None:
    assert [row.standing for row in look(supervisor).rows] == list(URGENCY)
    rising = [row.short_name for row in look(supervisor, sort="name").rows]
    assert rising == sorted(rising)
    assert [row.short_name for row in look(supervisor, sort="-name").rows] == rising[::-1]


def test_each_invoice_type_has_a_state_of_its_own_and_garbled_ones_are_left_out() -> None:
    stored = (
        scenes.control("004")
        | scenes.control("007", reported=True)
        | scenes.control("025", reported=True, cleared=True)
        | {"026": {"invoice_type": "026"}}
    )

    assert [(entry.code, entry.state) for entry in type_states(stored, OCTOBER)] == [
        ("004", PeriodState.TO_REPORT),
        ("007", PeriodState.TO_CLEAR),
        ("025", PeriodState.CLEARED),
    ]


def test_the_number_of_queries_does_not_grow_with_the_companies(
    supervisor: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    def asked() -> int:
        with agency_scope(supervisor.viewer.agency_id), CaptureQueriesContext(connection) as seen:
            found = board(companies_of(supervisor.viewer), Query(), OCTOBER, NOW.date())
            complete(found.rows, OCTOBER)
        return len(seen)

    for _ in range(2):
        scenes.run(make_disk(make_company()), RunState.QUEUED)
    few = asked()
    for _ in range(10):
        scenes.period(make_disk(make_company()), PeriodState.CLEARED)

    assert asked() == few
