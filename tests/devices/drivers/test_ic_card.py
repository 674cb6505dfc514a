"""The IC card driver over a simulated card: what it reads, and a month."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable

import pytest

from devices.drivers.contract import CardChannel, PinStore, TaxDisk, Unit
from devices.drivers.ic_card import UNIT, IcCardDisk
from devices.protocol.control import (
    BEIJING,
    DeviceState,
    device_state,
    is_cleared_all,
    is_reported_all,
    open_period,
)
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from devices.simulator import crypto
from tests.devices.cards import (
    DEVICE_NO,
    FIRST_PIN,
    IN_WINDOW,
    KEY,
    OTHER_NO,
    PERIOD,
    Bench,
    bench,
    clear_data,
    world_disk,
)

CHANGING = ["VERIFY_FISCAL_PIN", "DECLARE_DUTY", "UPDATE_CONTROLS"]


def failure_of(action: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        action()
    return caught.value


def report(on: Bench) -> object:
    return on.disk.report(UNIT, PERIOD)


def test_it_is_a_tax_disk_over_a_card_channel() -> None:
    on = bench()
    channel: CardChannel = on.channel
    pins: PinStore = on.pins
    disk: TaxDisk = IcCardDisk(channel, pins=pins, host_now=lambda: IN_WINDOW)
    assert disk.capabilities.rolls_pin
    disk.close()
    assert on.channel.closed


# --- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("announces", [False, True])
def test_the_identity_is_read_without_a_pin(announces: bool) -> None:
    on = bench(world_disk(terminal_no=2), announces=announces)
    identity = on.disk.identify()
    assert identity.device_no == DEVICE_NO
    assert identity.tax_id == "91440101MA5CA1B2X7"
    assert identity.taxpayer_name == "广州测试商贸有限公司"
    assert (identity.kind, identity.terminal_no) == ("ic_card", 2)
    assert not identity.training
    assert not identity.retired
    assert on.card.state.written == 0


def test_a_training_card_and_a_deregistered_one_say_so_and_are_left_alone() -> None:
    on = bench(world_disk(training=True))
    assert on.disk.identify().training
    for action in (lambda: report(on), lambda: on.disk.clear(UNIT, clear_data())):
        assert failure_of(action).code is Code.TRAINING_DISK
    assert on.card.state.written == 0
    assert on.pins.calls == []


def test_another_kind_of_card_is_foreign() -> None:
    on = bench()
    on.channel.after = lambda name, answer: b"\x6a\x82" if name.startswith("SELECT") else answer
    failure = failure_of(on.disk.identify)
    assert (failure.code, failure.raw_code) == (Code.FOREIGN_CARD, "6A82")


def test_control_data_say_what_is_open_and_whose_clock_it_is() -> None:
    on = bench()
    control = on.disk.read_control()["025"]
    assert control.issue_deadline == dt.date(2026, 3, 16)
    assert (control.period_start, control.period_end) == (
        dt.date(2026, 2, 1),
        dt.date(2026, 2, 28),
    )
    assert control.last_reported_on == dt.date(2026, 2, 1)
    assert (control.device_clock, control.clock_source) == (IN_WINDOW, "host")
    assert control.limits == {"single": 10_000_000, "total": 1_000_000_000, "return": 100_000_000}
    assert on.card.state.written == 0


def test_one_unit_for_the_cards_own_type_and_none_for_others() -> None:
    disk = bench().disk
    assert disk.units(["025"]) == [UNIT]
    assert disk.units([]) == []
    assert failure_of(lambda: disk.units(["025", "004"])).code is Code.NOT_SUPPORTED
    assert failure_of(lambda: disk.report(Unit(("004",)), PERIOD)).code is Code.NOT_SUPPORTED
    assert disk.pending_uploads() == 0


def test_the_export_holds_every_record_is_canonical_and_holds_no_pin() -> None:
    on = bench()
    report(on)
    first, second = on.disk.export(), on.disk.export()
    assert first == second
    content = json.loads(first)
    assert content["device_no"] == DEVICE_NO
    assert {name: len(found) for name, found in content["files"].items()} == {
        "EF01": 46,
        "EF02": 206,
        "EF03": 4,
        "EF04": 2,
        "EF05": 1,
    }
    for pin in (FIRST_PIN.encode(), on.pins.pin.value):
        assert pin not in first
        assert pin.hex().encode() not in first.lower()


# --- a month -----------------------------------------------------------------------------------


@pytest.mark.parametrize("announces", [False, True])
def test_a_month_is_reported_cleared_and_read_back(announces: bool) -> None:
    on = bench(announces=announces)
    assert device_state(on.disk.read_control(), clock=IN_WINDOW) is DeviceState.TO_REPORT

    package = on.disk.report(UNIT, PERIOD)
    reported = on.disk.read_control()
    assert is_reported_all(reported, PERIOD)
    assert not is_cleared_all(reported, PERIOD)
    assert open_period(reported) == PERIOD
    assert device_state(reported, clock=IN_WINDOW) is DeviceState.TO_CLEAR

    assert package.fields["sq"] == "2026020100000020260228235959"
    declared, answer = (bytes.fromhex(package.fields[name]) for name in ("fphz", "qtxx"))
    crypto.verify_declaration(KEY, DEVICE_NO, declared, answer)
    assert package.statistics == {
        "valid_count": 5,
        "return_count": 1,
        "void_count": 1,
        "valid_fen": 1500_50,
        "return_fen": 20_00,
        "valid_fen_1": 1500_50,
        "return_fen_1": 20_00,
    }

    request = on.disk.clear_request(UNIT)
    assert request.fields["qtxx"] == "20260228235959"
    assert request.fields["skph"] == DEVICE_NO

    on.disk.clear(UNIT, clear_data())
    cleared = on.disk.read_control()
    assert is_cleared_all(cleared, PERIOD)
    assert open_period(cleared) == PERIOD.plus(1)
    assert device_state(cleared, clock=IN_WINDOW) is DeviceState.CLEARED
    assert on.pins.calls == ["begin", "rolled"] * 2
    assert on.card.state.pin == on.pins.pin.value


def test_an_uncleared_period_is_declared_again_and_gives_the_same_package() -> None:
    on = bench()
    assert report(on) == report(on)
    assert on.card.state.counts["DECLARE_DUTY"] == 2
    assert len(on.card.state.declarations) == 2


def test_a_month_without_invoices_is_reported_too() -> None:
    on = bench(world_disk(invoices=[]))
    package = on.disk.report(UNIT, PERIOD)
    assert package.statistics["valid_count"] == 0
    assert is_reported_all(on.disk.read_control(), PERIOD)


def test_a_disk_behind_is_brought_up_month_by_month() -> None:
    now = dt.datetime(2026, 4, 2, 9, tzinfo=BEIJING)
    on = bench(now=now)
    assert failure_of(lambda: on.disk.report(UNIT, Month(2026, 3))).code is Code.OLDEST_FIRST
    report(on)
    on.disk.clear(UNIT, clear_data())
    on.disk.report(UNIT, Month(2026, 3))
    on.disk.clear(UNIT, clear_data(dt.date(2026, 5, 20)))
    assert is_cleared_all(on.disk.read_control(), Month(2026, 3))
    assert failure_of(lambda: report(on)).code is Code.ALREADY_CLEARED


@pytest.mark.parametrize(
    ("now", "code"),
    [
        (dt.datetime(2026, 2, 28, 23, 59, tzinfo=BEIJING), Code.OUTSIDE_WINDOW),
        (dt.datetime(2026, 2, 28, 15, 59, tzinfo=dt.UTC), Code.OUTSIDE_WINDOW),
        (dt.datetime(2026, 2, 28, 16, 30, tzinfo=dt.UTC), None),
        (dt.datetime(2026, 3, 1, 7, 59, tzinfo=BEIJING), None),
    ],
    ids=["last minute", "last minute in UTC", "00:30 in Beijing", "07:59 in Beijing"],
)
def test_a_month_is_not_declared_before_it_is_over_in_beijing(
    now: dt.datetime, code: Code | None
) -> None:
    on = bench(now=now)
    if code is None:
        report(on)
        assert on.card.state.counts["DECLARE_DUTY"] == 1
    else:
        assert failure_of(lambda: report(on)).code is code
        assert on.card.state.written == 0


def test_a_declaration_ends_at_the_issue_deadline_at_the_latest() -> None:
    on = bench(world_disk(issue_deadline="2026-02-20"))
    package = on.disk.report(UNIT, PERIOD)
    assert package.fields["sq"][14:22] == "20260220"
    assert not is_reported_all(on.disk.read_control(), PERIOD)
    locked = bench(world_disk(issue_deadline="2026-01-20"))
    assert failure_of(lambda: report(locked)).code is Code.PAST_DEADLINE
    assert locked.card.state.written == 0


def test_a_sum_beyond_the_cards_fields_is_refused_before_a_pin_is_sent() -> None:
    big = [{"date": f"2026-02-{n:02d}", "valid": 1, "valid_fen": 0xF0000000} for n in (1, 2)]
    on = bench(world_disk(invoices=big))
    assert failure_of(lambda: report(on)).code is Code.DEVICE_REFUSED
    assert on.card.state.written == 0


# --- the clear is refused ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "raw_code"),
    [
        (clear_data(device_no=OTHER_NO), "6988"),
        (clear_data(key=bytes(16)), "6988"),
        (clear_data(dt.date(2026, 3, 15)), "6985"),
    ],
    ids=["another card", "MAC wrong", "older"],
)
def test_clear_data_that_do_not_fit_are_named_with_the_cards_own_code(
    data: object, raw_code: str
) -> None:
    on = bench()
    report(on)
    failure = failure_of(lambda: on.disk.clear(UNIT, data))  # type: ignore[arg-type]
    assert (failure.code, failure.raw_code) == (Code.CLEAR_DATA_MISMATCH, raw_code)
    assert not failure.outcome_unknown
    assert "UPDATE_CONTROLS" not in on.card.state.counts
    assert on.card.state.pin == on.pins.pin.value


def test_replayed_clear_data_are_refused_and_change_nothing() -> None:
    on = bench()
    report(on)
    on.disk.clear(UNIT, clear_data())
    failure = failure_of(lambda: on.disk.clear(UNIT, clear_data()))
    assert (failure.code, failure.raw_code) == (Code.CLEAR_DATA_MISMATCH, "6985")
    assert on.card.state.counts["UPDATE_CONTROLS"] == 1


@pytest.mark.parametrize("text", ["", "zz", "00" * 28, "00" * 30])
def test_clear_data_that_are_none_never_reach_the_card(text: str) -> None:
    on = bench()
    data = type(clear_data())(UNIT, {"fpjkmw": text})
    assert failure_of(lambda: on.disk.clear(UNIT, data)).code is Code.BUREAU_GARBLED
    assert on.channel.sent == []
