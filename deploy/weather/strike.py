"""Does to the house what the schedule says, each accident in a thread of its own, and mends it.

Owns how an accident is done with real processes, cards and cables; what happened is counted, with
what could not be done and why. Nothing here draws lots.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

import httpx
import redis

from clearing.bureau.standin.control import send
from deploy.embedded import EmbeddedPostgres, EmbeddedValkey
from deploy.weather.house import BUREAU_PROCESS, SWEEPER, WEB, House
from deploy.weather.schedule import CUTS, Accident, Kind
from devices.protocol.failures import Failure
from devices.simulator.component_client import ComponentControl
from devices.simulator.rack_client import RackControl, list_slots

log = logging.getLogger("storm")

_PATIENCE_SECONDS = 60.0
_AGAIN_SECONDS = 0.3
_HAND_SECONDS = 1.0  # between pulling two cards and plugging each in where the other was
_MODES: dict[Kind, tuple[str, int | bool]] = {
    Kind.BUREAU_SLOW: ("slow_ms", 3000),
    Kind.BUREAU_DOWN: ("down", True),
    Kind.BUREAU_DOUBLE: ("double", True),
    Kind.BUREAU_GARBLED: ("garbage", True),
}
_PROCESSES = {
    Kind.WEB_KILLED: WEB,
    Kind.SWEEPER_KILLED: SWEEPER,
    Kind.BUREAU_KILLED: BUREAU_PROCESS,
}


class Striker:
    """Plays a schedule on a running house."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._cards = threading.Lock()
        self._counting = threading.Lock()
        self.done: Counter[str] = Counter()
        self.undone: list[str] = []
        self.failures: list[str] = []

    def play(self, accidents: Sequence[Accident], began: float, tick: Callable[[], None]) -> None:
        """Returns when the last accident is mended; ``tick`` is called about twice a second."""
        threads = []
        for accident in accidents:
            while (rest := began + accident.at - time.monotonic()) > 0:
                time.sleep(min(rest, 0.5))
                tick()
            thread = threading.Thread(
                target=self._one, args=(accident,), name=accident.kind, daemon=True
            )
            thread.start()
            threads.append(thread)
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.2)
            tick()

    def _one(self, accident: Accident) -> None:
        said = f"{accident.kind} {' '.join(accident.target)} {accident.lasts:.1f} s"
        log.info("%s", said)
        try:
            with self._alone(accident):
                refusal = self._do(accident)
        except Exception as error:  # the storm itself is broken: said at the end, never lost
            log.exception("%s", said)
            with self._counting:
                self.failures.append(f"{said}: {error!r}")
            return
        with self._counting:
            if refusal:
                self.undone.append(f"{said}: {refusal}")
            else:
                self.done[accident.kind.value] += 1

    @contextlib.contextmanager
    def _alone(self, accident: Accident) -> Iterator[None]:
        """One accident at a time on the same thing, should one take longer than foreseen."""
        names = [" ".join(accident.target)] if accident.kind in CUTS else sorted(accident.target)
        with contextlib.ExitStack() as held:
            for name in names:
                with self._counting:
                    lock = self._locks[name]
                held.enter_context(lock)
            yield

    def _do(self, accident: Accident) -> str:
        """Do it and mend it; why it could not be done, or empty."""
        house, kind = self._house, accident.kind
        if kind in CUTS:
            self._cut(accident)
        elif kind is Kind.MACHINE_KILLED:
            self._kill(accident.target[0], accident.lasts)
        elif kind in _PROCESSES:
            self._kill(_PROCESSES[kind], accident.lasts)
        elif kind is Kind.WEB_RESTARTED:
            house.end(WEB)
            house.begin(WEB)
        elif kind in _MODES:
            self._bureau(*_MODES[kind], accident.lasts)
        elif kind is Kind.REDIS_FLUSHED:
            return self._flush()
        elif kind in {Kind.REDIS_RESTARTED, Kind.REDIS_KILLED}:
            _down(house.valkey, kind is Kind.REDIS_KILLED, accident.lasts)
        elif kind in {Kind.POSTGRES_RESTARTED, Kind.POSTGRES_KILLED}:
            _down(house.postgres, kind is Kind.POSTGRES_KILLED, accident.lasts)
        elif kind is Kind.DISK_PULLED:
            return self._pull(accident.target[0], accident.lasts)
        elif kind is Kind.DISKS_SWAPPED:
            return self._swap(*accident.target)
        else:
            machine, daemon = accident.target
            house.readers[machine].restart(int(daemon))
        return ""

    # -- processes ------------------------------------------------------------------------------

    def _kill(self, name: str, lasts: float) -> None:
        self._house.kill(name)
        time.sleep(lasts)
        self._house.begin(name)

    def _flush(self) -> str:
        try:
            with redis.Redis.from_url(self._house.valkey.url) as client:
                client.flushall()
        except redis.RedisError as error:
            return type(error).__name__  # it is down already
        return ""

    def _bureau(self, mode: str, value: int | bool, lasts: float) -> None:
        self._tell_bureau({mode: value})
        time.sleep(lasts)
        self._tell_bureau({mode: type(value)()})

    def _tell_bureau(self, modes: dict[str, int | bool]) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                send(self._house.bureau_url, modes=modes)
            except httpx.HTTPError:
                if time.monotonic() > end:
                    raise
                time.sleep(_AGAIN_SECONDS)
            else:
                return

    # -- cables ---------------------------------------------------------------------------------

    def _cut(self, accident: Accident) -> None:
        network = self._house.network
        if network is None:
            raise RuntimeError("no network to cut")
        machine, link = accident.target
        try:
            network.cut(machine, link, accident.kind)
            time.sleep(accident.lasts)
        finally:
            network.mend(machine, link)

    # -- disks ----------------------------------------------------------------------------------

    def _pull(self, device_no: str, lasts: float) -> str:
        with self._cards:
            found = self._find(device_no)
            if found is None:
                return "not plugged in"
            machine, slot, card = found
            with self._hands(machine, card) as hands:
                hands.pull(slot)
        time.sleep(lasts)
        with self._cards, self._hands(machine, card) as hands:
            hands.insert(slot, device_no)
        return ""

    def _swap(self, first: str, second: str) -> str:
        with self._cards:
            one, other = self._find(first), self._find(second)
            if one is None or other is None:
                return "not plugged in"
            with self._hands(one[0], card=True) as here, self._hands(other[0], card=True) as there:
                here.pull(one[1])
                there.pull(other[1])
                time.sleep(_HAND_SECONDS)
                here.insert(one[1], second)
                there.insert(other[1], first)
        return ""

    def _find(self, device_no: str) -> tuple[str, str, bool] | None:
        """Machine and slot of a disk, and whether it is a card."""
        for machine in self._house.machines:
            with contextlib.suppress(Failure):
                for view in list_slots(self._house.places.rack_socket(machine)):
                    if view.device_no == device_no:
                        return machine, view.slot, True
            if self._house.places.component_port(machine).exists():
                with self._hands(machine, card=False) as hands:
                    slots = hands.slots() if isinstance(hands, ComponentControl) else []
                for found in slots:
                    if found["device_no"] == device_no:
                        return machine, found["slot"], False
        return None

    @contextlib.contextmanager
    def _hands(self, machine: str, card: bool) -> Iterator[RackControl | ComponentControl]:
        if card:
            yield RackControl(self._house.places.rack_socket(machine))
            return
        network = self._house.network
        with network.visit(machine) if network is not None else contextlib.nullcontext():
            yield ComponentControl(self._house.component_address(machine))


def _down(server: EmbeddedPostgres | EmbeddedValkey, crash: bool, lasts: float) -> None:
    """An embedded server goes down, in good order or not, and comes again."""
    if crash:
        server.crash()
    else:
        server.stop()
    time.sleep(lasts)
    server.start()
