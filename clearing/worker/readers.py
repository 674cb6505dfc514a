"""What a look at the readers shows: which slots there are, and whether somebody is in them.

Cheap, and without opening a disk. ``Readers`` is the place where other kinds of readers join in.
Must never: wait for a reader that hangs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from clearing.worker.hardware import Hardware
from clearing.worker.pcsc_readers import PcscReaders
from devices.simulator.rack_client import list_slots

#: Slot → whatever tells one insertion from another; empty for an empty slot.
Occupants = Mapping[str, str]

#: Stands in a slot whose disk cannot be seen by looking; it is asked now and then.
BLIND = "?"


class Readers(Protocol):
    def look(self) -> Occupants:
        """Every slot. Raises Failure(no_answer) when the readers' service is away."""

    def close(self) -> None: ...


class SeenReaders:
    """PC/SC readers or the rack's slots (模拟), and the slots behind components and switches."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._pcsc = None if hardware.pcsc is None else PcscReaders(hardware.pcsc)

    def look(self) -> Occupants:
        hidden = self._hardware.hidden_readers()
        seen = {slot: who for slot, who in self._visible().items() if slot not in hidden}
        return seen | dict.fromkeys(self._hardware.blind_slots(), BLIND)

    def close(self) -> None:
        if self._pcsc is not None:
            self._pcsc.close()

    def _visible(self) -> Occupants:
        if self._pcsc is not None:
            # Where there are components, too, they must not be lost with the readers' service.
            return self._pcsc.look(though_away=bool(self._hardware.components))
        socket: Path | None = self._hardware.rack_socket
        if socket is None:
            return {}
        return {view.slot: view.device_no for view in list_slots(socket)}


def readers_of(hardware: Hardware) -> Readers:
    """The readers of this machine."""
    return SeenReaders(hardware)
