"""Who may touch which disk on this machine: file locks, and slots that must answer a probe first.

From claim to settle the process that touches a disk holds the lock of its device number and of
its slot; the kernel gives both back when the process dies. A slot whose call had to be killed is
marked; nobody opens what is in it until a probe was answered. The mark remembers how far the
recovery ladder was climbed, so that a restart of the worker does not begin at its foot.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from clearing.worker import durable
from clearing.worker.rungs import Rung
from clearing.worker.steady import steady

_PAUSE = 0.05
_LONGEST_REST = 3600.0


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

    @contextlib.contextmanager
    def hold_group(
        self, group: str, within: float, given_up: Callable[[], bool] = lambda: False
    ) -> Iterator[bool]:
        """Hold a group of slots: which of them is active is ours to say. Waits for who has it."""
        until = steady() + within
        while True:
            with self._lock("group", group) as ours:
                if ours or steady() >= until or given_up():
                    yield ours
                    return
            time.sleep(_PAUSE)

    def mark(self, slot: str, *, rest: float = 0.0) -> None:
        """Nobody opens this slot before :meth:`unmark`; holds across restarts. A marked slot stays
        on its rung. ``rest``: seconds before it may even be probed."""
        if not self.is_marked(slot):
            self._write(slot, Rung.REOPEN, steady() + rest)

    def climb(self, slot: str, rung: Rung) -> None:
        """The slot is marked, and on this rung of the ladder."""
        self._write(slot, rung, 0.0)

    def unmark(self, slot: str) -> None:
        """A probe was answered."""
        (self._marks / _name(slot)).unlink(missing_ok=True)

    def is_marked(self, slot: str) -> bool:
        return (self._marks / _name(slot)).exists()

    def rung(self, slot: str) -> Rung | None:
        """The rung of a marked slot."""
        found = self._read(slot)
        return None if found is None else found[0]

    def rests(self, slot: str) -> bool:
        """Whether a marked slot must be left in peace still."""
        found = self._read(slot)
        # The clock starts anew with the machine: a rest from before does not last for ever.
        return found is not None and 0.0 < found[1] - steady() < _LONGEST_REST

    def _write(self, slot: str, rung: Rung, until: float) -> None:
        content = json.dumps({"rung": rung, "until": until}).encode()
        durable.replace(self._marks / _name(slot), content)

    def _read(self, slot: str) -> tuple[Rung, float] | None:
        try:
            content = (self._marks / _name(slot)).read_bytes()
        except FileNotFoundError:
            return None
        try:
            raw = json.loads(content)
            return Rung(raw["rung"]), float(raw["until"])
        except (KeyError, TypeError, ValueError):
            return Rung.REOPEN, 0.0  # marked by an older worker

    def _lock(self, kind: str, name: str) -> contextlib.AbstractContextManager[bool]:
        return durable.locked(self._locks / f"{kind}-{_name(name)}.lock")


def _name(text: str) -> str:
    """A file name for a slot as people name them ("A-03", "读卡器 1")."""
    return urllib.parse.quote(text, safe="") or "-"
