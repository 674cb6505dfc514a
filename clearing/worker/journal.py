"""The reader machine's journal: what the server has not been told yet, safe on this machine.

Owns one log per attempt (``journal/<run>-<attempt>.log``), the book of PINs and the machine-local
key that seals both. Shared by the worker and its children; a log belongs to who holds its lock.

Why a crash at any point loses nothing:

- A line is sealed, then written and fsync'd before the caller goes on. A crash in the middle leaves
  a torn last line: it does not open, its caller never went on, and it is cut off.
- The seal of a line names its log and its place, so that lines cannot be swapped or dropped in the
  middle without being noticed.
- The lock of a log ends with its process. Who can take the lock knows that the attempt is dead,
  and delivers what is left (``deliver``). Until then nobody but the owner touches it.
- ``sent`` lines are written after the server's answer. Losing one means delivering twice, which is
  harmless; facts are removed with their log, after the attempt's end was answered.
- A PIN rests on its own file (``pinbook``); the facts about it are derived from there if the crash
  came between the two.

Must never: throw away a fact that was not delivered, or write one unsealed.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from agency.sealing import KeyRing, SealError
from clearing.wire import FactKind, Outcome
from clearing.worker import durable
from clearing.worker.pinbook import PinBook, PinEntry, PinState
from devices.protocol.failures import Code, Failure

_LOG_NAME = re.compile(r"(\d+)-([0-9A-Za-z-]{1,64})\.log")


_OPEN_SECONDS = 1.0
_STALE_SECONDS = 86_400.0


class Busy(Exception):
    """Another process owns this attempt."""


class Journal:
    """The journal of one machine, below ``data_dir``."""

    def __init__(self, data_dir: Path) -> None:
        private = durable.private_dir(data_dir)
        self._folder = durable.private_dir(private / "journal")
        self._ring = _machine_key(private / "journal.key")
        self.pins = PinBook(private / "pins", self._ring)

    def open(self, run_id: int, attempt: str, device_no: str) -> AttemptLog:
        """The log of an attempt, made where it is missing, owned by this process.

        Raises Busy, Failure(machine_fault)."""
        path = self._folder / f"{run_id}-{attempt}.log"
        if not _LOG_NAME.fullmatch(path.name):
            raise Failure(Code.MACHINE_FAULT, detail="attempt id")
        until = time.monotonic() + _OPEN_SECONDS
        while (log := self._take(path, create=True)) is None:
            if time.monotonic() > until:
                raise Busy(path.name)
            time.sleep(0.01)  # who looks for dead logs holds each for a moment
        log.start(device_no)
        return log

    def dead(self) -> Iterator[AttemptLog]:
        """Logs of attempts that no live process holds, oldest run first; close each."""
        names = sorted(os.listdir(self._folder), key=lambda name: (len(name), name))
        for name in names:
            if _LOG_NAME.fullmatch(name):
                log = self._take(self._folder / name, create=False)
                if log is not None and log.started:
                    yield log
                elif log is not None:  # nothing was ever written: its owner may be about to
                    log.remove_if_stale()
                    log.close()

    def _take(self, path: Path, *, create: bool) -> AttemptLog | None:
        while True:
            if not create and not path.exists():
                return None
            fresh = not path.exists()
            descriptor = durable.open_private(path, append_only=True)
            if not durable.try_lock(descriptor):
                os.close(descriptor)
                return None
            if os.fstat(descriptor).st_nlink:
                if fresh:
                    durable.sync_dir(self._folder)
                return AttemptLog(path, descriptor, self._ring)
            os.close(descriptor)  # delivered and removed between the opening and the lock


class AttemptLog:
    """What one attempt did, line by line; the only writer is the process that holds the lock."""

    def __init__(self, path: Path, descriptor: int, ring: KeyRing) -> None:
        match = _LOG_NAME.fullmatch(path.name)
        assert match is not None  # noqa: S101 - only Journal makes these
        self.run_id = int(match[1])
        self.attempt = match[2]
        self.device_no = ""
        self.outcome: Outcome | None = None
        self.detail = ""
        self.started = False
        self._path = path
        self._descriptor = descriptor
        self._ring = ring
        self._facts: list[dict[str, Any]] = []
        self._sent = 0
        self._lines = 0
        # The generation a roll was asked for and, since then, not told about.
        self._asked: int | None = None
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing ----------------------------------------------------------------------------

    def start(self, device_no: str) -> None:
        if not self.started:
            self._write({"start": device_no})

    def add(self, kind: FactKind, data: Mapping[str, Any]) -> None:
        """Note a fact; returns after it is safe. Raises OSError."""
        self._write({"fact": {"number": len(self._facts) + 1, "kind": kind, "data": dict(data)}})

    def ask_roll(self, generation: int) -> None:
        """Note that the server is about to be asked to let this PIN roll."""
        self._write({"asked": generation})

    def withdraw_roll(self) -> None:
        """The server did not permit it, and so made no intent."""
        self._write({"asked": None})

    def mark_sent(self, number: int) -> None:
        """The server has every fact up to this number."""
        if number > self._sent:
            self._write({"sent": number})

    def end(self, outcome: Outcome | None, detail: str = "") -> None:
        """Note how the attempt ends: by an outcome to settle, or, without one, by a release."""
        self._write({"end": {"outcome": outcome and outcome.to_json(), "detail": detail}})

    def remove(self) -> None:
        """Everything was delivered."""
        self._path.unlink()

    def remove_if_stale(self) -> None:
        """Clear away a log whose owner died before its first line, long ago."""
        if os.fstat(self._descriptor).st_mtime < time.time() - _STALE_SECONDS:
            self.remove()

    def set_aside(self) -> None:
        """The server does not know the run (any more): kept for a person, out of the way."""
        folder = durable.private_dir(self._path.parent.with_name("undeliverable"))
        os.replace(self._path, folder / self._path.name)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # -- reading ----------------------------------------------------------------------------

    @property
    def undelivered(self) -> list[dict[str, Any]]:
        """Facts the server has not confirmed, in order."""
        return [fact for fact in self._facts if fact["number"] > self._sent]

    @property
    def last_number(self) -> int:
        return len(self._facts)

    @property
    def asked_roll(self) -> int | None:
        """The generation whose roll is permitted or asked for, and not yet told about."""
        return self._asked

    def tell_pin(self, pins: PinBook) -> None:
        """Note what the book of PINs says of this attempt and no fact says yet.

        A window found open becomes ``unknown``, even if the card never saw the command. A roll that
        was asked for and never begun becomes ``refused``: the card kept its PIN, and the server's
        intent may close."""
        with contextlib.suppress(Failure):  # unreadable: its facts wait with it, the others go
            entry = pins.get(self.device_no)
            if entry is not None and (entry.run_id, entry.attempt) == (self.run_id, self.attempt):
                data = pin_fact(entry)
                if not any(fact["data"] == data for fact in self._facts if fact["kind"] == "pin"):
                    self.add(FactKind.PIN, data)
            if self._asked is not None:
                self.add(FactKind.PIN, {"generation": self._asked, "refused": True, "sent": False})

    # -- lines ------------------------------------------------------------------------------

    def _write(self, record: Mapping[str, Any]) -> None:
        plain = json.dumps(record, ensure_ascii=False).encode()
        sealed = self._ring.seal(plain, context=self._context())
        durable.append(self._descriptor, base64.b64encode(sealed) + b"\n")
        self._apply(json.loads(plain))

    def _load(self) -> None:
        content = self._path.read_bytes()
        good = 0
        for line in content.splitlines(keepends=True):
            record = self._opened(line)
            if record is None:
                break
            self._apply(record)
            good += len(line)
        if good == len(content):
            return
        if b"\n" in content[good:]:  # not a torn end: somebody's hand, or a failing disk
            folder = durable.private_dir(self._path.parent.with_name("undeliverable"))
            durable.replace(folder / f"{self._path.name}.damaged", content)
        os.ftruncate(self._descriptor, good)

    def _opened(self, line: bytes) -> dict[str, Any] | None:
        if not line.endswith(b"\n"):
            return None
        try:
            sealed = base64.b64decode(line[:-1], validate=True)
            record = json.loads(self._ring.open(sealed, context=self._context()))
        except (binascii.Error, SealError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def _context(self) -> str:
        return f"log:{self._path.name}:{self._lines}"

    def _apply(self, record: Mapping[str, Any]) -> None:
        self._lines += 1
        if "start" in record:
            self.device_no = record["start"]
            self.started = True
        elif "fact" in record:
            fact = record["fact"]
            self._facts.append(fact)
            if fact["kind"] == "pin" and self._asked is not None and _answers(fact, self._asked):
                self._asked = None
        elif "asked" in record:
            self._asked = record["asked"]
        elif "sent" in record:
            self._sent = record["sent"]
        elif "end" in record:
            outcome = record["end"]["outcome"]
            self.outcome = None if outcome is None else Outcome.from_json(outcome)
            self.detail = record["end"]["detail"]


def pin_fact(entry: PinEntry) -> dict[str, Any]:
    """What the server is told of an entry in the book of PINs."""
    if entry.state == PinState.ROLLED:
        return {"generation": entry.generation, "pin": entry.value.hex()}
    said = "unknown" if entry.state == PinState.OPEN else "refused"
    return {"generation": entry.generation, said: True}


def _answers(fact: Mapping[str, Any], asked: int) -> bool:
    generation: int = fact["data"]["generation"]
    return generation == asked + 1 if "pin" in fact["data"] else generation == asked


def _machine_key(path: Path) -> KeyRing:
    """The key of this machine, made at the first start. Raises SealError, OSError."""
    if not path.exists():
        durable.create(path, KeyRing.generate().encode())
    return KeyRing.parse(path.read_text("ascii"))
