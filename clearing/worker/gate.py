"""Keeps a neighbour's disk from being cut off between its intent and its read-back.

Owns two rules. Who writes a disk holds a lock of its own from before it asks for permission until
the disk was read back; who is about to restart what the disks hang on closes the gate, which lets
nobody begin, and waits until nobody writes. Both are file locks: they end with their process.

Only exclusive locks are used (Windows has no others). One gate for the whole machine: a disk behind
another service waits without need, and is safe.
"""

from __future__ import annotations

import contextlib
import os
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from clearing.worker import durable
from clearing.worker.steady import steady

_PAUSE = 0.02
_TURN = "turn.lock"


class Gate:
    """The gate of one machine, below ``data_dir``."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = durable.private_dir(durable.private_dir(data_dir) / "gate")

    def pass_through(self, slot: str) -> Passage | None:
        """Begin to write the disk in ``slot``, or None while the gate is closed. The caller holds
        the lock of the slot."""
        with durable.locked(self._folder / _TURN) as ours:
            if not ours:
                return None
            path = self._folder / f"writing-{urllib.parse.quote(slot, safe='')}.lock"
            descriptor = durable.open_private(path)
            if durable.try_lock(descriptor):
                return Passage(descriptor)
            os.close(descriptor)  # somebody is just looking whether it is locked
            return None

    @contextlib.contextmanager
    def closed(self, within: float, given_up: Callable[[], bool]) -> Iterator[bool]:
        """Hold new intents for the block; yields whether nobody writes now. It waits for that at
        most ``within`` seconds, or until ``given_up``."""
        until = steady() + within
        with contextlib.ExitStack() as held:
            while not held.enter_context(durable.locked(self._folder / _TURN)):
                held.close()
                if steady() >= until or given_up():
                    yield False
                    return
                time.sleep(_PAUSE)
            while self.writing():
                if steady() >= until or given_up():
                    yield False
                    return
                time.sleep(_PAUSE)
            yield True

    def writing(self) -> list[str]:
        """Slots whose disk is between an intent and its read-back."""
        found = []
        for path in sorted(self._folder.glob("writing-*.lock")):
            with durable.locked(path) as free:
                if not free:
                    name = path.name.removeprefix("writing-").removesuffix(".lock")
                    found.append(urllib.parse.unquote(name))
        return found


class Passage:
    """Somebody writes. Ends with :meth:`leave`, or with its process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def leave(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
