"""Clear data and signatures: right for one card, worthless anywhere else."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol.iccard import DeclareDuty, UpdateControls
from devices.protocol.iccard_layouts import ControlFile, Totals
from devices.simulator import crypto
from tests.devices.cards import DEVICE_NO, KEY, OTHER_NO

CONTROLS = ControlFile(dt.date(2026, 4, 15), 1, 2, 3, b"\1\2\0\0\0\0")
DUTY = DeclareDuty(dt.date(2026, 2, 1), dt.date(2026, 2, 28), 5, 1, 0, Totals())
DATA = crypto.make_clear_data(KEY, DEVICE_NO, CONTROLS.encode())
ANSWER = crypto.sign_declaration(KEY, DEVICE_NO, DUTY, 100, 10).encode()


def test_clear_data_have_their_length_and_open_on_their_own_card() -> None:
    assert len(DATA) == UpdateControls.LENGTH == 0x1D
    assert crypto.open_clear_data(KEY, DEVICE_NO, DATA) == CONTROLS


def test_the_same_control_data_give_the_same_clear_data_and_another_key_id_others() -> None:
    assert crypto.make_clear_data(KEY, DEVICE_NO, CONTROLS.encode()) == DATA
    other = crypto.make_clear_data(KEY, DEVICE_NO, CONTROLS.encode(), key_id=2)
    assert other[1:] != DATA[1:]
    assert crypto.open_clear_data(KEY, DEVICE_NO, other) == CONTROLS


@pytest.mark.parametrize(("key", "device_no"), [(KEY, OTHER_NO), (bytes(16), DEVICE_NO)])
def test_clear_data_are_nothing_to_another_card_or_another_world(
    key: bytes, device_no: str
) -> None:
    with pytest.raises(crypto.Forged):
        crypto.open_clear_data(key, device_no, DATA)


@given(st.integers(0, 0x1D * 8 - 1))
def test_any_flipped_bit_spoils_clear_data(bit: int) -> None:
    data = bytearray(DATA)
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(crypto.Forged):
        crypto.open_clear_data(KEY, DEVICE_NO, bytes(data))


@given(st.binary(max_size=40))
def test_no_bytes_make_opening_crash(data: bytes) -> None:
    with pytest.raises(crypto.Forged):
        crypto.open_clear_data(KEY, DEVICE_NO, data)


def test_only_whole_control_data_are_enciphered() -> None:
    with pytest.raises(ValueError, match="23 bytes"):
        crypto.make_clear_data(KEY, DEVICE_NO, CONTROLS.encode()[:-1])


def test_the_bureau_takes_a_declaration_of_this_card() -> None:
    assert crypto.verify_declaration(KEY, DEVICE_NO, DUTY.encode(), ANSWER) == DUTY


def test_the_bureau_does_not_take_another_cards_or_an_altered_one() -> None:
    altered = DeclareDuty(DUTY.start, DUTY.end, 4, 1, 0, Totals())
    for device_no, duty, answer in [
        (OTHER_NO, DUTY, ANSWER),
        (DEVICE_NO, altered, ANSWER),
        (DEVICE_NO, DUTY, crypto.sign_declaration(KEY, DEVICE_NO, DUTY, 99, 10).encode()[:-1]),
        (DEVICE_NO, DUTY, crypto.sign_declaration(KEY, OTHER_NO, DUTY, 100, 10).encode()),
    ]:
        with pytest.raises(crypto.Forged):
            crypto.verify_declaration(KEY, device_no, duty.encode(), answer)


@given(st.integers(0, 0x8E * 8 - 1))
def test_any_flipped_bit_spoils_a_signature(bit: int) -> None:
    answer = bytearray(ANSWER)
    answer[bit // 8] ^= 1 << bit % 8
    with pytest.raises(crypto.Forged):
        crypto.verify_declaration(KEY, DEVICE_NO, DUTY.encode(), bytes(answer))


def test_pins_of_all_generations_differ_and_have_eight_characters() -> None:
    pins = {crypto.next_pin(KEY, DEVICE_NO, generation) for generation in range(50)}
    assert len(pins) == 50
    assert {len(pin) for pin in pins} == {8}
    assert all(pin.isalnum() for pin in pins)
    assert crypto.next_pin(KEY, OTHER_NO, 1) not in pins
