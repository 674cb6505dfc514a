"""What goes wrong where: one plan per disk, a file that outlives every process it kills.

A *place* is one command or call of a run, named by what was under way and what went over the wire,
and numbered within its name: ``disk.clear.UPDATE_CONTROLS#1``, ``bureau.QLJS#1``,
``server.intend#2``. A plan is a list of *steps*, a place and a way each; the next one waits until
the last has struck, and places are counted anew from there. Every call is written to the disk's
trace before it is made: the trace of a run in which nothing goes wrong is the list of its places.
"""

from __future__ import annotations

import enum
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class Way(enum.StrEnum):
    """How a call goes wrong."""

    ERROR = "error"  # it fails before it took effect
    LOST = "lost"  # it takes effect, and the answer is lost
    KILLED_BEFORE = "killed_before"  # SIGKILL of the process that makes it, before it
    KILLED_AFTER = "killed_after"  # the same once it took effect
    # It hangs until its time limit; what changes something has taken effect before that. A hang
    # that takes effect only after its limit is none of these.
    HANG = "hang"
    # The same two, with the whole worker of the reader machine.
    MACHINE_BEFORE = "machine_before"
    MACHINE_AFTER = "machine_after"
    # It stands still before the call until its lease is long over, and then goes on.
    STALLED = "stalled"
    # A person cancels the run once the call took effect, and then its process is killed.
    CANCELLED = "cancelled"


#: Each of these at every place.
FIVE = (Way.ERROR, Way.LOST, Way.KILLED_BEFORE, Way.KILLED_AFTER, Way.HANG)
OF_MACHINE = (Way.MACHINE_BEFORE, Way.MACHINE_AFTER, Way.STALLED)
CLAIM = "server.claim"


@dataclass(frozen=True, slots=True)
class Step:
    """One fault to come."""

    place: str
    way: Way


def write_plan(folder: Path, device_no: str, machine: str, steps: Sequence[Step]) -> None:
    """Make a disk's plan. Its trace begins with its first call."""
    plan = {"machine": machine, "steps": [[step.place, step.way] for step in steps]}
    path = folder / f"{device_no}.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(plan), encoding="utf-8")
    temporary.replace(path)


class Plan:
    """The plan of one disk, as a process of its run sees it. A disk without one has no faults."""

    def __init__(self, folder: Path, device_no: str) -> None:
        self._folder, self._device_no = folder, device_no
        try:
            raw = json.loads((folder / f"{device_no}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raw = {"machine": "", "steps": []}
        self.machine: str = raw["machine"]
        self._steps = [Step(place, Way(way)) for place, way in raw["steps"]]
        self._struck = struck(folder, device_no)
        self._counts = Counter(
            place.partition("#")[0] for place in trace(folder, device_no, self._struck)
        )

    @property
    def next_place(self) -> str:
        """Where it strikes next; empty where nothing is left."""
        left = self._steps[self._struck :]
        return left[0].place if left else ""

    @property
    def cancelled(self) -> bool:
        """Whether a person has cancelled its run."""
        return _cancel_mark(self._folder, self._device_no).exists()

    def pass_by(self, name: str) -> Way | None:
        """A call is about to be made: trace it, and say what is to go wrong with it. Once for each
        step, however often it is asked and whoever is killed."""
        self._counts[name] += 1
        place = f"{name}#{self._counts[name]}"
        self._append("trace", f"{self._struck} {place}")
        if place != self.next_place:
            return None
        way = self._steps[self._struck].way
        self._append("struck", f"{place} {way}")
        self._struck += 1
        self._counts.clear()
        return way

    def _append(self, suffix: str, line: str) -> None:
        path = self._folder / f"{self._device_no}.{suffix}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode() + b"\n")
        finally:
            os.close(descriptor)


def trace(folder: Path, device_no: str, step: int) -> list[str]:
    """The places that were passed after so many steps had struck, in their order."""
    lines = _lines(folder / f"{device_no}.trace")
    return [
        place for number, _, place in (line.partition(" ") for line in lines) if int(number) == step
    ]


def struck(folder: Path, device_no: str) -> int:
    """How many steps of the plan have struck."""
    return len(_lines(folder / f"{device_no}.struck"))


def mark_cancelled(folder: Path, device_no: str) -> None:
    """Tell the process of a disk's run that a person has cancelled it."""
    _cancel_mark(folder, device_no).touch()


def _cancel_mark(folder: Path, device_no: str) -> Path:
    return folder / f"{device_no}.cancelled"


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="ascii").splitlines() if path.exists() else []
