"""The IC card driver in trouble: the PIN's window, a broken link, a refusal in doubt."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from devices.drivers.ic_card import UNIT, IcCardDisk
from devices.protocol.failures import Code, Failure
from tests.devices.cards import (
    FIRST_PIN,
    IN_WINDOW,
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


# --- the PIN -----------------------------------------------------------------------------------


def test_a_wrong_pin_stops_at_once_and_closes_the_intent() -> None:
    on = bench(world_disk(pin="OTHER000"))
    failure = failure_of(lambda: report(on))
    assert (failure.code, failure.raw_code, failure.tries_left) == (Code.PASSWORD_WRONG, "63C2", 2)
    assert not failure.outcome_unknown
    assert on.pins.calls == ["begin", "refused"]
    assert on.channel.sent.count("VERIFY_FISCAL_PIN") == 1
    assert on.channel.sent[-1] == "VERIFY_FISCAL_PIN"


@pytest.mark.parametrize(("tries", "raw_code"), [(0, "6983"), (1, "63C0")])
def test_a_locked_pin_is_told_as_locked(tries: int, raw_code: str) -> None:
    on = bench(world_disk(tries=tries, pin="OTHER000"))
    failure = failure_of(lambda: on.disk.clear(UNIT, clear_data()))
    assert (failure.code, failure.raw_code) == (Code.PASSWORD_LOCKED, raw_code)
    assert failure.tries_left == 0
    assert on.pins.calls == ["begin", "refused"]


def test_without_a_grant_nothing_rolls() -> None:
    on = bench()

    def denied() -> None:
        raise Failure(Code.PIN_HELD)

    on.pins.on_begin = denied
    assert failure_of(lambda: report(on)).code is Code.PIN_HELD
    assert "VERIFY_FISCAL_PIN" not in on.channel.sent
    assert on.card.state.pin == FIRST_PIN.encode()


def test_no_command_follows_a_roll_that_could_not_be_kept() -> None:
    on = bench()

    def disk_full() -> None:
        raise Failure(Code.MACHINE_FAULT)

    on.pins.on_rolled = disk_full
    assert failure_of(lambda: report(on)).code is Code.MACHINE_FAULT
    assert on.channel.sent[-1] == "VERIFY_FISCAL_PIN"
    assert on.pins.intent_open


def test_without_a_store_or_with_a_pin_of_another_length_nothing_is_sent() -> None:
    on = bench()
    alone = IcCardDisk(on.channel, pins=None, host_now=lambda: IN_WINDOW)
    assert failure_of(lambda: alone.report(UNIT, PERIOD)).code is Code.PASSWORD_MISSING
    on.pins.pin = type(on.pins.pin)(b"SHORT", 0)
    assert failure_of(lambda: report(on)).code is Code.PASSWORD_MISSING
    assert on.pins.calls == []
    assert "VERIFY_FISCAL_PIN" not in on.channel.sent


@pytest.mark.parametrize(
    "answer",
    ["", "90", "9000", "41424344454647 9000", "414243444546474849 9000", "6F00", "6700", "41 63C2",
     "6D00", "9303", "DEADBEEF"],
)  # fmt: skip
def test_an_unclear_answer_to_the_roll_leaves_the_intent_open(answer: str) -> None:
    on = bench()
    on.channel.after = lambda name, real: (
        bytes.fromhex(answer) if name == "VERIFY_FISCAL_PIN" else real
    )
    failure = failure_of(lambda: report(on))
    assert failure.outcome_unknown
    assert on.pins.calls == ["begin"]
    assert on.channel.sent[-1] == "VERIFY_FISCAL_PIN"
    assert on.card.state.generation == 1


def test_a_new_pin_lost_while_it_is_fetched_leaves_the_intent_open() -> None:
    for lost in ("63C2", "6983", "6A82", "6108"):
        on = bench(announces=True)

        def after(name: str, real: bytes, on: Bench = on, lost: str = lost) -> bytes:
            rolled = on.card.state.generation and name == "GET_RESPONSE"
            return bytes.fromhex(lost) if rolled else real

        on.channel.after = after
        failure = failure_of(lambda on=on: report(on))  # type: ignore[misc]
        assert failure.outcome_unknown, lost
        assert on.pins.calls == ["begin"], lost
        assert on.channel.sent.count("VERIFY_FISCAL_PIN") == 1


# --- the link ----------------------------------------------------------------------------------


def run_month(on: Bench) -> None:
    on.disk.identify()
    on.disk.read_control()
    on.disk.export()
    on.disk.report(UNIT, PERIOD)
    on.disk.clear_request(UNIT)
    on.disk.clear(UNIT, clear_data())


def commands_of_a_month(announces: bool) -> list[str]:
    on = bench(announces=announces)
    run_month(on)
    return on.channel.sent


@pytest.mark.parametrize("announces", [False, True])
@pytest.mark.parametrize("code", [Code.NO_ANSWER, Code.DISK_ABSENT])
def test_a_broken_link_at_any_command_says_whether_the_outcome_is_open(
    code: Code, announces: bool
) -> None:
    names = commands_of_a_month(announces)
    for place, name in enumerate(names):
        on = bench(announces=announces)
        changing = name in CHANGING

        def after(
            now: str, answer: bytes, on: Bench = on, at: int = place, changing: bool = changing
        ) -> bytes:
            if len(on.channel.sent) == at + 1:
                raise Failure(code, outcome_unknown=changing)
            return answer

        on.channel.after = after
        failure = failure_of(lambda on=on: run_month(on))  # type: ignore[misc]
        fetching_a_change = name == "GET_RESPONSE" and names[place - 1] in CHANGING
        assert failure.code is code
        assert failure.outcome_unknown is (changing or fetching_a_change), (place, name)
        assert len(on.channel.sent) == place + 1, "nothing is sent after a broken link"


def test_a_command_that_never_went_out_leaves_nothing_open() -> None:
    on = bench()

    def before(name: str) -> None:
        if name == "DECLARE_DUTY":
            raise Failure(Code.DISK_ABSENT)

    on.channel.before = before
    assert not failure_of(lambda: report(on)).outcome_unknown
    assert on.pins.calls == ["begin", "rolled"]


@pytest.mark.parametrize(
    ("answer", "unknown"),
    [("9303", False), ("6A82", False), ("6982", False), ("6400", False), ("6581", True),
     ("6F00", True), ("9999", True), ("6200", True), ("6C8E", False), ("00", True), ("9000", True)],
)  # fmt: skip
def test_a_refused_declaration_is_open_only_where_the_word_leaves_doubt(
    answer: str, unknown: bool
) -> None:
    on = bench()
    on.channel.after = lambda name, real: bytes.fromhex(answer) if name == "DECLARE_DUTY" else real
    failure = failure_of(lambda: report(on))
    assert failure.outcome_unknown is unknown
    assert on.channel.sent.count("DECLARE_DUTY") == 1


def test_totals_that_are_not_what_was_declared_are_not_passed_on() -> None:
    on = bench()

    def invoice_in_between(name: str) -> None:
        if name == "DECLARE_DUTY":
            on.card.state.daily.pop(1)

    on.channel.before = invoice_in_between
    failure = failure_of(lambda: report(on))
    assert (failure.code, failure.outcome_unknown) == (Code.DEVICE_GARBLED, True)


def test_the_pin_is_in_no_failure() -> None:
    on = bench(world_disk(pin="OTHER000"))
    failure = failure_of(lambda: report(on))
    assert FIRST_PIN not in f"{failure} {failure!r} {failure.args}"
