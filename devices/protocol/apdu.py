"""Command and response APDUs of ISO 7816-4, short form, and how a longer answer is fetched.

Owns the bytes on the wire: building and reading commands, status words, and the two small
processors that make ``61xx`` and ``6Cxx`` disappear. It has no I/O: an :data:`Exchange` is any
function from command to response, a channel or a simulated card.

Must never: send a command twice by itself, except a *reading* one that the card answered with
``6Cxx``; loop without a bound; log what it carries (a PIN passes through here).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, replace

from devices.protocol.failures import Code, Failure

#: A card that keeps announcing more data is broken: a short answer needs one round, 64 is plenty.
MAX_FETCHES = 64
#: An answer longer than this fits no structure of the fiscal card.
MAX_ANSWER = 4096


class SW(enum.IntEnum):
    """Status words; ``61xx``, ``63Cx`` and ``6Cxx`` are families, see :class:`Response`."""

    OK = 0x9000
    WRONG_LENGTH = 0x6700
    PIN_REQUIRED = 0x6982
    PIN_LOCKED = 0x6983
    NOT_IN_THIS_STATE = 0x6985
    NO_CURRENT_FILE = 0x6986
    MAC_WRONG = 0x6988
    WRONG_DATA = 0x6A80
    FUNCTION_LOCKED = 0x6A81
    NOT_FOUND = 0x6A82
    NO_RECORD = 0x6A83
    WRONG_P1_P2 = 0x6A86
    NO_SUCH_REFERENCE = 0x6A88
    WRONG_OFFSET = 0x6B00
    UNKNOWN_INS = 0x6D00
    UNKNOWN_CLA = 0x6E00
    CARD_LOCKED = 0x9303
    OUT_OF_RANGE = 0x9401


@dataclass(frozen=True, slots=True)
class Command:
    """A command APDU. ``le``: expected length 1…256, None when no answer data is asked for.

    ``data`` may hold a PIN: it is kept out of the representation.
    """

    cla: int
    ins: int
    p1: int = 0
    p2: int = 0
    data: bytes = b""
    le: int | None = None

    def __post_init__(self) -> None:
        if not all(0 <= part <= 0xFF for part in (self.cla, self.ins, self.p1, self.p2)):
            raise ValueError("CLA INS P1 P2 are one byte each")
        if len(self.data) > 0xFF or (self.le is not None and not 1 <= self.le <= 256):
            raise ValueError("only short APDUs: Lc 0…255, Le 1…256")

    def __repr__(self) -> str:
        return (
            f"<Command {self.cla:02X} {self.ins:02X} {self.p1:02X} {self.p2:02X}"
            f" Lc={len(self.data)} Le={self.le}>"
        )

    def encode(self) -> bytes:
        """The bytes of the command (cases 1 to 4)."""
        body = bytes([len(self.data)]) + self.data if self.data else b""
        tail = b"" if self.le is None else bytes([self.le % 256])
        return bytes([self.cla, self.ins, self.p1, self.p2]) + body + tail

    @classmethod
    def decode(cls, raw: bytes) -> Command:
        """Read a command's bytes; raises ValueError for anything that is not a short APDU."""
        if len(raw) < 4:
            raise ValueError("an APDU has at least four bytes")
        (cla, ins, p1, p2), rest = raw[:4], raw[4:]
        lc, body = (rest[0], rest[1:]) if rest else (0, b"")
        if len(rest) <= 1:  # no data: nothing, or Le alone
            return cls(cla, ins, p1, p2, le=(lc or 256) if rest else None)
        if lc and len(body) == lc:
            return cls(cla, ins, p1, p2, body)
        if lc and len(body) == lc + 1:
            return cls(cla, ins, p1, p2, body[:lc], body[lc] or 256)
        raise ValueError("Lc does not fit the length")


@dataclass(frozen=True, slots=True)
class Response:
    """Answer data and status word. ``data`` may hold a PIN: kept out of the representation."""

    data: bytes
    sw: int

    def __repr__(self) -> str:
        return f"<Response {len(self.data)} bytes {self.raw_code}>"

    @property
    def ok(self) -> bool:
        return self.sw == SW.OK

    @property
    def raw_code(self) -> str:
        """The status word as four upper-case hexadecimal digits, e.g. ``6988``."""
        return f"{self.sw:04X}"

    @property
    def more(self) -> int | None:
        """``61xx``: how many bytes wait (1…256)."""
        return (self.sw & 0xFF or 256) if self.sw >> 8 == 0x61 else None

    @property
    def right_length(self) -> int | None:
        """``6Cxx``: the Le the card wants (1…256)."""
        return (self.sw & 0xFF or 256) if self.sw >> 8 == 0x6C else None

    @property
    def tries_left(self) -> int | None:
        """``63Cx``: remaining tries; ``6983``: none."""
        if self.sw == SW.PIN_LOCKED:
            return 0
        return self.sw & 0x0F if self.sw & 0xFFF0 == 0x63C0 else None

    @property
    def surely_refused(self) -> bool:
        """Whether an error says for certain that the card did nothing.

        ISO 7816-4: 64xx and the checking errors 67xx…6Exx leave the memory as it was; so do the
        card's own 9303 and 9401. Warnings, 65xx, 6F00 and what we do not know prove nothing.
        """
        checking = self.sw >> 8 == 0x64 or 0x67 <= self.sw >> 8 <= 0x6E
        return checking or self.sw in (SW.CARD_LOCKED, SW.OUT_OF_RANGE)

    def encode(self) -> bytes:
        return self.data + self.sw.to_bytes(2, "big")

    @classmethod
    def decode(cls, raw: bytes) -> Response:
        """Read a response. Raises Failure(device_garbled) when no status word can be in it."""
        if len(raw) < 2:
            raise Failure(Code.DEVICE_GARBLED, raw_text=f"{len(raw)} bytes", detail="APDU answer")
        sw = int.from_bytes(raw[-2:], "big")
        if sw >> 12 not in (0x6, 0x9):
            raise Failure(Code.DEVICE_GARBLED, raw_code=f"{sw:04X}", detail="status word")
        return cls(bytes(raw[:-2]), sw)


Exchange = Callable[[Command], Response]


def plain(transmit: Callable[[bytes], bytes]) -> Exchange:
    """The exchange over a channel's ``transmit``, nothing added."""

    def exchange(command: Command) -> Response:
        return Response.decode(transmit(command.encode()))

    return exchange


def fetching(exchange: Exchange) -> Exchange:
    """Fetches what ``61xx`` announces with GET RESPONSE, at most :data:`MAX_FETCHES` times.

    The command itself is sent once. Raises Failure(device_garbled) when the bound is reached or
    the card announces more without handing anything out.
    """

    def fetch(command: Command) -> Response:
        response = exchange(command)
        data = response.data
        for _ in range(MAX_FETCHES):
            if response.more is None:
                return replace(response, data=data)
            response = exchange(Command(command.cla & 0x03, 0xC0, le=response.more))
            if response.more is not None and not response.data:
                break
            data += response.data
            if len(data) > MAX_ANSWER:
                break
        raise Failure(Code.DEVICE_GARBLED, raw_code=response.raw_code, detail="GET RESPONSE")

    return fetch


def repeating(exchange: Exchange) -> Exchange:
    """Repeats a command once with the Le that ``6Cxx`` names.

    Only for commands that read: one that changes the card is never sent twice.
    """

    def repeat(command: Command) -> Response:
        response = exchange(command)
        if response.right_length is None:
            return response
        response = exchange(replace(command, le=response.right_length))
        if response.right_length is not None:
            raise Failure(Code.DEVICE_GARBLED, raw_code=response.raw_code, detail="Le")
        return response

    return repeat
