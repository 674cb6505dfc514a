"""Who is plugged in where: told to the server on every change and every few seconds.

Owns the picture of the slots. It looks at the readers cheaply and often; a disk is opened once,
when it is new, by a probe process that can be ended, under the slot's lock; for a slot in a run it
repeats what is known. Disks that no look can see (behind a component or a switch) are asked now and
then. A reader that hangs is handed to the ladder. The answer says how many runs may start: the
second bell, so that a deaf broker connection costs seconds. It sends no password, and never waits
for a hung reader itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from clearing.wire import Order
from clearing.worker.client import ServerClient, ServerError
from clearing.worker.config import MachineConfig
from clearing.worker.ladder import Found, Ladder
from clearing.worker.overseer import Verdict
from clearing.worker.places import Places
from clearing.worker.prober import probe_slots
from clearing.worker.readers import BLIND, Readers, readers_of
from clearing.worker.rungs import Rung
from clearing.worker.runner import Runner, place_of
from clearing.worker.steady import steady
from devices.protocol.failures import Code, Failure

log_ = logging.getLogger(__name__)

#: How often presence is told, unless the server says otherwise.
INTERVAL_SECONDS = 15.0
#: How often a disk that cannot be seen is asked who it is.
BLIND_SECONDS = 600.0
#: An empty slot that cannot be looked into is asked so many intervals apart, for a person may have
#: plugged something in; one of a group is not, because asking switches the box.
_EMPTY_INTERVALS = 2
#: A slot given up to a person is still asked, in so many intervals.
_GIVEN_UP_INTERVALS = 20
_LOOK_SECONDS = 0.5
_PRESENCE_SECONDS = 10.0
_FIRST_AGAIN_SECONDS = 1.0

Slot = dict[str, Any]

EMPTY: Slot = {"device_no": "", "tax_id": "", "kind": "", "terminal_no": None, "problem": ""}
# What a later look may find gone; a wrong or foreign card stays what it is until it is pulled.
_PASSING = {Code.NO_ANSWER, Code.DISK_IN_USE, Code.DEVICE_GARBLED, Code.MACHINE_FAULT}
# A run that ended so met something else than the picture says.
_SURPRISES = {Code.WRONG_DISK, Code.DISK_ABSENT, Code.FOREIGN_CARD, Code.NO_ANSWER}


class Inventory:
    """The slots of one machine and the thread that tells of them."""

    def __init__(
        self,
        config: MachineConfig,
        client: ServerClient,
        places: Places,
        runner: Runner,
        *,
        probe: Callable[[MachineConfig, list[str], Places], Mapping[str, Found]] = probe_slots,
        readers: Readers | None = None,
    ) -> None:
        self._config = config
        self._client = client
        self._places = places
        self._runner = runner
        self._probe = probe
        self._readers = readers or readers_of(config.hardware)
        self._version = worker_version()
        self._lock = threading.Lock()
        self._occupants: dict[str, str] = {}
        self._known: dict[str, Slot] = {}
        self._tried: dict[str, float] = {}
        self._stumbles: dict[str, int] = {}
        self._reachable = True
        self._prober: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._told: list[Slot] | None = None
        self._due = 0.0
        self._interval = INTERVAL_SECONDS
        self._last_error = ""
        self.ladder = Ladder(config, places, probe=probe, told=self._climbed)
        runner.ended = self.run_ended

    # -- from outside -------------------------------------------------------------------------

    def run(self) -> None:
        """Look and tell until :meth:`stop`; survives everything that a look or an answer raises."""
        while not self._stopped.is_set():
            try:
                self.step()
            except Exception as error:
                log_.error("inventory: %s", place_of(error))
            self._wake.wait(min(_LOOK_SECONDS, max(0.0, self._due - steady())))
            self._wake.clear()
        self._readers.close()

    def stop(self) -> None:
        self._stopped.set()
        self.ladder.stop()
        self._wake.set()

    def run_ended(self, order: Order, verdict: Verdict) -> None:
        """A run came to its end: look again where it met a surprise or was cut, and ask for the
        next one soon where it was not settled: at once, then at longer and longer intervals."""
        slot = order.slot
        with self._lock:
            if verdict.code in _SURPRISES:
                self._known.pop(slot, None)
            if verdict.code in _SURPRISES or verdict.cut or verdict.killed:
                self._tried.pop(slot, None)
            if verdict.told and verdict.code not in _SURPRISES:
                self._stumbles.pop(slot, None)
                return
            stumbles = self._stumbles[slot] = self._stumbles.get(slot, 0) + 1
            wait = 0.0 if stumbles == 1 else _FIRST_AGAIN_SECONDS * 2.0 ** min(stumbles - 2, 10)
            self._due = min(self._due, steady() + wait)
        self._wake.set()

    def step(self) -> None:
        """One look, and presence if something changed or it is time."""
        self._look()
        self._start_probe()
        slots = self.slots()
        with self._lock:
            due = steady() >= self._due
        if due or slots != self._told:
            self._tell(slots)

    # -- looking ------------------------------------------------------------------------------

    def slots(self) -> list[Slot]:
        """The picture as presence reports it. A slot not yet asked is reported without a disk."""
        with self._lock:
            return [{"name": name} | self._slot(name) for name in sorted(self._occupants)]

    def _slot(self, name: str) -> Slot:
        if not self._reachable:
            return EMPTY | {"problem": Code.NO_ANSWER.value}
        if (rung := self._places.rung(name)) is not None:
            return EMPTY | {"problem": rung.problem}
        return self._known.get(name, EMPTY) if self._occupants[name] else EMPTY

    def _look(self) -> None:
        try:
            seen = self._readers.look()
        except Failure as failure:
            if self._reachable:
                log_.warning("readers do not answer: %s", failure)
            self._reachable = False
            return
        with self._lock:
            self._reachable = True
            occupants = {slot: who for slot, who in seen.items() if self._config.takes(slot)}
            for slot in {*occupants, *self._occupants}:
                if occupants.get(slot) != self._occupants.get(slot):
                    self._known.pop(slot, None)
                    self._tried.pop(slot, None)
            self._occupants = occupants

    # -- asking -------------------------------------------------------------------------------

    def _start_probe(self) -> None:
        """Ask the slots that must be asked, in a thread of its own: a hung reader holds it up."""
        if self._prober is not None and self._prober.is_alive():
            return
        if wanted := self._wanted():
            self._prober = threading.Thread(
                target=self._probe_now, args=(wanted,), name="probe", daemon=True
            )
            self._prober.start()

    def _wanted(self) -> dict[str, str]:
        """Slots to be asked, with who seems to be in them."""
        left_alone = self._left_alone()
        now = steady()
        wanted: dict[str, str] = {}
        with self._lock:
            if not self._reachable:
                return {}
            for slot, occupant in self._occupants.items():
                if not occupant:
                    self._places.unmark(slot)  # whatever hung there was pulled out
                elif slot not in left_alone and self._must_ask(slot, now):
                    wanted[slot] = occupant
                    self._tried[slot] = now
        return wanted

    def _left_alone(self) -> frozenset[str]:
        """Slots in a run, with their groups, and those that the ladder sees to."""
        busy = {*self._runner.slots_in_use(), *self.ladder.climbing()}
        for group in self._config.groups:
            if not busy.isdisjoint(group.slots):
                busy |= set(group.slots)
        return frozenset(busy)

    def _must_ask(self, slot: str, now: float) -> bool:
        tried = self._tried.get(slot)
        since = float("inf") if tried is None else now - tried
        rung = self._places.rung(slot)
        if rung is not None:
            intervals = _GIVEN_UP_INTERVALS if rung == Rung.PERSON else 1
            return since >= intervals * self._interval and not self._places.rests(slot)
        known = self._known.get(slot)
        if known is None or known["problem"] in _PASSING:
            return since >= self._interval
        if self._occupants[slot] != BLIND:
            return False
        empty = not known["device_no"] and self._config.hardware.group_of(slot) is None
        return since >= (_EMPTY_INTERVALS * self._interval if empty else BLIND_SECONDS)

    def _probe_now(self, wanted: Mapping[str, str]) -> None:
        try:
            found = self._probe(self._config, list(wanted), self._places)
        except Exception as error:
            log_.error("probe: %s", place_of(error))
            return
        for slot, answer in found.items():
            self._note(slot, answer, wanted[slot])
            if answer.get("hung"):
                self.ladder.take(slot)
        self._wake.set()

    def _note(self, slot: str, answer: Found, occupant: str) -> None:
        known = {name: answer[name] for name in EMPTY}
        if occupant == BLIND and known["problem"] == Code.DISK_ABSENT:
            known = dict(EMPTY)
        with self._lock:
            if self._occupants.get(slot) == occupant:  # else it was swapped meanwhile
                self._known[slot] = known

    def _climbed(self, slot: str, answer: Found | None) -> None:
        """The ladder reached a rung, or its end."""
        if answer is not None:
            self._note(slot, answer, self._occupants.get(slot, ""))
        self._wake.set()

    # -- telling ------------------------------------------------------------------------------

    def _tell(self, slots: list[Slot]) -> None:
        with self._lock:
            self._due = steady() + self._interval
        try:
            self._runner.flush()
            answer = self._client.presence(self._version, slots, within=_PRESENCE_SECONDS)
        except ServerError as error:
            if str(error) != self._last_error:
                log_.warning("presence not told: %s", error)
            self._last_error = str(error)
            self._told = slots  # again when it is time, not at every look
            return
        self._last_error = ""
        self._told = slots
        self._interval = float(answer.get("interval") or INTERVAL_SECONDS)
        with self._lock:
            self._due = min(self._due, steady() + self._interval)
        self._runner.set_limit(int(answer.get("parallel") or self._config.parallel))
        self._runner.start(int(answer.get("runnable") or 0))


def worker_version() -> str:
    """At most 20 characters."""
    try:
        return version("qingka")[:20]
    except PackageNotFoundError:  # run from a checkout
        return "0+checkout"
