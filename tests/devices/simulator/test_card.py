"""The simulated card, APDU by APDU: what it answers, what it refuses, what it notes."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol import iccard
from devices.protocol.apdu import SW, Command, Response
from devices.protocol.iccard import (
    DailyCollect,
    DeclareAnswer,
    DeclareDuty,
    UpdateControls,
)
from devices.protocol.iccard_layouts import Totals
from devices.simulator import crypto
from devices.simulator.card import SimulatedCard
from devices.simulator.card_state import CardState
from tests.devices.cards import (
    DEVICE_NO,
    FIRST_PIN,
    KEY,
    NEXT_DEADLINE,
    OTHER_NO,
    card_of,
    clear_data,
    ready,
    roll,
    select,
    send,
    world_disk,
)

D = dt.date
PIN = FIRST_PIN.encode()
DUTY = DeclareDuty(D(2026, 2, 1), D(2026, 2, 28), 5, 1, 1, Totals())


def update(
    deadline: dt.date = NEXT_DEADLINE, device_no: str = DEVICE_NO, key: bytes = KEY
) -> Command:
    data = clear_data(deadline, device_no, key).fields["fpjkmw"]
    return UpdateControls.decode(bytes.fromhex(data)).command()


# --- the rolling PIN ---------------------------------------------------------------------------


def test_each_verification_makes_the_pin_invalid_and_hands_out_the_next() -> None:
    card = select(card_of())
    second = roll(card)
    assert second != PIN
    assert send(card, iccard.verify_fiscal_pin(PIN)).sw == 0x63C2
    third = send(card, iccard.verify_fiscal_pin(second)).data
    assert third not in (PIN, second)
    assert card.state.generation == 2
    assert card.state.tries == 3


def test_wrong_pins_are_counted_until_the_card_locks_for_good() -> None:
    card = select(card_of())
    words = [send(card, iccard.verify_fiscal_pin(b"WRONG000")).sw for _ in range(4)]
    assert words == [0x63C2, 0x63C1, 0x63C0, SW.PIN_LOCKED]
    assert send(card, iccard.verify_fiscal_pin(PIN)).sw == SW.PIN_LOCKED
    assert send(card, DUTY.command()).sw == SW.CARD_LOCKED
    assert send(card, iccard.get_register_number()).sw == SW.CARD_LOCKED
    assert card.state.tries == 0
    assert card.state.pin == PIN


def test_a_right_pin_gives_all_tries_back() -> None:
    card = select(card_of(world_disk(tries=1)))
    roll(card)
    assert card.state.tries == 3


@pytest.mark.parametrize(
    "command", [DUTY.command(), update(), DailyCollect(D(2026, 2, 1), 1, 0, 0, Totals()).command()]
)
def test_the_pin_holds_for_one_session_only(command: Command) -> None:
    card = select(card_of())
    assert send(card, command).sw == SW.PIN_REQUIRED
    roll(card)
    select(card)
    assert send(card, command).sw == SW.PIN_REQUIRED
    roll(card)
    card.reset()
    assert send(card, command).sw == SW.NOT_IN_THIS_STATE
    assert card.state.counts == {"VERIFY_FISCAL_PIN": 2}


def test_a_wrong_pin_takes_the_verification_back() -> None:
    card = ready()
    send(card, iccard.verify_fiscal_pin(b"WRONG000"))
    assert send(card, DUTY.command()).sw == SW.PIN_REQUIRED


def test_no_pin_is_ever_noted() -> None:
    card = select(card_of())
    pins = {PIN, b"WRONG000"}
    notes = [card.transmit(iccard.verify_fiscal_pin(b"WRONG000").encode()).write]
    for _ in range(3):
        answer = card.transmit(iccard.verify_fiscal_pin(card.state.pin).encode())
        pins.add(answer.response[:-2])
        notes.append(answer.write)
    text = json.dumps(notes)
    assert [note and note["n"] for note in notes] == [1, 2, 3, 4]
    assert not [pin for pin in pins if pin.decode() in text or pin.hex() in text.lower()]
    assert PIN.decode() not in repr(card.state)


# --- DECLARE_DUTY ------------------------------------------------------------------------------


def test_a_declaration_is_signed_with_the_cards_own_totals_and_kept() -> None:
    card = ready()
    answer = card.transmit(DUTY.command().encode())
    signed = DeclareAnswer.decode(Response.decode(answer.response).data)
    assert (signed.total_valid, signed.total_return, signed.status) == (1500_50, 20_00, 0)
    assert crypto.verify_declaration(KEY, DEVICE_NO, DUTY.encode(), signed.encode()) == DUTY
    assert card.state.declarations[-1].end == D(2026, 2, 28)
    assert card.state.declarations[-1].mac1 == signed.mac1
    assert answer.write is not None
    assert (answer.write["command"], answer.write["period"]) == ("DECLARE_DUTY", "2026-02")


def test_an_uncleared_declaration_is_replaced_by_one_from_the_same_start() -> None:
    card = ready()
    assert send(card, replace(DUTY, end=D(2026, 2, 27)).command()).ok
    assert send(card, DUTY.command()).ok
    assert [found.end for found in card.state.declarations] == [D(2026, 1, 31), D(2026, 2, 28)]
    assert card.state.counts["DECLARE_DUTY"] == 2


@pytest.mark.parametrize(
    "duty",
    [
        replace(DUTY, start=D(2026, 1, 31)),
        replace(DUTY, start=D(2026, 2, 2)),
        replace(DUTY, end=D(2026, 3, 17)),
    ],
    ids=["overlap", "gap", "past the deadline"],
)
def test_a_declaration_neither_overlaps_nor_skips_nor_passes_the_deadline(
    duty: DeclareDuty,
) -> None:
    card = ready()
    before = card.state
    assert send(card, duty.command()).sw == SW.NOT_IN_THIS_STATE
    assert card.state is before


@pytest.mark.parametrize(
    ("data", "sw"),
    [
        (DUTY.encode()[:-1], SW.WRONG_LENGTH),
        (DUTY.encode()[:-1] + bytes([DUTY.encode()[-1] ^ 1]), SW.WRONG_DATA),
    ],
    ids=["length", "xor"],
)
def test_a_declaration_that_is_not_whole_is_refused(data: bytes, sw: int) -> None:
    card = ready()
    assert send(card, Command(0xC0, 0xF4, data=data, le=0x8E)).sw == sw
    assert "DECLARE_DUTY" not in card.state.counts


# --- UPDATE_CONTROLS ---------------------------------------------------------------------------


def declared() -> SimulatedCard:
    card = ready()
    assert send(card, DUTY.command()).ok
    return card


def test_a_clear_moves_the_deadline_and_clears_the_declaration() -> None:
    card = declared()
    answer = card.transmit(update().encode())
    assert answer.response == b"\x90\x00"
    assert card.state.controls.issue_deadline == D(2026, 4, 15)
    assert card.state.cleared_through == D(2026, 2, 28)
    assert answer.write is not None
    assert (answer.write["period"], answer.write["deadline"]) == ("2026-02", "2026-04-15")


@pytest.mark.parametrize(
    ("command", "sw"),
    [
        (update(device_no=OTHER_NO), SW.MAC_WRONG),
        (update(key=bytes(16)), SW.MAC_WRONG),
        (Command(0xC0, 0xF6, data=bytes(0x1D)), SW.MAC_WRONG),
        (Command(0xC0, 0xF6, data=bytes(0x1C)), SW.WRONG_LENGTH),
        (update(D(2026, 3, 15)), SW.NOT_IN_THIS_STATE),
    ],
    ids=["other card", "other key", "zeros", "length", "older"],
)
def test_control_data_that_do_not_fit_change_nothing(command: Command, sw: int) -> None:
    card = declared()
    before = card.state
    assert send(card, command).sw == sw
    assert card.state is before


def test_the_same_clear_data_are_not_taken_twice() -> None:
    card = declared()
    assert send(card, update()).ok
    assert send(card, update()).sw == SW.NOT_IN_THIS_STATE
    assert card.state.counts["UPDATE_CONTROLS"] == 1


def test_an_old_clear_cannot_be_played_again_in_a_later_month() -> None:
    card = declared()
    assert send(card, update()).ok
    march = replace(DUTY, start=D(2026, 3, 1), end=D(2026, 3, 31))
    assert send(card, march.command()).ok
    assert send(card, update()).sw == SW.NOT_IN_THIS_STATE
    assert send(card, update(D(2026, 5, 20))).ok
    assert send(card, update()).sw == SW.NOT_IN_THIS_STATE
    assert card.state.controls.issue_deadline == D(2026, 5, 20)


def test_nothing_is_cleared_that_was_not_declared() -> None:
    card = ready()
    assert send(card, update()).sw == SW.NOT_IN_THIS_STATE
    assert card.state.controls.issue_deadline == D(2026, 3, 16)


def test_a_deadline_moved_within_the_month_clears_nothing() -> None:
    card = declared()
    answer = card.transmit(update(D(2026, 3, 20)).encode())
    assert answer.response == b"\x90\x00"
    assert card.state.controls.issue_deadline == D(2026, 3, 20)
    assert card.state.cleared_through == D(2026, 1, 31)
    assert answer.write is not None
    assert answer.write["period"] == ""


heads = st.tuples(st.sampled_from([0x00, 0xC0]), st.sampled_from(list(iccard.Ins))).map(bytes)


@given(st.lists(st.binary(max_size=20) | st.tuples(heads, st.binary(max_size=90)).map(b"".join)))
def test_no_bytes_make_the_card_crash_or_write_what_was_not_allowed(apdus: list[bytes]) -> None:
    card = ready()
    for apdu in apdus:
        Response.decode(card.transmit(apdu).response)
    assert card.state.controls.issue_deadline == D(2026, 3, 16)
    assert CardState.from_json(json.loads(json.dumps(card.state.to_json()))) == card.state


@pytest.mark.parametrize(
    "changes", [{"pin": "short"}, {"tries": 16}, {"tries": -1}, {"issue_deadline": "2026-02-30"}]
)
def test_a_world_that_cannot_be_makes_no_card(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"PIN|tries|day|date"):
        CardState.of_world(world_disk(**changes))
