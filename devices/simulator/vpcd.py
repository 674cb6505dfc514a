"""Simulated cards in real PC/SC readers (模拟): the card's end of vpcd's wire.

vpcd is pcscd's virtual reader driver; a card is whoever connects to the slot's TCP port. Messages
have two bytes of length; one byte is for the reader (0 off, 1 on, 2 reset, 4 ATR), anything else is
an APDU. To insert is to connect, to pull is to close.

Owns that wire, the ATRs, and what plugs a rack's slots into readers (``rack.py --vpcd``). What the
card says is ``rack_disks``' business: the power going or a reset ends the rack's session, as the
death of a channel does.

Facts: without TCP_QUICKACK before each receive an APDU takes 44 ms instead of 0.12. pcscd looks at
a slot every 0.4 s, by asking for the ATR: a card that is back sooner was never away for it, so a
pulled card stays away for :data:`AWAY_SECONDS`, and one that was not powered since it was plugged
in answers no APDU. vpcd blocks for ever over an empty answer, so that is a pulled card, too.

Must never: answer for a card that is not in the slot, or listen on anything.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import select
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from devices.protocol.apdu import SW, Command, Response
from devices.protocol.iccard import Ins
from devices.simulator.rack_disks import AnswerLost, CardGone, Rack, RackRefusal, Session

#: How long a reader sees a slot empty when a card was pulled; more than pcscd's 0.4 s.
AWAY_SECONDS = 0.7

_OFF, _ON, _RESET, _ATR = 0, 1, 2, 4
_CONNECT_SECONDS = 5.0
_RETRY_SECONDS = 0.1
_LOOK_SECONDS = 0.02
_NOTICE_SECONDS = 0.1

Address = tuple[str, int]


def make_atr(historical: bytes) -> bytes:
    """An ATR of a T=1 card with up to 15 historical bytes (ISO 7816-3)."""
    if len(historical) > 15:
        raise ValueError("at most 15 historical bytes")
    body = bytes([0x80 | len(historical), 0x80, 0x01]) + historical
    check = functools.reduce(lambda left, right: left ^ right, body)
    return b"\x3b" + body + bytes([check])


#: What our simulated fiscal card answers to reset. Real ones are not public.
FISCAL_ATR = make_atr(b"QINGKA-TSAM01")
#: A card that is none of ours.
FOREIGN_ATR = make_atr(b"SOMEBODY-ELSE")


class Pulled(Exception):
    """The card leaves the reader."""


class VirtualCard(Protocol):
    """A card in one insertion."""

    @property
    def atr(self) -> bytes: ...

    def present(self) -> bool:
        """Whether it is still in the slot."""

    def power(self, on: bool, gone: Callable[[], bool]) -> None:
        """The reader switches the card on (or resets it) or off: a session begins or ends.

        ``gone`` tells whether the reader went away.
        """

    def transmit(self, apdu: bytes) -> bytes:
        """Raises :class:`Pulled` when no answer will come."""


def keep_in(
    find: Callable[[], VirtualCard | None], address: Address, stop: threading.Event
) -> None:
    """Keep whatever ``find`` finds in the reader at ``address`` until ``stop``; blocks.

    A reader that is not there, or went away, is looked for again: pcscd may be restarted.
    """
    while not stop.is_set():
        card = find()
        if card is None:
            stop.wait(_LOOK_SECONDS)
            continue
        try:
            with socket.create_connection(address, timeout=_CONNECT_SECONDS) as connection:
                _Talk(connection, card, stop).run()
        except OSError:
            stop.wait(_RETRY_SECONDS)
        else:
            stop.wait(AWAY_SECONDS)


class _Talk:
    """One insertion: from the connection to its end. OSError when it was the reader that went."""

    def __init__(self, connection: socket.socket, card: VirtualCard, stop: threading.Event) -> None:
        self._connection = connection
        self._card = card
        self._stop = stop
        self._buffer = b""
        self._powered = False
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Not the socket's own time-out: with one, MSG_DONTWAIT waits too (see _gone).
        connection.settimeout(None)
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def run(self) -> None:
        try:
            while self._card.present() and not self._stop.is_set():
                message = self._receive()
                if message is not None:
                    self._act(message)
        except Pulled:
            pass
        finally:
            self._card.power(False, self._gone)

    def _act(self, message: bytes) -> None:
        match list(message):
            case [code] if code in (_ON, _RESET):
                self._card.power(True, self._gone)
                self._powered = True
            case [code] if code == _OFF:
                self._card.power(False, self._gone)
                self._powered = False
            case [code] if code == _ATR:
                self._send(self._card.atr)
            case _ if not self._powered:
                raise Pulled
            case _:
                self._send(self._card.transmit(message))

    def _send(self, content: bytes) -> None:
        if not content:
            raise Pulled
        self._connection.sendall(len(content).to_bytes(2, "big") + content)

    def _receive(self) -> bytes | None:
        """The next message, or None when nothing came for a moment. OSError at the end."""
        while True:
            if len(self._buffer) >= 2:
                end = 2 + int.from_bytes(self._buffer[:2], "big")
                if len(self._buffer) >= end:
                    message, self._buffer = self._buffer[2:end], self._buffer[end:]
                    return message
            # The kernel takes the option back by itself, so it is set each time.
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            if not self._poll.poll(_NOTICE_SECONDS * 1000):
                return None
            received = self._connection.recv(65536)
            if not received:
                raise ConnectionResetError
            self._buffer += received

    def _gone(self) -> bool:
        try:
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True


# --- a rack's disks -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attachment:
    """A rack's slot in a reader."""

    slot: str
    address: Address

    @classmethod
    def parse(cls, text: str) -> Attachment:
        """``SLOT=HOST:PORT``; raises ValueError."""
        slot, _, where = text.rpartition("=")
        host, _, port = where.rpartition(":")
        if not slot or not host:
            raise ValueError(f"not SLOT=HOST:PORT: {text}")
        return cls(slot, (host, int(port)))


def attach_rack(rack: Rack, attachments: Sequence[Attachment]) -> threading.Event:
    """Plug slots of ``rack`` into their readers, in threads; they end with the event set.

    Slots are looked at, not told: pulls, swaps and insertions at the rack are seen in 20 ms.
    """
    stop = threading.Event()
    if attachments:
        view = _Slots(rack, stop)
        threading.Thread(target=view.run, name="vpcd slots", daemon=True).start()
        for attachment in attachments:
            find = functools.partial(view.card, attachment.slot)
            threading.Thread(
                target=keep_in,
                args=(find, attachment.address, stop),
                name=f"vpcd {attachment.slot}",
                daemon=True,
            ).start()
    return stop


class _Slots:
    """Who is in which slot: one look for all threads."""

    def __init__(self, rack: Rack, stop: threading.Event) -> None:
        self._rack = rack
        self._stop = stop
        self.occupants: dict[str, str] = {}

    def run(self) -> None:
        while not self._stop.is_set():
            self.occupants = {view["slot"]: view["device_no"] for view in self._rack.slots()}
            self._stop.wait(_LOOK_SECONDS)

    def card(self, slot: str) -> VirtualCard | None:
        device_no = self.occupants.get(slot, "")
        return _RackCard(self._rack, self, slot, device_no) if device_no else None


class _RackCard:
    """A disk of the rack in one insertion. It is open at the rack while it has power."""

    atr = FISCAL_ATR

    def __init__(self, rack: Rack, slots: _Slots, slot: str, device_no: str) -> None:
        self._rack = rack
        self._slots = slots
        self._slot = slot
        self._device_no = device_no
        self._power = contextlib.ExitStack()
        self._session: Session | None = None

    def present(self) -> bool:
        return self._slots.occupants.get(self._slot) == self._device_no

    def power(self, on: bool, gone: Callable[[], bool]) -> None:
        self._power.close()
        self._session = None
        if on:
            with contextlib.suppress(RackRefusal):  # open elsewhere, or gone: a mute card
                self._session = self._power.enter_context(
                    self._rack.session("", self._device_no, gone)
                )

    def transmit(self, apdu: bytes) -> bytes:
        if self._session is None:
            raise Pulled
        try:
            return self._session.transmit(apdu)
        except (CardGone, AnswerLost):
            raise Pulled from None


# --- a foreign card -------------------------------------------------------------------------------


class ForeignCard:
    """A card of somebody else: another ATR, and no application of ours. ``told`` is called with
    every APDU, so that a test sees it was left alone."""

    def __init__(self, atr: bytes = FOREIGN_ATR, told: Callable[[bytes], object] = bytes) -> None:
        self.atr = atr
        self._told = told

    def present(self) -> bool:
        return True

    def power(self, on: bool, gone: Callable[[], bool]) -> None:
        pass

    def transmit(self, apdu: bytes) -> bytes:
        self._told(apdu)
        try:
            known = Command.decode(apdu).ins == Ins.SELECT
        except ValueError:
            return Response(b"", SW.WRONG_LENGTH).encode()
        return Response(b"", SW.NOT_FOUND if known else SW.UNKNOWN_INS).encode()


def main(arguments: list[str] | None = None) -> int:
    """A foreign card in a reader until standard input ends; APDUs are appended to ``--log``."""
    parser = argparse.ArgumentParser(
        prog="python -m devices.simulator.vpcd", description="一张外来卡"
    )
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--atr", type=bytes.fromhex, default=FOREIGN_ATR, help="十六进制")
    parser.add_argument("--log", type=Path, help="收到的命令 (十六进制, 每行一条)")
    options = parser.parse_args(arguments)

    def told(apdu: bytes) -> None:
        if options.log is not None:
            with options.log.open("a", encoding="ascii") as log:
                log.write(apdu.hex() + "\n")

    card, stop = ForeignCard(options.atr, told), threading.Event()
    address = (options.host, options.port)
    holder = threading.Thread(target=keep_in, args=(lambda: card, address, stop))
    holder.start()
    sys.stdin.read()
    stop.set()
    holder.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
