"""kill −9 around PIN rolls, again and again, and after each: where is the card's PIN?

    python -m tests.reliability.pin_kills --runs 300 [--seed N]

A reader machine in a folder (real rack process, real children, the worker's fake server) clears one
disk after another; each run is killed around its rolls: at a line of our code, chosen from the list
that a clean run leaves; while the card has the command, before or after it acts; or at a random
moment. Then the machine starts again: the journal goes to the server, and the disk gets its next
run. What is believed is the card's own file.

The promise: the server knows the card's PIN, or the journal shows the window, the server was told
``pin_unknown``, the last PIN is kept, and the next run sends the card nothing that needs one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearing.wire import Order
from clearing.worker.deliver import flush
from clearing.worker.pinbook import PinEntry, PinState
from clearing.worker.steady import steady
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.house import PIN, Child, House, Street

VERIFY = "VERIFY_FISCAL_PIN"
_VICTIM = (sys.executable, "-m", "tests.reliability.pin_victim")
_HANGS = tuple(itertools.product((Mode.HANG_BEFORE, Mode.HANG_AFTER), (0, 1)))
# Of ten kills: these at a line, these inside the command, the rest at a random moment.
_AT_LINES, _IN_COMMAND = 6, 1


@dataclass
class Count:
    """What came of the kills. ``ends``: by how the journal stood; ``violations``: what must not
    be."""

    runs: int = 0
    lines: int = 0
    where: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def text(self) -> str:
        where = ", ".join(f"{many} {name}" for name, many in sorted(self.where.items()))
        ends = ", ".join(f"{many} {name}" for name, many in sorted(self.ends.items()))
        return (
            f"{self.runs} kills around a PIN roll ({where}; {self.lines} lines to choose from): "
            f"{ends}; {len(self.violations)} violations"
        )


class Trial:
    """The machine, one disk after another."""

    def __init__(self, house: House, take: Callable[[], Any], chance: random.Random) -> None:
        self.house = house
        self._take = take
        self._chance = chance
        self._ids = itertools.count(1)
        self._lines: list[str] = []
        self._seconds = 0.0

    def clean(self, places: Path) -> int:
        """A run nobody kills: how many lines there are around its rolls, and how long they take."""
        child = self.child(self.fresh(), *_VICTIM, "0", str(places))
        child.finish()
        self._lines = json.loads(places.read_text(encoding="utf-8"))
        child = self.child(self.fresh())
        self._intends(child)
        began = steady()
        child.finish()
        self._seconds = steady() - began
        return len(self._lines)

    def kill(self, number: int, count: Count) -> None:
        """One run killed, and looked at."""
        order = self.fresh()
        kind = number % 10
        if kind < _AT_LINES:
            # The golden ratio spreads any number of points evenly, and never the same way twice.
            point = int((number * 0.618_034 + self._chance.random() / 50) % 1 * len(self._lines))
            where, said = "at a line", self._lines[point]
            self.child(order, *_VICTIM, str(point + 1)).finish()
        elif kind < _AT_LINES + _IN_COMMAND:
            mode, skip = _HANGS[number // 10 % len(_HANGS)]
            where, said = "inside the command", f"{mode} {skip}"
            self.house.rack.fault(order.device_no, mode, command=VERIFY, skip=skip, seconds=60)
            child = self.child(order)
            self.house.wait_until_hanging()
            child.kill()
        else:
            after = self._chance.uniform(0, self._seconds)
            where, said = "at a random moment", f"{after:.4f} s"
            child = self.child(order)
            self._intends(child)
            threading.Event().wait(after)
            child.kill()
        self.house.wait_until_free()
        count.runs += 1
        count.where[where] += 1
        end, wrong = self.look(order)
        count.ends[end] += 1
        count.violations += [
            f"run {order.run_id} killed {where} ({said}): {text}" for text in wrong
        ]

    # -- after the kill -----------------------------------------------------------------------

    def look(self, order: Order) -> tuple[str, list[str]]:
        """How the journal stands, and what is wrong with that."""
        entry = self.house.journal.pins.get(order.device_no)  # before anything is delivered
        with self.house.client() as client:
            flush(self.house.journal, client)
        wrong = list(self._untold(order.attempt))
        if entry is not None and entry.state == PinState.OPEN:
            return self._window(order, entry, wrong)
        generation, pin = self._told(order)
        if not self.house.holds_pin(pin):
            wrong.append("the PIN is lost: the server's is not the card's")
        elif entry is not None and entry.generation != generation:
            wrong.append(f"the journal is at {entry.generation}, the server at {generation}")
        code = self._next(order, generation, pin)
        if code or self.house.disk().clears != 1:
            wrong.append(f"the next run ends {code}, {self.house.disk().clears} clears")
        return f"known to the server ({generation - 1} rolls)", wrong

    def _window(self, order: Order, entry: PinEntry, wrong: list[str]) -> tuple[str, list[str]]:
        """The stated exception: it must be told, keep the last PIN, and send nothing."""
        facts = self.house.server.pins_of(order.attempt)
        if {"generation": entry.generation, "unknown": True} not in facts:
            wrong.append("an open window that the server was not told of")
        rolls = self.house.disk().pin_generation
        rolled = rolls == entry.generation
        if not rolled and not self.house.holds_pin(entry.value):
            wrong.append("the card never rolled, and its PIN is not kept")
        # Even if the server gave the old PIN out again, this machine sends it to nobody.
        code = self._next(order, entry.generation, entry.value)
        if code != "pin_unknown" or self.house.disk().pin_generation != rolls:
            wrong.append(f"after an open window the next run ends {code}")
        return f"in the window, told (the card {'had' if rolled else 'had not'} rolled)", wrong

    def _untold(self, attempt: str) -> Iterator[str]:
        """Rolls that the server permitted and was never told the end of."""
        calls = self.house.server.of("intend")
        asked = sum(c.body["attempt"] == attempt and bool(c.body["rolls_pin"]) for c in calls)
        if (ends := len(self.house.server.pins_of(attempt))) < asked:
            yield f"{asked} rolls permitted, {ends} told"

    def _told(self, order: Order) -> tuple[int, bytes]:
        """The newest PIN that the server has."""
        facts = [fact for fact in self.house.server.pins_of(order.attempt) if "pin" in fact]
        if not facts:
            return order.pin_generation, PIN
        newest = max(facts, key=lambda fact: int(fact["generation"]))
        return int(newest["generation"]), bytes.fromhex(newest["pin"])

    def _next(self, order: Order, generation: int, pin: bytes) -> str:
        """The disk's next run with what the server has; the code that it ends with."""
        again = self.house.order(
            next(self._ids), device_password=pin.hex(), pin_generation=generation
        )
        self.house.rack.clear_faults(order.device_no)
        self.child(again).finish()
        calls = self.house.server.of("settle")
        ends = [c.body["outcome"] for c in calls if c.body["attempt"] == again.attempt]
        return str(ends[-1]["code"] or "") if ends else "not at all"

    # -- runs ---------------------------------------------------------------------------------

    def fresh(self) -> Order:
        self.house.alices = self._take()
        return self.house.order(next(self._ids))

    def child(self, order: Order, *command: str) -> Child:
        return self.house.child(order, command=command) if command else self.house.child(order)

    def _intends(self, child: Child) -> None:
        """Wait until the run has asked for its first roll."""
        server, attempt = self.house.server, child.order.attempt
        while not any(call.body["attempt"] == attempt for call in server.of("intend")):
            threading.Event().wait(0.002)


@contextmanager
def machine(runs: int, seed: int = 0) -> Iterator[Trial]:
    """A machine with a disk for each of ``runs`` runs, its bureau and its server."""

    class LongStreet(Street):
        CARDS = runs + 2  # a house takes two

    with tempfile.TemporaryDirectory(prefix="qk-") as folder, ExitStack() as ends:
        street = LongStreet(Path(folder))
        ends.callback(street.close)
        street.start()
        house = House(street, Path(folder))
        ends.callback(house.close)
        yield Trial(house, street.take, random.Random(seed))


def run(runs: int, seed: int, *, told: Callable[[str], object] = bool) -> Count:
    """Kill ``runs`` times; ``told`` is called with a word every fifty."""
    count = Count()
    with machine(runs + 2, seed) as trial, tempfile.NamedTemporaryFile() as places:
        count.lines = trial.clean(Path(places.name))
        for number in range(runs):
            trial.kill(number, count)
            if count.runs % 50 == 0:
                told(count.text())
    return count


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability.pin_kills")
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    count = run(options.runs, options.seed, told=lambda text: print(text, flush=True))
    print(count.text())
    print("\n".join(count.violations))
    return 1 if count.violations else 0


if __name__ == "__main__":
    sys.exit(main())
