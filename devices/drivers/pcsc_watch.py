"""Which readers a PC/SC daemon has, and what is in them, told at every change.

    python -m devices.drivers.pcsc_watch [--socket PATH] [--once]

Owns the loop over SCardGetStatusChange, in a process of its own for each daemon (a process can talk
to one daemon only): one line of JSON for each change, and one every few seconds as a sign of life.
It ends when standard input ends.

Facts: pyscard's CardMonitor spins at exactly 16 readers and never recovers from a daemon's restart
(pyscard#27, #82), so it is not used. libpcsclite 1.9.9 takes 16 entries at a time (0x80100004
otherwise), the one for new readers (``\\\\?PnP?\\Notification``) among them: it is left out where
there is no room for it (a daemon of that limit has no more readers to give), and where readers do
not fit either, they are asked for in turns. Readers are listed anew at every round in any case.
The upper half of a reader's state counts insertions and removals, so that a disk that was swapped
between two looks is seen. A context never outlives its daemon: after a restart there is a new
``session``, and whatever was known of a reader is void.

Must never: connect to a card, keep a second context, or end because a daemon did.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.drivers import pcsc_codes
from devices.drivers.pcsc_service import PcscService
from devices.protocol.failures import Failure

PNP = "\\\\?PnP?\\Notification"
#: A view comes at least this often.
ALIVE_SECONDS = 5.0
_ROUND_MS = 500
_TURN_MS = 50
_AWAY_SECONDS = 0.2
_QUICK_SECONDS = 0.05
_MAX_ENTRIES = 16  # of a libpcsclite that takes no more


@dataclass(frozen=True, slots=True)
class ReaderView:
    """One reader. ``insertion`` changes with every insertion and removal; ``atr``: hexadecimal,
    empty for a card that does not answer (``mute``) or a reader that is in use."""

    name: str
    present: bool
    in_use: bool
    mute: bool
    insertion: int
    atr: str


@dataclass(frozen=True, slots=True)
class ServiceView:
    """A daemon's readers in its own order. ``session`` counts contexts; 0 and ``problem`` (the raw
    code) while the daemon does not answer."""

    session: int
    readers: tuple[ReaderView, ...] = ()
    problem: str = ""

    @property
    def up(self) -> bool:
        return self.session > 0

    def to_line(self) -> str:
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str | bytes) -> ServiceView:
        """Raises ValueError, KeyError or TypeError for what is no view."""
        raw: dict[str, Any] = json.loads(line)
        raw["readers"] = tuple(ReaderView(**reader) for reader in raw["readers"])
        return cls(**raw)


class PcscWatch:
    """Watches the daemon of this process. :meth:`views` belongs to one thread."""

    def __init__(self, service: PcscService) -> None:
        self._service = service
        self._api = service.api()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._context: int | None = None
        self._sessions = 0

    def views(self) -> Iterator[ServiceView]:
        """A view at once, then at every change and every :data:`ALIVE_SECONDS`, until stopped."""
        told: ServiceView | None = None
        due = 0.0
        for view in self._looks():
            if view != told or time.monotonic() >= due:
                told, due = view, time.monotonic() + ALIVE_SECONDS
                yield view

    def stop(self) -> None:
        """End :meth:`views` within half a second, mostly at once; from any thread. (A cancel that
        comes just before the waiting begins is lost.)"""
        self._stopped.set()
        with self._lock:
            if self._context is not None:
                self._api.SCardCancel(self._context)

    def _looks(self) -> Iterator[ServiceView]:
        while not self._stopped.is_set():
            problem = ""
            try:
                with self._service.context() as context:
                    self._use(context)
                    try:
                        yield from self._session(context)
                    finally:
                        self._use(None)
            except Failure as failure:
                problem = failure.raw_code or failure.code.value
            if not self._stopped.is_set():
                yield ServiceView(0, problem=problem)
                self._stopped.wait(_AWAY_SECONDS)

    def _use(self, context: int | None) -> None:
        with self._lock:
            self._context = context

    def _session(self, context: int) -> Iterator[ServiceView]:
        """Looks with one context. Raises the Failure that ends it."""
        self._sessions += 1
        states: dict[str, tuple[int, bytes]] = {}
        while not self._stopped.is_set():
            began = time.monotonic()
            names = self._names(context)
            before = {name: states.get(name, (0, b"")) for name in names}
            states = before | self._wait(context, before)
            yield ServiceView(self._sessions, tuple(self._view(n, *states[n]) for n in names))
            if states == before and time.monotonic() - began < _QUICK_SECONDS:
                self._stopped.wait(_QUICK_SECONDS)  # whatever a library makes of it: no spinning

    def _names(self, context: int) -> list[str]:
        result, names = self._api.SCardListReaders(context, [])
        if result == pcsc_codes.NO_READERS:
            return []
        if result != pcsc_codes.OK:
            raise pcsc_codes.failure_of(result)
        return list(names)

    def _wait(
        self, context: int, states: dict[str, tuple[int, bytes]]
    ) -> dict[str, tuple[int, bytes]]:
        """Wait for a change, for a short while; what is new of each reader."""
        entries = [(name, state) for name, (state, _) in states.items()]
        try:
            return self._ask(context, _ROUND_MS, [*entries, (PNP, 0)])
        except _TooMany:
            pass
        try:
            return self._ask(context, _ROUND_MS, entries)
        except _TooMany:
            found: dict[str, tuple[int, bytes]] = {}
            for start in range(0, len(entries), _MAX_ENTRIES):
                found |= self._ask(context, _TURN_MS, entries[start : start + _MAX_ENTRIES])
            return found

    def _ask(
        self, context: int, milliseconds: int, entries: list[tuple[str, int]]
    ) -> dict[str, tuple[int, bytes]]:
        api = self._api
        result, answers = api.SCardGetStatusChange(context, milliseconds, entries)
        if result == pcsc_codes.INVALID_PARAMETER and len(entries) > 1:
            raise _TooMany
        if result in (pcsc_codes.CANCELLED, pcsc_codes.UNKNOWN_READER):
            return {}  # stopped; or a reader that went: it is not listed any more
        # A time-out fills the states in, too; that somebody begins to use a card is told no other
        # way.
        if result not in (pcsc_codes.OK, pcsc_codes.TIMEOUT):
            raise pcsc_codes.failure_of(result)
        return {
            name: (state & ~api.SCARD_STATE_CHANGED, bytes(atr))
            for name, state, atr in answers
            if name != PNP
        }

    def _view(self, name: str, state: int, atr: bytes) -> ReaderView:
        api = self._api
        return ReaderView(
            name=name,
            present=bool(state & api.SCARD_STATE_PRESENT),
            in_use=bool(state & (api.SCARD_STATE_INUSE | api.SCARD_STATE_EXCLUSIVE)),
            mute=bool(state & api.SCARD_STATE_MUTE),
            insertion=state >> 16,
            atr=atr.hex().upper(),
        )


class _TooMany(Exception):
    """More entries than this libpcsclite takes."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m devices.drivers.pcsc_watch", description="读卡器监视: 每次变化输出一行 JSON"
    )
    parser.add_argument("--socket", type=Path, help="pcscd 的套接字; 默认为系统的")
    parser.add_argument("--once", action="store_true", help="只看一次")
    options = parser.parse_args(arguments)
    try:
        watch = PcscWatch(PcscService(options.socket))
    except Failure as failure:
        print(ServiceView(0, problem=str(failure)).to_line(), flush=True)
        return 1
    if not options.once:
        threading.Thread(target=_end_with_input, name="leash", daemon=True).start()
    for view in watch.views():
        print(view.to_line(), flush=True)
        if options.once:
            return 0 if view.up else 1
    return 0


def _end_with_input() -> None:
    """Whoever started this process is gone, or wants it to end."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)  # even out of a call to a daemon that does not answer


if __name__ == "__main__":
    sys.exit(main())
