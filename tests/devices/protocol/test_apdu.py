"""APDUs both ways, the families of status words, and the two bounded processors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol.apdu import (
    MAX_FETCHES,
    SW,
    Command,
    Exchange,
    Response,
    fetching,
    plain,
    repeating,
)
from devices.protocol.failures import Code, Failure

READ = Command(0x00, 0xB0, le=23)

byte = st.integers(0, 255)
commands = st.builds(
    Command,
    cla=byte,
    ins=byte,
    p1=byte,
    p2=byte,
    data=st.binary(max_size=255),
    le=st.none() | st.integers(1, 256),
)


@given(commands)
def test_a_command_reads_back_as_it_was_built(command: Command) -> None:
    assert Command.decode(command.encode()) == command


@given(st.binary(max_size=300))
def test_no_bytes_make_a_command_crash(raw: bytes) -> None:
    try:
        assert Command.decode(raw).encode()[:4] == raw[:4]
    except ValueError:
        assert len(raw) < 4 or len(raw) > 5


@pytest.mark.parametrize(
    ("command", "raw"),
    [
        (Command(0x00, 0xA4, 0x04, 0x00, b"TSAM01", 256), "00A4040006 5453414D3031 00"),
        (Command(0x00, 0xB2, 1, 4, le=256), "00B20104 00"),
        (Command(0xC0, 0xF6, data=b"\x01\x02"), "C0F60000 02 0102"),
        (Command(0x00, 0x84, le=8), "00840000 08"),
        (Command(0x00, 0x84), "00840000"),
    ],
)
def test_the_four_cases_stand_as_iso_7816_writes_them(command: Command, raw: str) -> None:
    assert command.encode() == bytes.fromhex(raw)


def test_neither_commands_nor_answers_show_their_data() -> None:
    pin = b"SECRET99"
    for shown in (Command(0xC0, 0xF9, data=pin, le=8), Response(pin, SW.OK)):
        assert "SECRET" not in repr(shown) + str(shown)
        assert pin.hex() not in repr(shown).lower()


@given(st.binary(max_size=300))
def test_no_bytes_make_an_answer_crash(raw: bytes) -> None:
    try:
        assert Response.decode(raw).encode() == raw
    except Failure as failure:
        assert failure.code is Code.DEVICE_GARBLED
        assert len(raw) < 2 or raw[-2] >> 4 not in (6, 9)


@pytest.mark.parametrize(
    ("sw", "more", "right_length", "tries"),
    [
        (0x9000, None, None, None),
        (0x618E, 0x8E, None, None),
        (0x6100, 256, None, None),
        (0x6C17, None, 23, None),
        (0x63C2, None, None, 2),
        (0x63C0, None, None, 0),
        (0x6983, None, None, 0),
        (0x6382, None, None, None),
    ],
)
def test_status_words_tell_their_family(
    sw: int, more: int | None, right_length: int | None, tries: int | None
) -> None:
    response = Response(b"", sw)
    assert (response.more, response.right_length, response.tries_left) == (
        more,
        right_length,
        tries,
    )


class Script:
    """A card that answers from a list and remembers what it was sent."""

    def __init__(self, *answers: str) -> None:
        self.answers: Iterator[bytes] = iter([bytes.fromhex(answer) for answer in answers])
        self.sent: list[Command] = []

    def __call__(self, command: Command) -> Response:
        self.sent.append(command)
        return Response.decode(next(self.answers))


def test_what_61xx_announces_is_fetched_and_the_command_sent_once() -> None:
    card = Script("AABB 6102", "CC 6101", "DD 9000")
    command = Command(0xC0, 0xF4, data=b"x")
    assert fetching(card)(command) == Response(bytes.fromhex("AABBCCDD"), SW.OK)
    assert card.sent == [command, Command(0, 0xC0, le=2), Command(0, 0xC0, le=1)]


def test_an_error_while_fetching_is_the_answer() -> None:
    assert fetching(Script("6102", "6A82"))(READ).sw == SW.NOT_FOUND


def test_6cxx_is_repeated_once_with_the_right_length() -> None:
    card = Script("6C05", "0102030405 9000")
    assert repeating(card)(READ).data == b"\x01\x02\x03\x04\x05"
    assert [command.le for command in card.sent] == [23, 5]


def test_a_card_that_never_agrees_on_a_length_is_garbled() -> None:
    card = Script("6C05", "6C06")
    with pytest.raises(Failure) as failure:
        repeating(card)(READ)
    assert (failure.value.code, failure.value.raw_code) == (Code.DEVICE_GARBLED, "6C06")
    assert len(card.sent) == 2


@pytest.mark.parametrize("answer", [b"\x61\x01", b"\x00\x61\x01", bytes(256) + b"\x61\x00"])
def test_a_card_that_announces_forever_is_stopped(answer: bytes) -> None:
    sent: list[bytes] = []

    def transmit(apdu: bytes) -> bytes:
        sent.append(apdu)
        return answer

    with pytest.raises(Failure) as failure:
        fetching(plain(transmit))(READ)
    assert failure.value.code is Code.DEVICE_GARBLED
    assert len(sent) <= MAX_FETCHES + 1


@given(st.lists(st.binary(max_size=20), min_size=1), st.sampled_from([fetching, repeating]))
def test_no_card_makes_the_processors_crash(
    answers: list[bytes], processor: Callable[[Exchange], Exchange]
) -> None:
    queue = iter(answers)
    exchange = processor(plain(lambda _: next(queue, b"")))
    try:
        assert isinstance(exchange(READ), Response)
    except Failure as failure:
        assert failure.code is Code.DEVICE_GARBLED


@pytest.mark.parametrize(
    "make",
    [
        lambda: Command(0, 0, data=bytes(256)),
        lambda: Command(0, 0, le=257),
        lambda: Command(0, 0, le=0),
        lambda: Command(0x100, 0),
    ],
    ids=["Lc", "Le long", "Le zero", "CLA"],
)
def test_what_no_short_apdu_can_hold_is_our_mistake(make: Callable[[], Command]) -> None:
    with pytest.raises(ValueError, match=r"short|byte"):
        make()
