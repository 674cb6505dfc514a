"""A machine's rack behind real card readers: its simulated disks (模拟) sit at a real pcscd.

Owns which reader a slot is, and what a reader machine's configuration says of it. The daemons are
those of :mod:`devices.simulator.pcscd`: private ones, never the system's.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.private import private_folder
from devices.simulator import pcscd
from devices.simulator.pcscd import VirtualReaders


def missing() -> list[str]:
    """What this machine lacks for it, by package or by fact; empty when it can be done."""
    lacking = pcscd.missing()
    if importlib.util.find_spec("smartcard") is None:
        lacking.append("pyscard (deploy/requirements/reader.txt; needs libpcsclite-dev, gcc)")
    return lacking


class PcscRack:
    """Readers for ``slots``, over as many daemons as that takes. Raises RuntimeError."""

    def __init__(self, folder: Path, slots: Sequence[str]) -> None:
        private_folder(folder)
        self.virtual = VirtualReaders(folder, len(slots))
        self.slots = dict(zip(slots, self.virtual.slots, strict=True))

    @property
    def inside(self) -> list[str]:
        """The words before a command that make it run where the readers' ports are."""
        return self.virtual.inside([])

    @property
    def plugs(self) -> list[str]:
        """The rack's own arguments."""
        where = {slot: "{}:{}".format(*reader.address) for slot, reader in self.slots.items()}
        return [word for slot in where for word in ("--vpcd", f"{slot}={where[slot]}")]

    @property
    def config(self) -> dict[str, Any]:
        """What the machine's configuration says in place of the rack's socket."""
        several = len(self.virtual.sockets) > 1
        return {
            "readers": "pcsc",
            "pcsc_sockets": [str(path) for path in self.virtual.sockets],
            "pcsc_names": {
                slot: f"{reader.daemon + 1}/{reader.reader}" if several else reader.reader
                for slot, reader in self.slots.items()
            },
            "only_slots": list(self.slots),  # a reader more than there are slots is none of ours
        }

    def restart(self, daemon: int) -> None:
        """SIGKILL of a daemon, and a new one in its place: what a crash and systemd make of it."""
        self.virtual.kill(daemon)
        self.virtual.start(daemon)

    def close(self) -> None:
        self.virtual.close()
