"""The sample of the demo: 48 fictional clients whose world is sound in every month."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path

import pytest
from stdnum.cn import uscc

from agency.taxid import check_tax_id
from clearing.bureau.standin import State
from clearing.bureau.standin.rules import Rules
from clearing.periods import QUARTERLY_WINDOWS
from deploy.demonstration import scenario
from deploy.demonstration.expected import Expected
from deploy.demonstration.kinds import AISINO, BAIWANG, IC_CARD, UKEY, types_in
from deploy.demonstration.play import Play
from deploy.demonstration.scenario import Calendar, Case, build, clients, on_cards
from deploy.demonstration.sheet import HEADINGS, write_sheet
from devices.drivers.component_units import units_of
from devices.drivers.dates import Kind
from devices.protocol.control import BEIJING
from devices.protocol.month import Month
from devices.sheet_columns import COLUMNS, parse_cell, recognise
from devices.sheets import read_sheet
from devices.simulator.card_state import CardState
from devices.simulator.component_state import ComponentState
from devices.simulator.world import World

# 2026 is in the calendar of working days, 2027 is not yet; the year before the first is.
NOW = dt.datetime(2026, 11, 9, 2, 12, tzinfo=dt.UTC)
MONTHS = [Month(year, month) for year in (2026, 2027) for month in range(1, 13)]


def test_there_are_48_companies_with_49_disks_and_one_without() -> None:
    rows = clients()
    assert len({row.tax_id for row in rows}) == 48
    assert sum(row.has_disk for row in rows) == 49
    assert sum(not row.has_disk for row in rows) == 1


def test_every_case_of_the_issue_is_among_them_once() -> None:
    cases = Counter(row.case for row in clients())
    assert {case for case in Case if cases[case] != 1} == {Case.NORMAL}
    sub_machines = [row for row in clients() if row.terminal_no]
    assert sub_machines and all(row.case is Case.NORMAL for row in sub_machines)


def test_the_rack_is_mixed_and_mostly_not_cards() -> None:
    rows = [row for row in clients() if row.has_disk]
    kinds = Counter(row.kind for row in rows)
    assert set(kinds) == {IC_CARD, BAIWANG, AISINO, UKEY}
    assert kinds[BAIWANG] > kinds[AISINO] > kinds[UKEY] > 0
    assert kinds[IC_CARD] < len(rows) / 2
    for machine in (0, 1):
        assert {row.kind for row in rows if row.number % 2 == machine} == set(kinds)
    for kind in (BAIWANG, AISINO):
        assert any(len(row.units) > 1 for row in rows if row.kind == kind)
    assert any(len(types_in(row.units)) > 2 for row in rows if row.kind == UKEY)
    for row in rows:
        assert len(row.device_no) == (16 if row.kind == IC_CARD else 12)
        assert bool(row.certificate) == (row.kind != IC_CARD)


def test_the_restated_units_of_each_kind_are_the_drivers() -> None:
    for row in clients():
        if row.kind != IC_CARD:
            units = units_of(Kind(row.kind), types_in(row.units))
            assert [unit.key for unit in units] == list(row.units)


def test_on_cards_changes_nothing_but_the_disks() -> None:
    world, expected = build(Month(2026, 11), on_cards(clients()))
    assert {disk.kind for disk in world.disks} == {IC_CARD}
    assert all(len(disk.device_no) == 16 and not disk.types for disk in world.disks)
    _world, mixed = build(Month(2026, 11), clients())
    ends = [(disk.company, disk.case, disk.ending, disk.code) for disk in expected.disks]
    assert ends == [(disk.company, disk.case, disk.ending, disk.code) for disk in mixed.disks]


def test_tax_ids_have_a_right_check_digit_and_belong_to_one_company() -> None:
    names = {row.tax_id: row.name for row in clients()}
    assert len(set(names.values())) == 48
    for tax_id in names:
        assert uscc.is_valid(tax_id)
        assert not check_tax_id(tax_id).legacy


def test_device_numbers_and_pins_are_distinct() -> None:
    rows = clients()
    assert len({row.device_no for row in rows}) == len(rows)
    wrong = [row for row in rows if row.sheet_pin != row.pin]
    assert [row.case for row in wrong] == [Case.WRONG_PIN]
    assert wrong[0].sheet_pin not in {row.pin for row in rows}


def test_the_restated_rule_of_quarterly_filers_is_the_engines() -> None:
    assert scenario.QUARTERLY_WINDOWS == QUARTERLY_WINDOWS


@pytest.mark.parametrize("window", MONTHS, ids=str)
def test_the_world_of_every_month_is_taken_by_rack_and_bureau(
    window: Month, tmp_path: Path
) -> None:
    world, expected = build(window, clients())
    world.save(tmp_path / "world.json")
    loaded = World.load(tmp_path / "world.json")
    Rules(loaded, State())
    places = [(disk.machine, disk.slot) for disk in loaded.disks if disk.slot]
    assert len(set(places)) == len(places) == len(loaded.disks) - 1
    for disk in loaded.disks:
        if disk.kind == IC_CARD:
            deadlines = {CardState.of_world(disk).controls.issue_deadline}
        else:
            types = ComponentState.of_world(disk, NOW).types.values()
            deadlines = {found.issue_deadline for found in types}
        assert {str(deadline) for deadline in deadlines} == {disk.issue_deadline}
    expected.save(tmp_path / "expected.json")
    assert Expected.load(tmp_path / "expected.json") == expected


@pytest.mark.parametrize("window", MONTHS, ids=str)
def test_what_is_expected_follows_from_the_dates_of_the_disk(window: Month) -> None:
    """Held against the rule of domain.md §3, not against the scenario's own words."""
    world, expected = build(window, clients())
    before = {disk.device_no: disk for disk in world.disks}
    period = window.plus(-1)
    for disk in expected.disks:
        start = before[disk.device_no]
        for text in disk.clears:
            assert Month.of(dt.date.fromisoformat(start.cleared_through)) < Month.parse(text)
        assert set(disk.clears) <= set(disk.reports)
        deadline = Month.of(dt.date.fromisoformat(disk.issue_deadline))
        cleared = deadline > window and dt.date.fromisoformat(disk.cleared_through) >= period.last
        assert cleared == bool(disk.cleared_by) == (disk.outcome == "done")


@pytest.mark.parametrize("window", MONTHS, ids=str)
def test_returns_are_due_as_the_month_gives(window: Month) -> None:
    world, _expected = build(window, clients())
    filings = {taxpayer.tax_id: taxpayer.filings for taxpayer in world.taxpayers}
    quarterly = [row for row in clients() if row.frequency == "按季"]
    assert quarterly
    for row in quarterly:
        due = window.month in (1, 4, 7, 10)
        assert filings[row.tax_id][str(window.plus(-1))] == ("filed" if due else "not_due")
    not_filed = next(row for row in clients() if row.case is Case.NOT_FILED)
    assert filings[not_filed.tax_id][str(window.plus(-1))] == "not_filed"
    assert not_filed.frequency == "按月"


@pytest.mark.parametrize("window", MONTHS, ids=str)
def test_the_early_deadlines_have_passed_and_the_others_have_not(window: Month) -> None:
    """On the day on which the demo plays."""
    world, _ = build(window, clients())
    cases = {row.device_no: row.case for row in clients()}
    today = window.first.replace(day=9)
    passed = {
        cases[disk.device_no]
        for disk in world.disks
        if dt.date.fromisoformat(disk.issue_deadline) < today
    }
    assert passed == {Case.BEHIND, Case.PAST_ALLOWED, Case.PAST_REFUSED}


def test_deadlines_of_a_year_that_the_calendar_does_not_know_are_the_bureaus() -> None:
    assert Calendar(Month(2031, 5)).deadline() == dt.date(2031, 5, 15)
    assert Calendar(Month(2026, 10)).deadline() > dt.date(2026, 10, 15)


def test_the_sheet_has_the_columns_of_the_issue_and_every_cell_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "clients.xlsx"
    write_sheet(clients(), path)
    sheet = read_sheet(path.read_bytes(), path.name)
    assert sheet.headings == HEADINGS
    mapping = recognise(sheet.headings, {})
    assert sorted(mapping.values()) == sorted(column.key for column in COLUMNS)
    assert len(sheet.rows) == len(clients())
    for row in sheet.rows:
        assert not row.troubles
        for index, key in mapping.items():
            if row.text(index):
                parse_cell(key, row.text(index))


@pytest.mark.parametrize(
    "day",
    [
        dt.datetime(2026, 1, 1, 0, 30, tzinfo=BEIJING),
        dt.datetime(2026, 1, 31, 23, 59, tzinfo=BEIJING),
        dt.datetime(2026, 2, 28, 12, 0, tzinfo=dt.UTC),
        dt.datetime(2026, 3, 31, 17, 0, tzinfo=dt.UTC),  # April in Beijing
    ],
)
def test_the_demo_plays_on_the_ninth_whatever_day_it_is(day: dt.datetime, tmp_path: Path) -> None:
    play = Play.of(tmp_path / "play.json", day)
    plays = play.time(day)
    assert (plays.day, plays.hour, plays.minute) == (9, 10, 12)
    assert Month.of(plays) == Month.of(day.astimezone(BEIJING)) == play.window
    later = day + dt.timedelta(hours=5)
    assert Play.of(tmp_path / "play.json", later) == play, "a second start goes on in its time"
    assert not play.is_over(later)
    assert play.is_over(day + dt.timedelta(days=24))
