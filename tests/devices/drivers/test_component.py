"""The component driver: who gets a password, what is asked in which order, what codes mean."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from devices.drivers.component import ComponentDisk
from devices.drivers.component_units import COMPONENT_KINDS, units_of
from devices.drivers.contract import Unit
from devices.drivers.dates import Kind
from devices.protocol.business_xml import Answer, Request
from devices.protocol.catalogue import from_device_code
from devices.protocol.catalogue.vendor_codes import _SIGNS
from devices.protocol.control import BEIJING, is_cleared_all, is_reported_all, open_period
from devices.protocol.envelope import is_return_code
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from devices.simulator import component_clear
from tests.devices.cards import KEY, PERIOD
from tests.devices.components import (
    KINDS,
    NUMBERS,
    PASSWORD,
    TAX_ID,
    TYPES,
    ComponentBench,
    Loop,
    component_bench,
)

D = dt.date
SENT_WITH_PASSWORD = PASSWORD.encode()


def failure_of(action: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        action()
    return caught.value


class TestUnits:
    @pytest.mark.parametrize(
        ("kind", "types", "keys"),
        [
            (Kind.BAIWANG, ("007", "004", "026"), ["004", "007", "026"]),
            (Kind.UKEY, ("007", "004", "026"), ["004+007+026"]),
            (Kind.AISINO, ("007", "004"), ["004+007"]),
            (Kind.AISINO, ("025", "026", "005", "009", "004"), ["004", "009", "005+026", "025"]),
            (Kind.AISINO, ("028", "006", "099", "007"), ["007", "028", "006", "099"]),
            (Kind.AISINO, ("004", "004"), ["004"]),
            (Kind.BAIWANG, (), []),
            (Kind.AISINO, (), []),
            (Kind.UKEY, (), []),
        ],
    )
    def test_each_kind_treats_together_what_it_does(
        self, kind: Kind, types: tuple[str, ...], keys: list[str]
    ) -> None:
        assert [unit.key for unit in units_of(kind, types)] == keys

    def test_a_card_is_no_component(self) -> None:
        assert Kind.IC_CARD not in COMPONENT_KINDS
        assert failure_of(lambda: units_of(Kind.IC_CARD, ("025",))).code is Code.NOT_SUPPORTED
        with pytest.raises(Failure):
            ComponentDisk(
                component_bench(Kind.UKEY).loop,
                kind=Kind.IC_CARD,
                device_no="1",
                password=lambda: "",
            )


@pytest.mark.parametrize("kind", KINDS)
class TestDates:
    @pytest.mark.parametrize(
        ("cleared", "deadline", "first", "last"),
        [
            ("2026-01-31", "2026-03-16", D(2026, 2, 1), D(2026, 2, 28)),
            ("2026-02-28", "2026-04-20", D(2026, 3, 1), D(2026, 3, 31)),
            ("2024-01-31", "2024-02-29", D(2024, 2, 1), D(2024, 2, 29)),
            ("2025-11-30", "2025-12-31", D(2025, 12, 1), D(2025, 12, 31)),
            ("2025-12-31", "2026-01-01", D(2026, 1, 1), D(2026, 1, 31)),
        ],
    )
    @pytest.mark.parametrize("quirks", [[], ["short_dates"], ["long_dates"]])
    def test_what_a_kind_writes_is_read_as_it_is_meant(
        self, kind: Kind, cleared: str, deadline: str, first: D, last: D, quirks: list[str]
    ) -> None:
        on = component_bench(
            kind, cleared_through=cleared, reported_through=cleared, issue_deadline=deadline,
            quirks=quirks,
        )  # fmt: skip
        for control in on.disk.read_control().values():
            assert control.issue_deadline == D.fromisoformat(deadline)
            assert (control.period_start, control.period_end) == (first, last)
            assert control.last_reported_on == first

    @pytest.mark.parametrize("name", ["kpjzsj", "bsqsrq", "bszzrq", "zxbsrq", "dqsz"])
    @pytest.mark.parametrize("text", ["99991231", "99990101235959", "99981231", "00010101"])
    def test_a_date_at_the_end_of_time_never_crashes(
        self, kind: Kind, name: str, text: str
    ) -> None:
        on = component_bench(kind)

        def after(operation: str, reply: bytes) -> bytes:
            element = f"<{name}>".encode()
            before, found, rest = reply.partition(element)
            return before + found + text.encode() + rest[rest.find(b"<") :] if found else reply

        on.loop.after = after
        for action in (on.disk.read_control, lambda: on.disk.report(on.units()[0], PERIOD)):
            try:
                result = action()
            except Failure:
                continue
            if isinstance(result, dict):
                is_cleared_all(result, PERIOD)
                open_period(result)

    def test_the_kinds_do_write_them_differently(self, kind: Kind) -> None:
        raw = component_bench(kind).disk.read_control()["004"].raw
        assert (raw["kpjzsj"][:8], raw["zxbsrq"][:8], raw["bszzrq"][:8]) == {
            Kind.BAIWANG: ("20260316", "20260131", "20260228"),
            Kind.UKEY: ("20260316", "20260131", "20260228"),
            Kind.AISINO: ("20260317", "20260201", "20260301"),
        }[kind]
        assert len(raw["kpjzsj"]) == (8 if kind is Kind.BAIWANG else 14)

    def test_the_clock_is_the_devices_own(self, kind: Kind) -> None:
        on = component_bench(kind, clock_skew_seconds=90000)
        control = on.disk.read_control()["004"]
        assert control.device_clock == dt.datetime(2026, 3, 6, 10, 30, tzinfo=BEIJING)
        midnight = component_bench(kind, clock_at="2026-02-28T23:59:58")
        clock = midnight.disk.read_control()["004"].device_clock
        assert clock == dt.datetime(2026, 2, 28, 23, 59, 58, tzinfo=BEIJING)

    def test_the_devices_own_clock_says_whether_the_month_is_over(self, kind: Kind) -> None:
        on = component_bench(kind, clock_at="2026-02-28T23:59:58")
        failure = failure_of(lambda: on.disk.report(on.units()[0], PERIOD))
        assert failure.code is Code.OUTSIDE_WINDOW
        assert "SJCB" not in on.loop.sent


@pytest.mark.parametrize("kind", KINDS)
class TestSecrets:
    def test_each_session_begins_without_a_password(self, kind: Kind) -> None:
        actions: list[Callable[[ComponentBench], object]] = [
            lambda on: on.disk.read_control(),
            lambda on: on.disk.pending_uploads(),
            lambda on: on.disk.export(),
            lambda on: on.disk.report(on.units()[0], PERIOD),
            lambda on: on.disk.clear_request(on.units()[0]),
        ]
        for action in actions:
            on = component_bench(kind)
            action(on)
            assert on.loop.sent[:2] == ["SKSBBH", "SKPXXCX"]
            assert on.loop.sent.count("SKSBBH") == 1
            assert SENT_WITH_PASSWORD not in on.loop.documents[0]

    def test_a_disk_swapped_between_two_calls_gets_no_password(self, kind: Kind) -> None:
        on = component_bench(kind)
        on.disk.read_control()
        unit = on.units()[0]
        number = "661999999999"
        on.body.state = replace(on.body.state, device_no=number)
        before = len(on.loop.sent)
        for action in (on.disk.read_control, lambda: on.disk.report(unit, PERIOD)):
            failure = failure_of(action)
            assert (failure.code, failure.detail) == (Code.WRONG_DISK, number)
        assert on.loop.sent[before:] == ["SKSBBH", "SKSBBH"]

    def test_another_number_gets_no_password_whatever_is_asked(self, kind: Kind) -> None:
        on = component_bench(kind, device_no="661999999999")
        assert on.disk.identify().device_no == NUMBERS[kind]
        unit = Unit(("004",))
        for action in (
            on.disk.read_control, on.disk.pending_uploads, on.disk.export,
            lambda: on.disk.report(unit, PERIOD), lambda: on.disk.clear_request(unit),
            lambda: on.disk.clear(unit, on.clear_data(unit)),
        ):  # fmt: skip
            assert failure_of(action).code is Code.WRONG_DISK
        assert set(on.loop.sent) == {"SKSBBH"}

    def test_without_an_expected_number_a_disk_is_only_identified(self, kind: Kind) -> None:
        on = component_bench(kind, device_no="")
        assert on.disk.identify().device_no == NUMBERS[kind]
        assert failure_of(on.disk.read_control).code is Code.PASSWORD_MISSING
        assert on.loop.sent == ["SKSBBH"]

    def test_another_companys_disk_is_told_before_anything_is_changed(self, kind: Kind) -> None:
        on = component_bench(kind, tax_id="91440101MA5CA1B2Y5")
        failure = failure_of(lambda: on.disk.report(on.units()[0], PERIOD))
        assert failure.code is Code.WRONG_DISK
        assert on.loop.sent == ["SKSBBH", "SKPXXCX"]

    def test_a_refused_password_is_not_sent_again(self, kind: Kind) -> None:
        on = component_bench(kind, password="wrong")
        first = failure_of(on.disk.read_control)
        assert (first.code, first.tries_left) == (Code.PASSWORD_WRONG, 2)
        on.password[0] = "also wrong"
        second = failure_of(on.disk.read_control)
        assert (second.code, second.tries_left) == (Code.PASSWORD_WRONG, 2)
        assert on.loop.sent == ["SKSBBH", "SKPXXCX", "SKSBBH"]
        assert on.body.state.tries == 2

    def test_the_counter_runs_down_to_locked_and_back_with_the_right_one(self, kind: Kind) -> None:
        tries = []
        on = component_bench(kind)
        for password in ("a", "b", PASSWORD, "a", "b", "c", PASSWORD):
            on.password[0] = password
            disk = ComponentDisk(
                on.loop, kind=kind, device_no=NUMBERS[kind], password=lambda: on.password[0]
            )
            try:
                disk.read_control()
            except Failure as failure:
                tries.append((failure.code, failure.tries_left))
        wrong, locked = Code.PASSWORD_WRONG, Code.PASSWORD_LOCKED
        assert tries == [
            (wrong, 2), (wrong, 1), (wrong, 2), (wrong, 1), (locked, 0), (locked, 0),
        ]  # fmt: skip

    def test_why_there_is_no_password_is_passed_on(self, kind: Kind) -> None:
        on = component_bench(kind)

        def withheld() -> str:
            raise Failure(Code.PASSWORD_LAST_TRIES, tries_left=1)

        disk = ComponentDisk(on.loop, kind=kind, device_no=NUMBERS[kind], password=withheld)
        assert failure_of(disk.read_control).code is Code.PASSWORD_LAST_TRIES
        assert on.loop.sent == ["SKSBBH"]
        on.password[0] = ""
        assert failure_of(on.disk.read_control).code is Code.PASSWORD_MISSING

    def test_a_component_that_repeats_the_password_gives_nothing_away(self, kind: Kind) -> None:
        on = component_bench(kind)
        echo = f"口令 {PASSWORD} 有误"
        on.refuse("JKSJCX", "9999", echo, sksbkl=PASSWORD, note=echo)
        failure = failure_of(on.disk.read_control)
        assert PASSWORD not in repr(failure) + repr(vars(failure))
        assert "***" in failure.raw_text
        on.refuse("JKSJCX", "00", echo, fplxdm="004", sksbkl=PASSWORD, dzkpxe=PASSWORD)
        assert PASSWORD not in repr(vars(failure_of(on.disk.read_control)))
        on.loop.before = lambda request: None
        on.loop.after = lambda name, reply: reply.replace(
            b"</output>", f"<x>{PASSWORD}</x></output>".encode()
        )
        controls = on.disk.read_control()
        backup = on.disk.export()
        assert PASSWORD not in repr(controls)
        assert PASSWORD.encode() not in backup

    def test_a_password_that_cannot_stand_in_xml_is_not_in_the_error(self, kind: Kind) -> None:
        on = component_bench(kind, password="GEHEIM\x01")
        failure = failure_of(on.disk.read_control)
        assert failure.code is Code.MACHINE_FAULT
        assert "GEHEIM" not in repr(vars(failure))


@pytest.mark.parametrize("kind", KINDS)
class TestMonth:
    def test_a_report_asks_lock_date_and_statistics_before_it_changes_the_disk(
        self, kind: Kind
    ) -> None:
        on = component_bench(kind)
        unit = on.units()[0]
        package = on.disk.report(unit, PERIOD)
        assert on.loop.sent[-1] == "SJCB"
        assert on.loop.sent.count("SJCB") == 1
        assert "SKSBQTYXXCX" in on.loop.sent
        assert package.fields["qtxx"] == "20260316235959"
        assert package.fields["szfphz"]
        assert package.statistics["valid_fen_004"] == 1500_50
        assert package.statistics["valid_tax_fen"] == 156_06 + 39_00

    def test_data_that_exist_are_handed_out_again(self, kind: Kind) -> None:
        on = component_bench(kind)
        unit = on.units()[0]
        first = on.disk.report(unit, PERIOD)
        assert on.disk.report(unit, PERIOD) == first
        assert on.body.state.counts == {"SJCB": 1}

    def test_data_that_exist_without_a_summary_are_said_so(self, kind: Kind) -> None:
        if kind is Kind.UKEY:
            return
        on = component_bench(kind, quirks=["keeps_no_summary"])
        unit = on.units()[0]
        on.disk.report(unit, PERIOD)
        failure = failure_of(lambda: on.disk.report(unit, PERIOD))
        assert failure.code is Code.PERIOD_DATA_EXIST
        assert failure.raw_code in ("202", "1086")

    def test_nothing_to_report_is_judged_by_the_dates(self, kind: Kind) -> None:
        on = component_bench(kind, types=[], quirks=["empty_has_no_summary"])
        unit = on.disk.units(("007",))[0]
        package = on.disk.report(unit, PERIOD)
        assert package.fields["fphz"] == ""
        assert is_reported_all(on.disk.read_control(), PERIOD)
        sign = {Kind.AISINO: "195"}.get(kind, "09d11b")
        untouched = component_bench(kind)
        untouched.refuse("SJCB", sign)
        failure = failure_of(lambda: untouched.disk.report(untouched.units()[0], PERIOD))
        assert (failure.code, failure.raw_code) == (Code.NOTHING_TO_REPORT, sign)

    def test_a_package_of_another_period_is_in_doubt(self, kind: Kind) -> None:
        on = component_bench(kind)
        span = "2026010100000020260131235959"
        on.refuse("SJCB", "0", "", sq=span, fphz="0A")
        failure = failure_of(lambda: on.disk.report(on.units()[0], PERIOD))
        assert (failure.code, failure.outcome_unknown) == (Code.DEVICE_GARBLED, True)

    def test_a_training_or_deregistered_disk_is_not_written(self, kind: Kind) -> None:
        for fact, code in (("training", Code.TRAINING_DISK), ("retired", Code.RETIRED_DISK)):
            changes: dict[str, Any] = {fact: True}
            on = component_bench(kind, **changes)
            unit = on.units()[0]
            assert failure_of(lambda on=on, unit=unit: on.disk.report(unit, PERIOD)).code is code  # type: ignore[misc]
            data = on.clear_data(unit)
            assert failure_of(lambda on=on, data=data: on.disk.clear(data.unit, data)).code is code  # type: ignore[misc]
            assert not {"SJCB", "JKHC"} & set(on.loop.sent)

    def test_clear_data_for_others_and_old_ones_are_refused_with_their_sign(
        self, kind: Kind
    ) -> None:
        on = component_bench(kind)
        for unit in on.units():
            on.disk.report(unit, PERIOD)
        unit = on.units()[0]
        foreign = component_clear.make(KEY, "661600000001", unit.types, D(2026, 4, 20), (1, 1, 1))
        other_unit = component_clear.make(KEY, NUMBERS[kind], ("099",), D(2026, 4, 20), (1, 1, 1))
        older = component_clear.make(KEY, NUMBERS[kind], unit.types, D(2026, 2, 24), (1, 1, 1))
        later = component_clear.make(KEY, NUMBERS[kind], unit.types, D(2026, 5, 15), (1, 1, 1))
        for data, raw in ((foreign, "155"), (other_unit, "156"), (older, "157"), (later, "245")):
            given = type(on.clear_data(unit))(unit, {"fpjkmw": data})
            failure = failure_of(lambda given=given: on.disk.clear(unit, given))  # type: ignore[misc]
            assert failure.raw_code == raw
        assert "JKHC" not in on.body.state.counts

    def test_a_deadline_moved_within_its_month_is_taken_and_clears_nothing(
        self, kind: Kind
    ) -> None:
        on = component_bench(kind)
        for unit in on.units():
            on.disk.report(unit, PERIOD)
            on.disk.clear(unit, on.clear_data(unit, D(2026, 3, 24)))
        controls = on.disk.read_control()
        assert {control.issue_deadline for control in controls.values()} == {D(2026, 3, 24)}
        assert not is_cleared_all(controls, PERIOD)

    def test_pending_uploads_are_summed_and_exported(self, kind: Kind) -> None:
        on = component_bench(kind)
        types = {
            found: replace(state, pending=n, pending_fen=100 * n)
            for n, (found, state) in enumerate(on.body.state.types.items(), 1)
        }
        on.body.state = replace(on.body.state, types=types)
        count = len(types)
        assert on.disk.pending_uploads() == count * (count + 1) // 2
        backup = json.loads(on.disk.export())
        assert backup["types"]["004"]["HQLXSJ"]["wscfpzs"] == "1"
        assert set(backup["types"]) == set(TYPES[kind])
        assert backup["types"]["004"]["TJXXCX"]["groups"][0]["zsfpfs"] == "5"
        assert not {"SJCB", "JKHC"} & set(on.loop.sent)


class TestOddities:
    def test_an_aisino_disk_wants_all_types_reported_before_one_is_cleared(self) -> None:
        on = component_bench(Kind.AISINO)
        unit = on.units()[0]
        on.disk.report(unit, PERIOD)
        failure = failure_of(lambda: on.disk.clear(unit, on.clear_data(unit)))
        assert (failure.code, failure.raw_code) == (Code.OTHER_TYPE_OPEN, "248")

    def test_a_ukeys_date_follows_its_report(self) -> None:
        moment = [dt.datetime(2026, 3, 5, 9, 30, tzinfo=BEIJING)]
        on = component_bench(Kind.UKEY, now=lambda: moment[0], lag=4.0)
        on.disk.report(on.units()[0], PERIOD)
        assert not is_reported_all(on.disk.read_control(), PERIOD)
        moment[0] += dt.timedelta(seconds=4)
        assert is_reported_all(on.disk.read_control(), PERIOD)

    def test_a_second_clear_is_called_repeated(self) -> None:
        for kind, raw in ((Kind.BAIWANG, "09d118"), (Kind.UKEY, "09d118"), (Kind.AISINO, "158")):
            on = component_bench(kind)
            for unit in on.units():
                on.disk.report(unit, PERIOD)
            unit = on.units()[0]
            on.disk.clear(unit, on.clear_data(unit))
            failure = failure_of(lambda on=on, unit=unit: on.disk.clear(unit, on.clear_data(unit)))  # type: ignore[misc]
            assert failure.raw_code == raw

    def test_the_clear_puts_a_wrong_clock_right(self) -> None:
        on = component_bench(Kind.BAIWANG, clock_skew_seconds=86400.0)
        unit = on.units()[0]
        on.disk.report(unit, PERIOD)
        data = on.clear_data(unit)
        now = dt.datetime(2026, 3, 5, 9, 30, tzinfo=BEIJING)
        szjkmw = component_clear.make_clock(KEY, NUMBERS[Kind.BAIWANG], now)
        on.disk.clear(unit, type(data)(unit, {**data.fields, "szjkmw": szjkmw}))
        assert on.disk.read_control()["004"].device_clock == now

    def test_around_midnight_some_disks_refuse(self) -> None:
        on = component_bench(Kind.BAIWANG, clock_at="2026-03-05T00:01:00", quirks=["date_change"])
        failure = failure_of(lambda: on.disk.report(on.units()[0], PERIOD))
        assert (failure.code, failure.raw_code) == (Code.DEVICE_CLOCK_WRONG, "706")


@pytest.mark.parametrize(
    "sign", [sign for signs in _SIGNS.values() for sign in signs if is_return_code(sign)]
)
def test_every_vendor_sign_comes_out_as_its_code(sign: str) -> None:
    """A sign in place of each answer is the catalogue's failure, its raw code kept."""
    meaning = from_device_code(sign)
    for operation in ("SKSBBH", "SKPXXCX", "JKSJCX", "SKSBQTYXXCX", "TJXXCX", "SJCB"):
        on = component_bench(Kind.BAIWANG)
        on.refuse(operation, sign, "厂商原文")
        failure = failure_of(lambda on=on: on.disk.report(on.units()[0], PERIOD))  # type: ignore[misc]
        if meaning in (Code.PERIOD_DATA_EXIST, Code.NOTHING_TO_REPORT) and operation == "SJCB":
            assert failure.code is meaning
            continue
        assert (failure.code, failure.raw_code) == (meaning, sign)
        assert failure.raw_text == "厂商原文"


def test_one_operation_at_a_time_per_disk() -> None:
    on = component_bench(Kind.BAIWANG)
    inside, most = [0], [0]

    def before(request: Request) -> Answer | None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        threading.Event().wait(0.005)
        inside[0] -= 1
        return None

    on.loop.before = before
    disks = [
        ComponentDisk(
            on.loop, kind=Kind.BAIWANG, device_no=NUMBERS[Kind.BAIWANG], tax_id=TAX_ID,
            password=lambda: PASSWORD,
        )
        for _ in range(4)
    ]  # fmt: skip
    threads = [threading.Thread(target=disk.read_control) for disk in disks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


def test_a_closed_disk_sends_nothing_more() -> None:
    on = component_bench(Kind.UKEY)
    on.disk.close()
    on.disk.close()
    assert on.loop.closed
    assert failure_of(on.disk.identify).code is Code.NO_ANSWER
    assert on.loop.sent == []


def test_a_month_behind_is_told_by_its_oldest_type() -> None:
    on = component_bench(Kind.BAIWANG)
    assert failure_of(lambda: on.disk.report(Unit(("004",)), Month(2026, 4))).detail == "2026-02"
    assert isinstance(on.loop, Loop)
