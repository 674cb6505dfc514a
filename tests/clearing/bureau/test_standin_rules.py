"""What the stand-in bureau takes, refuses and hands out, with the clock in the test's hand."""

from __future__ import annotations

import datetime as dt

import pytest

from clearing.bureau import messages
from clearing.bureau.messages import Reply
from clearing.bureau.port import BureauStatus, DiskAddress, Filing
from clearing.bureau.refusals import Refusal, is_success
from clearing.bureau.standin.rules import Rules, next_deadline
from clearing.bureau.standin.service import BEIJING
from clearing.bureau.standin.state import State
from devices.drivers.contract import ClearData, ClearRequest, ReportPackage, Unit
from devices.protocol.month import Month
from devices.simulator import crypto
from devices.simulator.world import World
from tests.clearing.bureau.world import (
    ALICE,
    ALICES,
    ALICES_SECOND,
    BOBS,
    FEBRUARY,
    IN_THE_WINDOW,
    JANUARY,
    KEY,
    MARCH,
    ROLLS,
    declared,
    make_world,
)


class Desk:
    """The bureau's counter: the four requests for one disk, and how they were answered."""

    def __init__(self, world: World | None = None) -> None:
        self.world = world or make_world()
        self.state = State()
        self.rules = Rules(self.world, self.state)
        self.now = IN_THE_WINDOW
        self.note = ""

    def ask(self, request: messages.Request) -> Reply:
        ruling = self.rules.rule(request, self.now)
        self.note = ruling.note
        # Over the wire and back, as it would go.
        return messages.parse_reply(messages.build_reply(ruling.reply), request.operation)

    def report(
        self, disk: DiskAddress = ALICES, period: Month = FEBRUARY, *, invoices: int = 0
    ) -> Reply:
        return self.hand_in(declared(disk, period, invoices=invoices), disk)

    def hand_in(self, package: ReportPackage, disk: DiskAddress = ALICES) -> Reply:
        return self.ask(messages.report_request(disk, package))

    def clear_data(
        self, disk: DiskAddress = ALICES, period: Month = FEBRUARY, unit: Unit = ROLLS
    ) -> Reply:
        return self.ask(messages.clear_data_request(disk, ClearRequest(unit, {}), period))

    def confirm(
        self, disk: DiskAddress = ALICES, period: Month = FEBRUARY, unit: Unit = ROLLS
    ) -> Reply:
        return self.ask(messages.confirm_request(disk, unit, period))

    def status(self, disk: DiskAddress = ALICES, period: Month = FEBRUARY) -> BureauStatus:
        return messages.status_of(self.ask(messages.status_request(disk, period)))

    def cleared(self, disk: DiskAddress = ALICES, period: Month = FEBRUARY) -> None:
        for reply in (
            self.report(disk, period),
            self.clear_data(disk, period),
            self.confirm(disk, period),
        ):
            assert is_success(reply.code), reply

    def file(self, filing: Filing, period: Month = FEBRUARY) -> None:
        self.state.filings.setdefault(ALICE, {})[period] = (filing.value, "2026-03-10T08:00:00")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def is_refused(reply: Reply, refusal: Refusal) -> bool:
    assert "模拟" in reply.text
    return reply.code == refusal.raw_code


def serial(reply: Reply) -> str:
    return messages.settled(reply, ROLLS)["lsh"]


def clear_data_in(reply: Reply) -> ClearData:
    return messages.clear_data_of(reply, ROLLS)


class TestReport:
    def test_a_package_is_taken_and_the_same_one_is_answered_the_same(self, desk: Desk) -> None:
        first = desk.report()
        assert is_success(first.code)
        desk.now += dt.timedelta(days=1)
        assert desk.report() == first
        assert len(desk.state.reported()) == 1

    def test_a_corrected_package_replaces_the_first_until_the_clear(self, desk: Desk) -> None:
        first = desk.report(invoices=0)
        second = desk.report(invoices=1)
        assert serial(second) != serial(first)
        taken = desk.state.record(ALICES.device_no, FEBRUARY).reported["025"]
        assert taken.serial == serial(second)

    def test_after_the_clear_the_same_package_is_answered_and_another_refused(
        self, desk: Desk
    ) -> None:
        first = desk.report()
        desk.clear_data()
        desk.confirm()
        assert desk.report() == first
        assert is_refused(desk.report(invoices=1), Refusal.ALREADY_CLEARED)
        taken = desk.state.record(ALICES.device_no, FEBRUARY).reported["025"]
        assert taken.serial == serial(first)

    def test_a_period_cleared_before_the_world_began_takes_no_package(self, desk: Desk) -> None:
        assert is_refused(desk.report(period=JANUARY), Refusal.ALREADY_CLEARED)

    def test_a_disk_reports_for_its_own_taxpayer_only(self, desk: Desk) -> None:
        foreign = DiskAddress(BOBS.device_no, ALICE, 0)
        nobody = DiskAddress(ALICES.device_no, "91110000600037341L", 0)
        unknown = DiskAddress("FFFFFFFFFFFFFFFF", ALICE, 0)
        assert is_refused(desk.report(foreign), Refusal.FOREIGN_DISK)
        assert is_refused(desk.report(unknown), Refusal.FOREIGN_DISK)
        assert is_refused(desk.report(nobody), Refusal.UNKNOWN_TAXPAYER)
        assert desk.state.reported() == {}

    def test_a_declaration_another_card_signed_is_refused(self, desk: Desk) -> None:
        forged = declared(ALICES, FEBRUARY, signed_by=BOBS.device_no)
        assert is_refused(desk.hand_in(forged), Refusal.BAD_SIGNATURE)

    def test_a_declaration_of_another_period_is_refused(self, desk: Desk) -> None:
        fields = {**declared(ALICES, MARCH).fields, "sq": "202602"}
        package = ReportPackage(ROLLS, FEBRUARY, fields)
        assert is_refused(desk.hand_in(package), Refusal.BAD_SIGNATURE)

    @pytest.mark.parametrize("fields", [{}, {"fphz": "00", "qtxx": "zz"}])
    def test_a_card_must_hand_in_its_declaration(self, desk: Desk, fields: dict[str, str]) -> None:
        package = ReportPackage(ROLLS, FEBRUARY, fields)
        assert is_refused(desk.hand_in(package), Refusal.BAD_SIGNATURE)
        assert desk.state.reported() == {}

    def test_disks_of_one_company_are_reported_one_by_one(self, desk: Desk) -> None:
        desk.report(ALICES)
        assert desk.status(ALICES).reported
        assert not desk.status(ALICES_SECOND).reported


class TestClearData:
    def test_they_carry_the_deadline_of_the_month_after_the_window(self, desk: Desk) -> None:
        desk.report()
        data = bytes.fromhex(clear_data_in(desk.clear_data()).fields["fpjkmw"])
        control = crypto.open_clear_data(bytes.fromhex(KEY), ALICES.device_no, data)
        assert control.issue_deadline == dt.date(2026, 4, 20)
        assert control.single_limit > 0

    def test_asked_again_before_the_confirm_they_are_given_again(self, desk: Desk) -> None:
        desk.report()
        first = clear_data_in(desk.clear_data())
        assert clear_data_in(desk.clear_data()) == first
        assert desk.state.record(ALICES.device_no, FEBRUARY).issued["025"].times == 2

    def test_nothing_is_given_before_the_report(self, desk: Desk) -> None:
        assert is_refused(desk.clear_data(), Refusal.NOT_REPORTED)
        assert desk.state.disks == {}

    @pytest.mark.parametrize(
        ("filing", "refusal"),
        [
            (Filing.UNKNOWN, Refusal.NOT_FILED),
            (Filing.NOT_FILED, Refusal.NOT_FILED),
            (Filing.PAYMENT_DUE, Refusal.PAYMENT_DUE),
            (Filing.COMPARISON_FAILED, Refusal.COMPARISON_FAILED),
            (Filing.NOT_DUE, None),
            (Filing.FILED, None),
        ],
    )
    def test_the_filing_decides(self, desk: Desk, filing: Filing, refusal: Refusal | None) -> None:
        desk.report()
        desk.file(filing)
        reply = desk.clear_data()
        assert is_success(reply.code) if refusal is None else is_refused(reply, refusal)

    def test_a_period_the_world_says_nothing_of_is_not_filed(self, desk: Desk) -> None:
        desk.now = IN_THE_WINDOW.replace(month=4)
        desk.report(period=MARCH)
        assert is_refused(desk.clear_data(period=MARCH), Refusal.NOT_FILED)

    @pytest.mark.parametrize(
        ("now", "refused"),
        [
            ("2026-02-28T23:59:59", True),
            ("2026-03-01T00:30:00", False),
            ("2026-03-01T07:59:00", False),
            ("2026-04-02T12:00:00", False),
        ],
    )
    def test_nothing_is_given_before_the_window_opens_in_beijing(
        self, desk: Desk, now: str, refused: bool
    ) -> None:
        desk.report()
        desk.now = dt.datetime.fromisoformat(now).replace(tzinfo=BEIJING)
        assert is_refused(desk.clear_data(), Refusal.OUTSIDE_WINDOW) is refused

    @pytest.mark.parametrize(
        ("says", "day", "refused"),
        [("refuse", 16, False), ("refuse", 17, True), ("allow", 17, False)],
    )
    def test_past_the_disks_deadline_the_taxpayers_bureau_decides(
        self, says: str, day: int, refused: bool
    ) -> None:
        desk = Desk(make_world(past_deadline=says))
        desk.report()
        desk.now = IN_THE_WINDOW.replace(day=day)
        assert is_refused(desk.clear_data(), Refusal.PAST_DEADLINE) is refused

    def test_a_confirmed_clear_moves_the_deadline_the_bureau_knows(self) -> None:
        desk = Desk(make_world(past_deadline="refuse"))
        desk.cleared()
        desk.file(Filing.FILED, MARCH)
        desk.now = IN_THE_WINDOW.replace(month=4, day=20)
        desk.report(period=MARCH)
        assert is_success(desk.clear_data(period=MARCH).code)
        desk.now = IN_THE_WINDOW.replace(month=4, day=21)
        assert is_refused(desk.clear_data(period=MARCH), Refusal.PAST_DEADLINE)

    @pytest.mark.parametrize("period", [JANUARY, FEBRUARY])
    def test_after_the_confirm_it_is_already_cleared(self, desk: Desk, period: Month) -> None:
        desk.cleared()
        assert is_refused(desk.clear_data(period=period), Refusal.ALREADY_CLEARED)

    def test_a_period_reported_before_the_world_began_may_be_cleared(self) -> None:
        world = make_world()
        world.disks[0].reported_through = "2026-02-28"
        desk = Desk(world)
        assert is_success(desk.clear_data().code)
        assert is_success(desk.confirm().code)
        assert desk.status().cleared

    def test_where_the_calendar_ends_the_fifteenth_is_given_and_noted(self) -> None:
        day, note = next_deadline(Month(2100, 11))
        assert day == dt.date(2101, 1, 15)
        assert "2101" in note
        assert "15 日" in note
        assert next_deadline(FEBRUARY) == (dt.date(2026, 4, 20), "")


class TestConfirm:
    def test_it_counts_once_and_then_says_so(self, desk: Desk) -> None:
        desk.cleared()
        before = desk.state.dump()
        desk.now += dt.timedelta(days=1)
        assert is_refused(desk.confirm(), Refusal.ALREADY_CONFIRMED)
        assert desk.state.dump() == before
        confirmed = desk.state.confirmed()[ALICES.device_no, FEBRUARY]["025"]
        assert (confirmed.at, confirmed.deadline) == ("2026-03-10T09:30:00+08:00", "2026-04-20")

    def test_what_was_never_handed_out_cannot_be_confirmed(self, desk: Desk) -> None:
        desk.report()
        assert is_refused(desk.confirm(), Refusal.NOT_ISSUED)
        assert desk.state.confirmed() == {}

    def test_a_period_cleared_before_the_world_began_is_already_confirmed(self, desk: Desk) -> None:
        assert is_refused(desk.confirm(period=JANUARY), Refusal.ALREADY_CONFIRMED)


class TestTypes:
    """A kind that reports and clears type by type, with summaries the bureau does not read."""

    FIRST, SECOND = Unit(("004",)), Unit(("007",))

    @pytest.fixture
    def desk(self) -> Desk:
        world = make_world()
        world.disks[0].kind = "baiwang"
        return Desk(world)

    def report(self, desk: Desk, unit: Unit) -> None:
        reply = desk.hand_in(ReportPackage(unit, FEBRUARY, {"fphz": "opaque"}))
        assert is_success(reply.code)

    def test_each_type_goes_its_own_way(self, desk: Desk) -> None:
        self.report(desk, self.FIRST)
        assert is_refused(desk.clear_data(unit=self.SECOND), Refusal.NOT_REPORTED)
        self.report(desk, self.SECOND)
        assert is_success(desk.clear_data(unit=self.FIRST).code)
        assert is_success(desk.confirm(unit=self.FIRST).code)
        assert is_refused(desk.clear_data(unit=self.FIRST), Refusal.ALREADY_CLEARED)
        assert is_success(desk.clear_data(unit=self.SECOND).code)

    def test_the_period_is_cleared_when_every_reported_type_is(self, desk: Desk) -> None:
        for unit in (self.FIRST, self.SECOND):
            self.report(desk, unit)
            desk.clear_data(unit=unit)
        desk.confirm(unit=self.FIRST)
        assert not desk.status().cleared
        desk.confirm(unit=self.SECOND)
        assert desk.status().cleared

    def test_a_number_of_twelve_digits_is_given_clear_data_too(self, desk: Desk) -> None:
        desk.world.disks[0].device_no = "661234567890"
        desk.rules = Rules(desk.world, desk.state)
        disk = DiskAddress("661234567890", ALICE, 0)
        desk.hand_in(ReportPackage(ROLLS, FEBRUARY, {"fphz": "opaque"}), disk)
        assert clear_data_in(desk.clear_data(disk)).fields["fpjkmw"]


class TestStatus:
    def test_it_follows_report_filing_and_clear(self, desk: Desk) -> None:
        desk.file(Filing.NOT_FILED)
        assert desk.status() == BureauStatus(False, Filing.NOT_FILED, False, desk.status().raw)
        desk.report()
        assert desk.status().reported
        assert desk.status().raw["reported_at"] == "2026-03-10T09:30:00+08:00"
        desk.file(Filing.FILED)
        assert desk.status().raw["filed_at"] == "2026-03-10T08:00:00"
        desk.clear_data()
        assert not desk.status().cleared, "handing out is not clearing"
        desk.confirm()
        assert desk.status().cleared

    @pytest.mark.parametrize("filing", [f for f in Filing if f is not Filing.UNKNOWN])
    def test_every_filing_is_told_as_it_is(self, desk: Desk, filing: Filing) -> None:
        desk.file(filing)
        assert desk.status().filing is filing

    def test_a_period_cleared_before_the_world_began_counts_as_done(self, desk: Desk) -> None:
        status = desk.status(period=JANUARY)
        assert (status.reported, status.filing, status.cleared) == (True, Filing.FILED, True)

    def test_asking_changes_nothing(self, desk: Desk) -> None:
        before = desk.state.dump()
        desk.status()
        assert desk.state.dump() == before


@pytest.mark.parametrize("filings", [{"2026-2": "filed"}, {"2026-02": "perhaps"}])
def test_a_world_with_filings_that_mean_nothing_is_refused_at_once(
    filings: dict[str, str],
) -> None:
    world = make_world()
    world.taxpayers[0].filings = filings
    with pytest.raises(ValueError, match=r"2026-2|perhaps"):
        Rules(world, State())
