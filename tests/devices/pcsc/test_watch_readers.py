"""Readers that come and go under a running daemon, and more of them than a library takes at once.

With a library in this process instead of pcscd: only USB readers come to a running daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from devices.drivers import pcsc_watch
from devices.drivers.pcsc_service import PcscService
from devices.drivers.pcsc_watch import PNP, PcscWatch, ServiceView

PRESENT, CHANGED = 0x20, 0x02
UNKNOWN_READER, INVALID_PARAMETER, TIMEOUT = 0x80100009, 0x80100004, 0x8010000A


class Library:
    """As much of ``smartcard.scard`` as a watch needs; like libpcsclite 1.9.9, but never waits."""

    def __init__(self) -> None:
        self.readers: list[str] = []
        self.limit = 16
        self.asked: list[int] = []
        self.released = 0
        self.vanishing = ""

    def api(self) -> SimpleNamespace:
        return SimpleNamespace(
            SCARD_SCOPE_USER=0,
            SCARD_STATE_CHANGED=CHANGED,
            SCARD_STATE_PRESENT=PRESENT,
            SCARD_STATE_INUSE=0x100,
            SCARD_STATE_EXCLUSIVE=0x80,
            SCARD_STATE_MUTE=0x200,
            SCardEstablishContext=lambda scope: (0, 7),
            SCardReleaseContext=self._release,
            SCardCancel=lambda context: 0,
            SCardListReaders=lambda context, groups: (0, list(self.readers)),
            SCardGetStatusChange=self._status,
        )

    def _release(self, context: int) -> int:
        self.released += 1
        return 0

    def _status(
        self, context: int, milliseconds: int, entries: Sequence[tuple[str, int]]
    ) -> tuple[int, list[tuple[str, int, list[int]]]]:
        self.asked.append(len(entries))
        if len(entries) > self.limit:
            return INVALID_PARAMETER, []
        if any(name == self.vanishing for name, _ in entries):
            self.readers.remove(self.vanishing)
            self.vanishing = ""
            return UNKNOWN_READER, []
        now = 1 << 16 | PRESENT
        changed = any(state != now for name, state in entries if name != PNP)
        answers = [(name, 0 if name == PNP else now | CHANGED, [0x3B]) for name, _ in entries]
        return (0 if changed else TIMEOUT), answers


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    library = Library()
    monkeypatch.setattr(PcscService, "api", lambda service: library.api())
    return library


def watching(library: Library) -> tuple[PcscWatch, Iterator[ServiceView]]:
    watch = PcscWatch(PcscService())
    return watch, watch.views()


def test_readers_are_told_when_they_come_and_when_they_go(library: Library) -> None:
    watch, views = watching(library)
    assert next(views).readers == ()
    library.readers = ["A", "B"]
    assert [reader.name for reader in next(views).readers] == ["A", "B"]
    library.vanishing = "A"
    view = next(views)
    assert ([reader.name for reader in view.readers], view.session) == (["B"], 1)
    watch.stop()
    assert list(views) == []
    assert library.released == 1


@pytest.mark.parametrize("count", [15, 16, 17, 40])
def test_more_readers_than_the_library_takes_are_asked_in_turns(
    library: Library, count: int
) -> None:
    library.readers = [f"R{place}" for place in range(count)]
    watch, views = watching(library)
    view = next(views)
    assert [reader.name for reader in view.readers] == library.readers
    assert all(reader.present and reader.insertion == 1 for reader in view.readers)
    watch.stop()


def test_a_library_that_never_waits_does_not_make_it_spin(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pcsc_watch, "ALIVE_SECONDS", 0.5)
    library.readers = ["A"]
    watch, views = watching(library)
    next(views)
    next(views)  # a sign of life half a second later
    assert len(library.asked) < 20
    watch.stop()
