"""Who may touch which disk on this machine: file locks, and slots that must answer a probe first.

From claim to settle the process that touches a disk holds the lock of its device number and of
its slot; the kernel gives both back when the process dies. A slot whose call had to be killed is
marked; nobody opens what is in it until a probe was answered.
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from clearing.worker import durable


class Places:
    """Locks and marks below ``data_dir``, shared by all processes of the worker."""

    def __init__(self, data_dir: Path) -> None:
        self._locks = durable.private_dir(data_dir / "locks")
        self._marks = durable.private_dir(data_dir / "probe")

    @contextlib.contextmanager
    def hold(self, device_no: str, slot: str) -> Iterator[bool]:
        """Hold a disk and its slot; yields False, holding nothing of use, when either is taken or
        the slot is marked."""
        with self._lock("device", device_no) as device, self._lock("slot", slot) as place:
            # The mark is looked at under the lock: it is set before a holder is killed.
            yield device and place and not self.is_marked(slot)

    @contextlib.contextmanager
    def hold_slot(self, slot: str) -> Iterator[bool]:
        """Hold a slot whose disk is not known yet, or is to be probed."""
        with self._lock("slot", slot) as place:
            yield place

    def mark(self, slot: str) -> None:
        """Nobody opens this slot before :meth:`unmark`; holds across restarts."""
        durable.replace(self._marks / _name(slot), b"")

    def unmark(self, slot: str) -> None:
        """A probe was answered."""
        (self._marks / _name(slot)).unlink(missing_ok=True)

    def is_marked(self, slot: str) -> bool:
        return (self._marks / _name(slot)).exists()

    def _lock(self, kind: str, name: str) -> contextlib.AbstractContextManager[bool]:
        return durable.locked(self._locks / f"{kind}-{_name(name)}.lock")


def _name(text: str) -> str:
    """A file name for a slot as people name them ("A-03", "读卡器 1")."""
    return urllib.parse.quote(text, safe="") or "-"
