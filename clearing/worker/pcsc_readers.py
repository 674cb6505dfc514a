"""Slots that are PC/SC readers: their names, who seems to be in them, and how one is opened.

Owns the names. A slot is called as its reader ("ACS ACR38U 00 00"), behind the number of its daemon
where there are several ("2/ACS ACR38U 00 00"), or as ``names`` says ("A-03"). Only the looking
process (:class:`PcscReaders`) watches; a process that opens a disk is told :class:`PcscSlots` and
needs nothing else.

A process talks to one daemon for life (libpcsclite), so slots are asked in groups:
:meth:`PcscSlots.groups`. Must never: connect to a card to see whether there is one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devices.drivers.pcsc_channel import OPEN_SECONDS, PcscChannel
from devices.drivers.pcsc_service import PcscService
from devices.drivers.pcsc_watch import ReaderView, ServiceView
from devices.drivers.pcsc_watcher import PcscWatcher
from devices.protocol.failures import Code, Failure

_FIRST_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class PcscSlots:
    """``sockets``: the daemons in the order of their numbers; empty is the system's own.
    ``names``: slot → reader, or number/reader. ``only_atrs``: hexadecimal, empty for all."""

    sockets: tuple[Path, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    only_atrs: tuple[str, ...] = ()

    @property
    def services(self) -> list[PcscService]:
        return [PcscService(path) for path in self.sockets] or [PcscService()]

    def slot_of(self, daemon: int, reader: str) -> str:
        """The slot's name; ``daemon`` counts from 0."""
        own = self._own_name(daemon, reader)
        return next((slot for slot, place in self.names.items() if place in (own, reader)), own)

    def place_of(self, slot: str) -> tuple[int, str]:
        """Daemon (from 0) and reader of a slot. Raises Failure(disk_absent): no such daemon."""
        place = self.names.get(slot, slot)
        number, slash, reader = place.partition("/")
        if slash and number.isdecimal():
            daemon = int(number) - 1
        else:
            daemon, reader = 0, place
        if not 0 <= daemon < len(self.services):
            raise Failure(Code.DISK_ABSENT, detail=slot)
        return daemon, reader

    def groups(self, slots: Iterable[str]) -> list[list[str]]:
        """``slots`` by daemon: what one process can ask."""
        groups: dict[int, list[str]] = {}
        for slot in slots:
            try:
                daemon = self.place_of(slot)[0]
            except Failure:
                daemon = -1
            groups.setdefault(daemon, []).append(slot)
        return list(groups.values())

    def channel(self, slot: str, *, wait: float = OPEN_SECONDS) -> PcscChannel:
        """Open what is in the slot; raises as :class:`PcscChannel`."""
        daemon, reader = self.place_of(slot)
        atrs = [bytes.fromhex(atr) for atr in self.only_atrs]
        return PcscChannel(reader, service=self.services[daemon], wait=wait, only_atrs=atrs)

    def to_json(self) -> dict[str, Any]:
        return {
            "sockets": [str(path) for path in self.sockets],
            "names": dict(self.names),
            "only_atrs": list(self.only_atrs),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> PcscSlots:
        sockets = tuple(Path(path) for path in raw["sockets"])
        return cls(sockets, dict(raw["names"]), tuple(raw["only_atrs"]))

    def _own_name(self, daemon: int, reader: str) -> str:
        return f"{daemon + 1}/{reader}" if len(self.sockets) > 1 else reader


class PcscReaders:
    """A look at the readers of all daemons; keeps a watching process for each until closed.

    ``woken`` is set at every change: who looks need not look often.
    """

    def __init__(self, slots: PcscSlots, *, woken: threading.Event | None = None) -> None:
        self._slots = slots
        self._change = threading.Condition()
        self._woken = woken
        self._seen: dict[int, tuple[ReaderView, ...]] = {}
        self._watchers = [PcscWatcher(service, changed=self._changed) for service in slots.services]
        with self._change:
            self._change.wait_for(self._all_told, _FIRST_SECONDS)

    def look(self, *, though_away: bool = False) -> dict[str, str]:
        """Slot → whatever tells one insertion from another; empty for an empty slot.

        A daemon that is away leaves its slots where they were, in another state: they are asked,
        and do not answer. Raises Failure(no_answer) when all are away, unless ``though_away``.
        """
        views = [watcher.view() for watcher in self._watchers]
        if not though_away and not any(view.up for view in views):
            raise Failure(Code.NO_ANSWER, raw_code=views[0].problem, detail="pcscd")
        found: dict[str, str] = {}
        for daemon, view in enumerate(views):
            if view.up:
                self._seen[daemon] = view.readers
            for reader in self._seen.get(daemon, ()):
                found[self._slots.slot_of(daemon, reader.name)] = _occupant(view, reader)
        return found

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.stop()

    def _changed(self) -> None:
        with self._change:
            self._change.notify_all()
        if self._woken is not None:
            self._woken.set()

    def _all_told(self) -> bool:
        # A watcher that ended, or a daemon that is away, has told as well.
        return all(watcher.view().problem != "starting" for watcher in self._watchers)


def _occupant(view: ServiceView, reader: ReaderView) -> str:
    if not view.up:
        return f"away {view.problem}"
    return f"{view.session}.{reader.insertion}" if reader.present else ""
