"""Whatever a card answers, only failures of the catalogue leave the driver."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.drivers.ic_card import UNIT, IcCardDisk
from devices.protocol.failures import Failure
from tests.devices.cards import IN_WINDOW, PERIOD, KeptPins, bench, clear_data

ACTIONS: dict[str, Callable[[IcCardDisk], object]] = {
    "identify": lambda disk: disk.identify(),
    "read_control": lambda disk: disk.read_control(),
    "export": lambda disk: disk.export(),
    "report": lambda disk: disk.report(UNIT, PERIOD),
    "clear_request": lambda disk: disk.clear_request(UNIT),
    "clear": lambda disk: disk.clear(UNIT, clear_data()),
}


class Garbage:
    """A card that answers what it likes, then falls silent."""

    def __init__(self, answers: list[bytes]) -> None:
        self._answers = iter(answers)

    def transmit(self, apdu: bytes) -> bytes:
        return next(self._answers, b"")

    def close(self) -> None:
        pass


words = st.sampled_from([b"\x90\x00", b"\x61\x08", b"\x6c\x17", b"\x6a\x83", b"\x63\xc1"])
answers = st.binary(max_size=150) | st.tuples(st.binary(max_size=150), words).map(b"".join)


@pytest.mark.parametrize("name", ACTIONS)
@given(script=st.lists(answers, max_size=12))
def test_a_card_of_pure_garbage_gives_only_failures(name: str, script: list[bytes]) -> None:
    pins = KeptPins()
    disk = IcCardDisk(Garbage(script), pins=pins, host_now=lambda: IN_WINDOW)
    with pytest.raises(Failure):
        ACTIONS[name](disk)
    assert "rolled" not in pins.calls


@pytest.mark.parametrize("name", ACTIONS)
@given(place=st.integers(0, 40), answer=answers, data=st.data())
def test_one_garbled_answer_at_any_place_gives_a_result_or_a_failure(
    name: str, place: int, answer: bytes, data: st.DataObject
) -> None:
    on = bench()
    changed = data.draw(st.booleans(), label="a flipped bit instead")

    def after(command: str, real: bytes) -> bytes:
        if len(on.channel.sent) - 1 != place:
            return real
        if changed:
            at = data.draw(st.integers(0, len(real) - 1))
            return real[:at] + bytes([real[at] ^ 0x10]) + real[at + 1 :]
        return answer

    on.channel.after = after
    try:
        ACTIONS[name](on.disk)
    except Failure:
        pass
    else:
        assert not on.pins.intent_open
