"""What is done about a reader that hangs, rung by rung: architecture.md § Ladder.

re-open → new context → restart of the reader service → power-cycle → a person. The first is the
probe that every cut call is followed by, the second is another one (a process and a context of its
own); the other two are commands of the configuration. Owns the order, the bounds and the log. Each
slot climbs once until it answers; there are only so many restarts an hour, and one that came while
a slot already hung counts for that slot, too.

Must never: restart what other disks hang on while one of them is between its intent and its
read-back, climb for a disk that merely gives no good answer, or send a disk anything itself.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clearing.worker.config import LADDER_COMMAND_SECONDS, MachineConfig
from clearing.worker.gate import Gate
from clearing.worker.hardware import filled
from clearing.worker.places import Places
from clearing.worker.rungs import Rung
from clearing.worker.steady import steady
from devices.protocol.failures import Code

log_ = logging.getLogger(__name__)

Found = Mapping[str, Any]
Probe = Callable[[MachineConfig, list[str], Places], Mapping[str, Found]]
Told = Callable[[str, Found | None], None]

RESTARTS_PER_HOUR = 4
_HOUR = 3600.0
#: How long readers may need to be back after a restart.
SETTLE_SECONDS = 15.0
_SETTLE_PAUSE = 0.5


class Ladder:
    """Climbs for one slot after another, in a thread that lives while there is one."""

    def __init__(self, config: MachineConfig, places: Places, *, probe: Probe, told: Told) -> None:
        """``told`` is called with a slot and what is in it, or with None when a rung was reached
        or a person must look: from the ladder's thread."""
        self._config = config
        self._places = places
        self._gate = Gate(config.data_dir)
        self._probe = probe
        self._told = told
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, float]] = deque()
        self._climbing: set[str] = set()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._restarts: deque[float] = deque(maxlen=RESTARTS_PER_HOUR)

    def take(self, slot: str) -> None:
        """The slot hangs, and its probe does. Returns at once."""
        if self._places.rung(slot) == Rung.PERSON:
            return
        with self._lock:
            if slot in self._climbing or self._stopped.is_set():
                return
            self._climbing.add(slot)
            self._waiting.append((slot, steady()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="ladder", daemon=True)
                self._thread.start()

    def climbing(self) -> frozenset[str]:
        """Slots that are being seen to, or will be."""
        with self._lock:
            return frozenset(self._climbing)

    def stop(self) -> None:
        """Begin no further rung."""
        self._stopped.set()

    def wait(self) -> None:
        """Until nothing is left to climb for."""
        while (thread := self._thread) is not None:
            thread.join()

    # -- the climb ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                slot, since = self._waiting.popleft()
            found: Found | None = None
            try:
                found = self._climb(slot, since)
            except Exception as error:
                log_.error("slot %s: ladder: %s", slot, type(error).__name__)
            with self._lock:
                self._climbing.discard(slot)
            self._told(slot, found)

    def _climb(self, slot: str, since: float) -> Found | None:
        """What is in the slot after the rung that helped, or None."""
        until: float | None = None
        for rung in Rung:
            if rung <= (self._places.rung(slot) or Rung.REOPEN):
                continue
            if self._stopped.is_set() or not self._places.is_marked(slot):  # it was pulled out
                return None
            if rung == Rung.PERSON or not self._is_possible(rung, since):
                continue
            self._places.climb(slot, rung)
            self._told(slot, None)
            log_.warning("slot %s: ladder: %s", slot, rung.name.lower())
            if rung != Rung.CONTEXT:
                until = until or steady() + self._config.ladder_seconds
                if not self._act(rung, slot, until):
                    continue
            found = self._answer(slot, patient=rung != Rung.CONTEXT)
            if found is not None:
                log_.warning("slot %s: answers after %s", slot, rung.name.lower())
                return found
        self._places.climb(slot, Rung.PERSON)
        log_.error("slot %s: a person must look at it", slot)
        return None

    def _is_possible(self, rung: Rung, since: float) -> bool:
        if rung == Rung.POWER:
            return bool(self._config.power_cycle)
        if rung == Rung.SERVICE:
            restarts = self._restarts
            if restarts and restarts[-1] > since:
                return False  # it was restarted since the slot hangs
            often = len(restarts) == RESTARTS_PER_HOUR and steady() - restarts[0] < _HOUR
            if often:
                log_.error("reader service: restarted %d times within the hour", len(restarts))
            return bool(self._config.restart_service) and not often
        return True

    def _act(self, rung: Rung, slot: str, until: float) -> bool:
        """The command of a rung; whether it was run and ended well."""
        if rung == Rung.POWER and self._config.power_cycle_alone:
            return self._command(self._config.power_cycle, slot)
        within = max(0.0, until - steady())
        with self._gate.closed(within, self._stopped.is_set) as alone:
            if not alone:
                log_.error("slot %s: others are being written, not cut: %s", slot, rung.name)
                return False
            if rung == Rung.POWER:
                return self._command(self._config.power_cycle, slot)
            self._restarts.append(steady())
            return self._command(self._config.restart_service, slot)

    def _command(self, command: tuple[str, ...], slot: str) -> bool:
        try:
            done = subprocess.run(
                filled(command, slot),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=LADDER_COMMAND_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log_.error("slot %s: %s: %s", slot, command[0], type(error).__name__)
            return False
        if done.returncode:
            log_.error("slot %s: %s ended with %s", slot, command[0], done.returncode)
        return done.returncode == 0

    def _answer(self, slot: str, *, patient: bool) -> Found | None:
        """Ask the slot. ``patient``: readers that were restarted are not back at once; one that
        hangs again is not waited for."""
        until = steady() + (SETTLE_SECONDS if patient else 0.0)
        while True:
            found = _one(self._probe, self._config, slot, self._places)
            if found is not None and found["problem"] != Code.NO_ANSWER:
                return found
            hung = found is not None and found.get("hung", False)
            if hung or steady() >= until or self._stopped.wait(_SETTLE_PAUSE):
                return None


def _one(probe: Probe, config: MachineConfig, slot: str, places: Places) -> Found | None:
    slots: Sequence[str] = [slot]
    return probe(config, list(slots), places).get(slot)
