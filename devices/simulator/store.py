"""Where a rack keeps its simulated disks (模拟): one state file and one write log per disk.

Owns the order of writing, so that a SIGKILL at any point leaves a disk that is true to its answers:

1. the whole state, with the write it stands for (``last_write``), into ``<device_no>.tmp``, fsync;
2. rename over ``<device_no>.json``, fsync of the folder: **from here the write has happened**;
3. the same write as one JSON line at the end of ``<device_no>.log``, fsync;
4. only now the answer goes out.

After a crash between 2 and 3 the log lacks its last line: :meth:`DiskStore.recover` adds it from
the state, and readers (``evidence.py``) see it there meanwhile. A line torn by a crash in 3 is cut
off first. The log never says more than the state.

Must never: answer for the card, or write a PIN into a log.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from devices.protocol.failures import Failure
from devices.simulator.card_state import CardState


class StoreDamaged(Exception):
    """A state file that no rack of ours can have written."""


class StoreLocked(Exception):
    """Another rack holds this disk."""


class Kept(Protocol):
    """What can be kept: a state that counts its writes and knows the last of them."""

    @property
    def written(self) -> int: ...

    @property
    def last_write(self) -> dict[str, Any] | None: ...

    def to_json(self) -> dict[str, Any]: ...


State = TypeVar("State", bound=Kept)


class StateStore(Generic[State]):
    """The files of one disk in ``folder``. ``parse``: the inverse of the state's ``to_json``; it
    may raise ValueError, KeyError, TypeError or Failure."""

    def __init__(
        self, folder: Path, device_no: str, parse: Callable[[dict[str, Any]], State]
    ) -> None:
        self.device_no = device_no
        self._parse = parse
        self._folder = folder
        self._state = folder / f"{device_no}.json"
        self._log = folder / f"{device_no}.log"
        self._lock: int | None = None

    def hold(self) -> None:
        """Take the disk for this process; it is let go with :meth:`release` or the process."""
        lock = os.open(self._folder / f"{self.device_no}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise StoreLocked(self.device_no) from None
        self._lock = lock

    def release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def load(self) -> State | None:
        """The state as it stands, or None for a disk that was never kept here."""
        try:
            text = self._state.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        try:
            return self._parse(json.loads(text))
        except (ValueError, KeyError, TypeError, Failure) as error:
            raise StoreDamaged(f"{self._state}: {error!r}") from error

    def create(self, state: State) -> None:
        """Keep the first state. Without fsync: what is lost here is made again from the world."""
        self._replace(state, sync=False)

    def keep(
        self, state: State, write: dict[str, Any], *, between: Callable[[], None] | None = None
    ) -> None:
        """Make one write last, in the order above. ``between`` runs after step 2, for tests."""
        self._replace(state, sync=True)
        if between is not None:
            between()
        self._append(write)

    def recover(self) -> None:
        """Bring the log up to the state after a crash."""
        state = self.load()
        if state is None:
            return
        lines = self._log.read_bytes() if self._log.exists() else b""
        whole = lines[: lines.rfind(b"\n") + 1]
        if whole != lines:
            os.truncate(self._log, len(whole))
        last = json.loads(whole.splitlines()[-1])["n"] if whole else 0
        if last > state.written or last < state.written - 1:
            raise StoreDamaged(f"{self._log}: log at {last}, state at {state.written}")
        if last < state.written and state.last_write is not None:
            self._append(state.last_write)

    def read_log(self) -> list[dict[str, Any]]:
        """Every write so far, also one that a crash kept out of the log. Changes nothing.

        The state is read first: the log may have grown since, but lacks one line at most.
        """
        state = self.load()
        lines = self._log.read_bytes() if self._log.exists() else b""
        writes = [json.loads(line) for line in lines[: lines.rfind(b"\n") + 1].splitlines()]
        if state is not None and state.last_write is not None and state.written > len(writes):
            writes.append(state.last_write)
        return writes

    def _replace(self, state: State, *, sync: bool) -> None:
        temporary = self._folder / f"{self.device_no}.tmp"
        with open(temporary, "wb", opener=_private) as file:
            file.write(json.dumps(state.to_json()).encode())
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(self._state)
        if sync:
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _append(self, write: dict[str, Any]) -> None:
        with open(self._log, "ab", opener=_private) as file:
            file.write(json.dumps(write, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


class DiskStore(StateStore[CardState]):
    """The files of a simulated card."""

    def __init__(self, folder: Path, device_no: str) -> None:
        super().__init__(folder, device_no, CardState.from_json)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
