"""The demo's judge finds every lie that is planted, and none where there is none."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, replace
from typing import Any

import pytest

from clearing.bureau.standin import State
from clearing.bureau.standin.state import Confirmed, Reported
from deploy.demonstration.expected import Expected, ExpectedDisk
from deploy.demonstration.judge import (
    CLEAR,
    COPY,
    DECLARE,
    PASSWORD,
    VERIFY,
    WRITE,
    Allowed,
    Claim,
    Claims,
    Sight,
    examine,
    handed_in,
    judge,
    result,
    writes_of,
)
from deploy.demonstration.kinds import AISINO, BAIWANG, IC_CARD, UKEY, types_in
from deploy.demonstration.scenario import Case, build, clients
from devices.protocol.month import Month
from devices.simulator.evidence import DiskEvidence, Write

WINDOW = Month(2026, 11)
START = dt.datetime(2026, 11, 9, 2, 12, tzinfo=dt.UTC)


@dataclass
class Scene:
    """What the judge is shown; truthful until a test changes it."""

    expected: Expected
    sights: dict[str, Sight]
    bureau: State
    claims: dict[str, Claim]
    first_bad: int | None = None

    def of(self, case: Case) -> str:
        return next(d.device_no for d in self.expected.disks if d.case == case.value)

    def of_kind(self, kind: str, units: int = 1) -> ExpectedDisk:
        """One that ends well."""
        return next(d for d in self.expected.disks if d.kind == kind and len(d.units) == units)

    def verdict(self, *, disturbed: bool = False) -> list[str]:
        claims = Claims(list(self.claims.values()), self.first_bad)
        return judge(self.expected, self.sights, self.bureau, claims, disturbed=disturbed)

    def write(self, device_no: str, command: str, period: str, **facts: Any) -> None:
        """One more write on a disk, counted and logged as a rack does it."""
        sight = self.sights[device_no]
        writes = dict(sight.evidence.writes)
        writes[command] = writes.get(command, 0) + 1
        number = len(sight.log) + 1
        at = START + dt.timedelta(minutes=number)
        entry = Write(number, at, command, period, facts)
        self.sights[device_no] = Sight(replace(sight.evidence, writes=writes), [*sight.log, entry])

    def change(self, device_no: str, **values: Any) -> None:
        self.claims[device_no] = replace(self.claims[device_no], **values)


@pytest.fixture
def scene() -> Scene:
    """Everything went as it should."""
    _world, expected = build(WINDOW, clients())
    scene = Scene(expected, {}, State(), {})
    for disk in expected.disks:
        scene.sights[disk.device_no] = Sight(_evidence(disk), [])
        for _ in range(disk.tries_spent):
            scene.write(disk.device_no, VERIFY, "", result="wrong")
        types = types_in(disk.units) or ["025"]
        for period in disk.reports:
            _write_units(scene, disk, 0, period)
            record = scene.bureau.open_record(disk.device_no, Month.parse(period))
            record.reported.update(dict.fromkeys(types, Reported("", "MN1", "d1")))
            if period in disk.clears:
                _write_units(scene, disk, 1, period)
                confirmed = Confirmed("", "MQ1", disk.issue_deadline)
                record.confirmed.update(dict.fromkeys(types, confirmed))
        scene.claims[disk.device_no] = _claim(disk, expected.period)
    return scene


def _write_units(scene: Scene, disk: ExpectedDisk, which: int, period: str) -> None:
    """A report (0) or a clear (1) of all units, as a rack or a component logs it."""
    command = writes_of(disk.kind)[which]
    if disk.kind == IC_CARD:
        scene.write(disk.device_no, VERIFY, "", result="rolled")
        scene.write(disk.device_no, command, period)
    else:
        for unit in disk.units:
            scene.write(disk.device_no, command, period, types=unit)


def _evidence(disk: ExpectedDisk) -> DiskEvidence:
    day = dt.date.fromisoformat
    return DiskEvidence(
        device_no=disk.device_no,
        tax_id=disk.tax_id,
        issue_deadline=day(disk.issue_deadline),
        cleared_through=day(disk.cleared_through),
        reported_through=day(disk.reported_through),
        tries=disk.tries,
        pin_generation=len(disk.reports) + len(disk.clears),
        writes={},
    )


def _claim(disk: ExpectedDisk, period: str) -> Claim:
    states = dict.fromkeys(disk.reports, "to_clear") | dict.fromkeys(disk.clears, "cleared")
    cleared_by = dict.fromkeys(disk.clears, "us")
    if disk.cleared_by == "elsewhere":
        states[period], cleared_by = "cleared", {period: "elsewhere"}
    return Claim(
        disk.device_no,
        disk.tax_id,
        disk.company,
        disk.outcome,
        disk.reason,
        disk.code,
        states=states,
        reported_by=dict.fromkeys(disk.reports, "us"),
        cleared_by=cleared_by,
        backups=dict.fromkeys(disk.clears, START),
        allowed=[Allowed(period, unit, START) for period in disk.clears for unit in disk.units],
        reportable=[Allowed(period, unit, START) for period in disk.reports for unit in disk.units],
    )


def only(sentences: list[str], device_no: str, *words: str) -> None:
    """There are sentences, all of this disk, and each of ``words`` stands in one of them."""
    assert sentences
    assert all(device_no in sentence for sentence in sentences), sentences
    for word in words:
        assert any(word in sentence for sentence in sentences), (word, sentences)


def test_the_truth_has_no_violation(scene: Scene) -> None:
    assert scene.verdict() == []


def test_a_disk_cleared_twice_is_found(scene: Scene) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    scene.write(disk, VERIFY, "", result="rolled")
    scene.write(disk, CLEAR, scene.expected.period)
    only(scene.verdict(), disk, "written 2 times", "PIN rolls")


def test_a_report_written_twice_is_found(scene: Scene) -> None:
    disk = scene.of(Case.REPORT_TIMEOUT)
    scene.write(disk, DECLARE, scene.expected.period)
    only(scene.verdict(), disk, "written 2 times")


def test_a_kill_excuses_one_more_report_for_each_lost_package(scene: Scene) -> None:
    disk = scene.of(Case.REPORT_TIMEOUT)
    scene.write(disk, VERIFY, "", result="rolled")
    scene.write(disk, DECLARE, scene.expected.period)
    scene.change(disk, permitted=3, packages_lost=1)
    assert scene.verdict(disturbed=True) == []
    only(scene.verdict(), disk, "written 2 times", "PIN rolls")
    scene.change(disk, permitted=2, packages_lost=0)
    only(scene.verdict(disturbed=True), disk, "written 2 times", "PIN rolls")


def test_nothing_excuses_a_second_clear(scene: Scene) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    scene.change(disk, permitted=9, packages_lost=9)
    scene.write(disk, CLEAR, scene.expected.period)
    only(scene.verdict(disturbed=True), disk, "written 2 times")


def test_a_pin_in_doubt_is_excused_by_an_open_window_after_a_kill_only(scene: Scene) -> None:
    number = scene.of_kind(IC_CARD).device_no
    sight = scene.sights[number]
    before = replace(
        sight.evidence,
        cleared_through=dt.date(2026, 9, 30),
        reported_through=dt.date(2026, 9, 30),
        writes={},
    )
    scene.sights[number] = Sight(before, [])
    scene.change(
        number, outcome="failed", code="pin_unknown", states={"2026-10": "to_report"},
        window_seen=True,
    )  # fmt: skip
    assert scene.verdict(disturbed=True) == []
    assert scene.verdict() != []
    scene.change(number, window_seen=False)
    assert scene.verdict(disturbed=True) != []
    scene.change(number, window_seen=True, states={"2026-10": "cleared"})
    assert scene.verdict(disturbed=True) != []
    scene.change(number, states={"2026-10": "to_report"})
    for _ in range(2):
        scene.write(number, CLEAR, "2026-10")
    assert scene.verdict(disturbed=True) != []


@pytest.mark.parametrize("command", [COPY, WRITE])
def test_a_unit_written_twice_is_found(scene: Scene, command: str) -> None:
    disk = scene.of_kind(BAIWANG, 3)
    scene.write(disk.device_no, command, scene.expected.period, types=disk.units[1])
    only(scene.verdict(), disk.device_no, "written 2 times")


def test_a_kill_excuses_no_second_write_of_a_units_clear(scene: Scene) -> None:
    disk = scene.of_kind(AISINO, 2)
    scene.change(disk.device_no, permitted=9, packages_lost=1)
    scene.write(disk.device_no, COPY, scene.expected.period, types=disk.units[0])
    assert scene.verdict(disturbed=True) == []
    scene.write(disk.device_no, COPY, scene.expected.period, types=disk.units[1])
    only(scene.verdict(disturbed=True), disk.device_no, "written 2 times")
    scene.change(disk.device_no, packages_lost=2)
    assert scene.verdict(disturbed=True) == []
    scene.write(disk.device_no, WRITE, scene.expected.period, types=disk.units[0])
    only(scene.verdict(disturbed=True), disk.device_no, "written 2 times")


@pytest.mark.parametrize("command", [COPY, WRITE])
def test_a_unit_that_was_not_written_is_found(scene: Scene, command: str) -> None:
    disk = scene.of_kind(BAIWANG, 2)
    sight = scene.sights[disk.device_no]
    at = next(i for i, write in enumerate(sight.log) if write.command == command)
    writes = {**sight.evidence.writes, command: 1}
    log = [*sight.log[:at], *sight.log[at + 1 :]]
    scene.sights[disk.device_no] = Sight(replace(sight.evidence, writes=writes), log)
    only(scene.verdict(), disk.device_no, "写入日志中为")


def test_a_card_s_command_on_another_kind_and_the_reverse_are_no_report(scene: Scene) -> None:
    disk, card = scene.of_kind(UKEY), scene.of_kind(IC_CARD)
    scene.write(disk.device_no, DECLARE, scene.expected.period)
    scene.write(card.device_no, WRITE, scene.expected.period)
    found = scene.verdict()
    for number in (disk.device_no, card.device_no):
        only([each for each in found if number in each], number, "its counters and its log differ")


def test_a_type_of_which_the_bureau_knows_nothing_is_found(scene: Scene) -> None:
    disk = scene.of_kind(BAIWANG, 3)
    record = scene.bureau.open_record(disk.device_no, Month.parse(scene.expected.period))
    del record.reported["026"]
    only(scene.verdict(), disk.device_no, "types at the bureau")
    del record.confirmed["004"]
    assert len(scene.verdict()) == 2


def test_a_password_tried_in_vain_is_found(scene: Scene) -> None:
    disk = scene.of_kind(AISINO)
    scene.write(disk.device_no, PASSWORD, "", result="wrong", tries=2)
    only(scene.verdict(), disk.device_no, "PIN tries spent")


def test_no_pin_of_a_disk_without_a_rolling_pin_is_ever_in_doubt(scene: Scene) -> None:
    disk = scene.of_kind(UKEY)
    scene.change(disk.device_no, outcome="failed", code="pin_unknown", window_seen=True)
    only(scene.verdict(disturbed=True), disk.device_no, "(outcome)")


def test_another_kind_s_clear_needs_a_backup_before_it(scene: Scene) -> None:
    disk = scene.of_kind(BAIWANG, 2)
    later = START + dt.timedelta(days=1)
    scene.change(disk.device_no, backups={scene.expected.period: later})
    only(scene.verdict(), disk.device_no, "no backup before the clear")


def test_a_write_on_a_foreign_disk_is_found(scene: Scene) -> None:
    disk = scene.of(Case.FOREIGN)
    scene.write(disk, VERIFY, "", result="rolled")
    scene.write(disk, DECLARE, scene.expected.period)
    only(scene.verdict(), disk, "抄报")


def test_a_row_that_says_cleared_where_the_disk_does_not_is_found(scene: Scene) -> None:
    disk = scene.of(Case.NOT_FILED)
    scene.change(disk, states={scene.expected.period: "cleared"})
    only(scene.verdict(), disk, "a row says cleared, the disk does not")


def test_a_deadline_moved_within_the_window_is_no_clear(scene: Scene) -> None:
    """The row says cleared, the periods on the disk agree, but its deadline did not leave W."""
    disk = scene.of(Case.CLEAR_TIMEOUT)
    sight = scene.sights[disk]
    moved = replace(sight.evidence, issue_deadline=WINDOW.last)
    scene.sights[disk] = Sight(moved, sight.log)
    only(scene.verdict(), disk, "a row says cleared, the disk does not", "issue deadline")


def test_a_cleared_disk_of_which_no_row_speaks_is_found(scene: Scene) -> None:
    disk = scene.of(Case.BEHIND)
    scene.change(disk, states={scene.expected.period: "cleared"})
    only(scene.verdict(), disk, "no row says that it is cleared")


def test_a_second_wrong_pin_is_found(scene: Scene) -> None:
    disk = scene.of(Case.WRONG_PIN)
    scene.write(disk, VERIFY, "", result="wrong")
    evidence = replace(scene.sights[disk].evidence, tries=1)
    scene.sights[disk] = Sight(evidence, scene.sights[disk].log)
    only(scene.verdict(), disk, "PIN tries spent", "PIN tries left")


@pytest.mark.parametrize("kept", [None, START + dt.timedelta(days=1)])
def test_a_clear_without_an_earlier_backup_is_found(scene: Scene, kept: dt.datetime | None) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    scene.change(disk, backups={scene.expected.period: kept} if kept else {})
    only(scene.verdict(), disk, "no backup before the clear")


@pytest.mark.parametrize("case", ["other period", "other unit", "later"])
def test_a_clear_that_nobody_permitted_is_found(scene: Scene, case: str) -> None:
    disk = scene.of_kind(BAIWANG, 2)
    period, later = scene.expected.period, START + dt.timedelta(days=1)
    allowed = {
        "other period": [Allowed("2026-09", unit, START) for unit in disk.units],
        "other unit": [Allowed(period, disk.units[0], START)],
        "later": [Allowed(period, unit, later) for unit in disk.units],
    }
    scene.change(disk.device_no, allowed=allowed[case])
    only(scene.verdict(disturbed=True), disk.device_no, "without permission")


def test_a_report_that_nobody_permitted_is_found(scene: Scene) -> None:
    disk = scene.of_kind(BAIWANG, 2)
    allowed = [Allowed(scene.expected.period, disk.units[0], START)]
    scene.change(disk.device_no, reportable=allowed)
    only(scene.verdict(disturbed=True), disk.device_no, "a report without permission")


@pytest.mark.parametrize(("permitted", "times"), [(1, 1), (2, 2), (1, 2), (0, 1)])
def test_a_package_needs_a_permission_each_time_that_it_is_sent(
    scene: Scene, permitted: int, times: int
) -> None:
    disk = scene.of_kind(BAIWANG)
    at, period, unit = START + dt.timedelta(hours=1), scene.expected.period, disk.units[0]
    earlier = [Allowed(period, unit, START)] * permitted
    later = Allowed(period, unit, START + dt.timedelta(days=1))
    claim = replace(scene.claims[disk.device_no], reportable=[*earlier, later])
    said = {"op": "WLCB", "device_no": disk.device_no, "period": period, "unit": unit}
    log = [{**said, "at": (at + dt.timedelta(days=2)).isoformat()}] * times
    sent = handed_in([{"op": "control"}, *log], clock_offset=2 * 86400.0)
    found = examine(
        scene.expected,
        scene.sights,
        scene.bureau,
        Claims([*(scene.claims | {disk.device_no: claim}).values()]),
        disturbed=True,
        sent=sent,
    )
    missing = [each for each in found if "sent to the bureau without permission" in each.text]
    assert len(missing) == max(0, times - permitted)


def test_a_permission_without_a_backup_of_its_claim_is_found(scene: Scene) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    scene.change(disk, unbacked=["2026-10 025"])
    only(scene.verdict(disturbed=True), disk, "without a backup of its claim")


def test_a_permission_of_a_claim_that_was_over_is_found(scene: Scene) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    scene.change(disk, late=["2026-10 025"])
    only(scene.verdict(disturbed=True), disk, "permitted to a claim that was over")


def test_what_happened_without_an_entry_in_the_trail_is_found(scene: Scene) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    scene.change(disk, untold=["办理 7 领取 1/2"])
    only(scene.verdict(disturbed=True), disk, "missing in the trail")


def test_a_bureau_that_was_told_nothing_is_found(scene: Scene) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    scene.bureau.open_record(disk, Month.parse(scene.expected.period)).confirmed.clear()
    only(scene.verdict(), disk, "confirmed clears")


def test_a_bureau_and_a_disk_with_different_deadlines_are_found(scene: Scene) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    record = scene.bureau.open_record(disk, Month.parse(scene.expected.period))
    record.confirmed["025"] = Confirmed("", "MQ1", "2027-01-15")
    only(scene.verdict(), disk, "deadlines differ")


def test_a_clear_that_the_vendor_did_and_we_boast_of_is_found(scene: Scene) -> None:
    disk = scene.of(Case.ELSEWHERE)
    scene.change(disk, cleared_by={scene.expected.period: "us"})
    only(scene.verdict(), disk, "cleared by")


def test_an_owed_confirmation_is_found(scene: Scene) -> None:
    disk = scene.of(Case.CLEAR_TIMEOUT)
    scene.change(disk, unconfirmed=[scene.expected.period])
    only(scene.verdict(), disk, "confirmation owed")


@pytest.mark.parametrize(
    "values", [{"outcome": "done", "reason": ""}, {"code": "no_answer"}, {"reason": "disk"}]
)
def test_another_outcome_or_code_is_found(scene: Scene, values: dict[str, str]) -> None:
    disk = scene.of(Case.NOT_FILED)
    scene.change(disk, **values)
    only(scene.verdict(), disk, "(outcome)")


def test_a_counter_without_its_line_in_the_log_is_found(scene: Scene) -> None:
    disk = scene.of(Case.TRAINING)
    sight = scene.sights[disk]
    scene.sights[disk] = Sight(replace(sight.evidence, writes={CLEAR: 1}), sight.log)
    only(scene.verdict(), disk, "its counters and its log differ")


def test_a_disk_that_is_missing_anywhere_is_found(scene: Scene) -> None:
    gone, forgotten = scene.of(Case.ABSENT), scene.of(Case.TRAINING)
    del scene.sights[gone]
    del scene.claims[forgotten]
    found = scene.verdict()
    assert len(found) == 2
    assert gone in found[0] and forgotten in found[1]


def test_a_disk_of_a_company_that_has_none_is_found(scene: Scene) -> None:
    tax_id = scene.expected.diskless[0]
    scene.claims["x"] = Claim("6619000000009999", tax_id, "虚构", "done")
    only(scene.verdict(), "6619000000009999", "a disk that should not be there")


def test_a_broken_audit_chain_is_found(scene: Scene) -> None:
    scene.first_bad = 17
    assert scene.verdict() == ["操作留痕的链条在第 17 条断开 (the audit chain is broken)"]


def test_the_result_takes_writes_from_the_disks_and_outcomes_from_us(scene: Scene) -> None:
    lost = scene.of(Case.TRAINING)
    del scene.claims[lost]
    told = result(scene.expected, scene.sights, Claims(list(scene.claims.values())))
    by_number = {disk["device_no"]: disk for disk in told["disks"]}
    assert list(by_number[lost]) == ["device_no", "tax_id", "outcome", "code", "writes"]
    assert by_number[lost]["outcome"] == ""
    writes = {case: by_number[scene.of(case)]["writes"] for case in Case if case != Case.NO_DISK}
    normal = next(d for d in scene.expected.disks if d.case == Case.NORMAL)
    assert writes[Case.NORMAL] == 2 * len(normal.units)
    assert (
        writes[Case.CLEAR_TIMEOUT] == writes[Case.REPORT_TIMEOUT] == writes[Case.PAST_ALLOWED] == 2
    )
    assert writes[Case.BEHIND] == 4
    assert writes[Case.NOT_FILED] == writes[Case.PAST_REFUSED] == 1
    assert writes[Case.FOREIGN] == writes[Case.ELSEWHERE] == writes[Case.WRONG_PIN] == 0
    assert by_number[scene.of(Case.ABSENT)]["outcome"] == "waiting(disk)"
    assert told["counts"]["no_disk"] == 1
    assert sum(told["counts"].values()) == 50


def test_an_expectation_has_no_field_that_the_judge_passes_over(scene: Scene) -> None:
    """Whatever is changed in the expectation, the judge speaks up."""
    other: dict[str, Any] = {
        "outcome": "skipped",
        "reason": "pin",
        "code": "no_answer",
        "reports": [],
        "clears": [],
        "issue_deadline": "2026-01-01",
        "reported_through": "2026-01-01",
        "cleared_through": "2026-01-01",
        "tries": 1,
        "tries_spent": 2,
        "cleared_by": "elsewhere",
        "kind": IC_CARD,
        "units": ["004"],
    }
    names = {field.name for field in dataclasses.fields(ExpectedDisk)}
    assert names - set(other) == {"device_no", "tax_id", "company", "case"}
    at = next(i for i, d in enumerate(scene.expected.disks) if d.case == Case.NORMAL.value)
    honest = scene.expected.disks[at]
    for name, value in other.items():
        scene.expected.disks[at] = replace(honest, **{name: value})
        only(scene.verdict(), honest.device_no)
