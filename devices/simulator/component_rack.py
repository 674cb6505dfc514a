"""The disks behind one stand-in component (模拟): slots, and one request at a time.

Owns slots, the choice of the disk a request means, and the order of events around it: fault,
time, act, state and log safe, answer. Slots outlive the process (``component-slots-NAME.json``).

Must never: let two requests touch one disk at once, or answer before the write is safe
(``store.py``).
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from devices.drivers.component_units import COMPONENT_KINDS
from devices.drivers.dates import Kind
from devices.protocol.business_xml import Answer, Operation, Request
from devices.simulator.component_disk import Refused, SimulatedComponentDisk
from devices.simulator.component_faults import ComponentFault, ComponentMode
from devices.simulator.component_signs import Sign
from devices.simulator.component_state import ComponentState
from devices.simulator.store import StateStore, StoreLocked
from devices.simulator.world import World

#: Which share of ``World.stage_ms`` an operation costs: a stage of the driver costs about one.
STAGE_SHARES = {
    Operation.DEVICE_NO: 0.3,
    Operation.INFO: 0.3,
    Operation.CONTROL: 0.2,
    Operation.COPY: 0.5,
    Operation.WRITE: 0.5,
}

_NOBODY = Kind.BAIWANG
_PEEK_SECONDS = 0.02


class Dropped(Exception):
    """The connection ends without an answer."""


class ComponentRefusal(Exception):
    """A control request that cannot be done."""


@dataclass(slots=True)
class Disk:
    """A disk that is plugged in. ``commands``: ids of all requests since the component started."""

    body: SimulatedComponentDisk
    store: StateStore[ComponentState]
    lock: threading.Lock = field(default_factory=threading.Lock)
    faults: list[ComponentFault] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


class ComponentRack:
    """All component disks of one machine. Thread-safe.

    ``single``: a component that sees one disk per host and is at a loss with several.
    ``clock_offset``: seconds to add to this machine's clock.
    """

    def __init__(
        self,
        world: World,
        machine: str,
        folder: Path,
        *,
        single: bool = False,
        clock_offset: float = 0.0,
    ) -> None:
        self._world = {d.device_no: d for d in world.disks if d.kind in COMPONENT_KINDS}
        self._key = bytes.fromhex(world.key)
        self._stage_seconds = world.stage_ms / 1000
        self._lag = world.ukey_lag_ms / 1000
        self._single = single
        self._offset = dt.timedelta(seconds=clock_offset)
        self._folder = folder
        self._slots_file = folder / f"component-slots-{machine}.json"
        self._lock = threading.RLock()
        self._disks: dict[str, Disk] = {}
        self._slots: dict[str, str] = {}
        self._start([d.device_no for d in self._world.values() if d.machine == machine])

    def now(self) -> dt.datetime:
        return dt.datetime.now(dt.UTC) + self._offset

    def work(self, request: Request, peer_is_gone: Callable[[], bool]) -> Answer | bytes:
        """The answer, or bytes that go out as they are. Raises :class:`Dropped`."""
        try:
            disk = self._meant(request)
        except Refused as refused:
            return Answer(request.operation, refused.code, refused.text)
        with disk.lock:
            disk.commands.append(request.operation.id)
            fault = next((f for f in disk.faults if f.strikes(request.operation.id)), None)
            mode = fault.mode if fault else None
            self._wait(STAGE_SHARES.get(request.operation, 0.0) * self._stage_seconds)
            if mode is ComponentMode.LOSE_COMMAND:
                raise Dropped
            if fault and mode is ComponentMode.REFUSE:
                return Answer(request.operation, fault.code, fault.text)
            if fault and mode is ComponentMode.HANG_BEFORE:
                self._wait(fault.seconds, peer_is_gone)
                if peer_is_gone():
                    raise Dropped
            answer = self._act(disk, request, mode)
            if fault and mode is ComponentMode.HANG_AFTER:
                self._wait(fault.seconds, peer_is_gone)
            if mode is ComponentMode.LOSE_ANSWER:
                raise Dropped
            if fault and mode is ComponentMode.GARBAGE:
                return bytes.fromhex(fault.data)
            return answer

    @contextmanager
    def certified(self, device_no: str, password: str) -> Iterator[None]:
        """The disk's certificate, for OperateNet. Raises :class:`Refused`."""
        disk = self._plugged_in(device_no)
        with disk.lock:
            try:
                disk.body.check_certificate(password)
            finally:
                write = disk.body.take_write()
                if write is not None:
                    self._keep(disk, write, None)
        yield

    def _act(self, disk: Disk, request: Request, mode: ComponentMode | None) -> Answer:
        """The disk acts, and what it wrote is safe before anything else happens."""
        worked = disk.body.work(request)
        if worked.write is not None:
            self._keep(disk, worked.write, mode)
        return worked.answer

    def _keep(self, disk: Disk, write: dict[str, Any], mode: ComponentMode | None) -> None:
        between = _die if mode is ComponentMode.DIE_BEFORE_LOG else None
        try:
            disk.store.keep(disk.body.state, write, between=between)
        except OSError as error:
            _give_up(error)
        if mode is ComponentMode.DIE_AFTER_LOG:
            _die()

    def _wait(self, seconds: float, peer_is_gone: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0 and not peer_is_gone():
            time.sleep(min(rest, _PEEK_SECONDS))

    # --- which disk ------------------------------------------------------------------------------

    def _meant(self, request: Request) -> Disk:
        fields = request.fields
        number = fields.get("sksbbh") or fields.get("jqbh") or fields.get("kpzdbs") or ""
        if number and not self._single:
            return self._plugged_in(number)
        with self._lock:
            if len(self._disks) > 1:
                raise _refused(Sign.SEVERAL, next(iter(self._disks.values())).body.kind)
            if not self._disks:
                raise _refused(Sign.ABSENT)
            return next(iter(self._disks.values()))

    def _plugged_in(self, number: str) -> Disk:
        with self._lock:
            number = number if number in self._disks else self._slots.get(number, number)
            if number not in self._disks:
                known = self._world.get(number)
                raise _refused(Sign.ABSENT, Kind(known.kind) if known else _NOBODY)
            return self._disks[number]

    # --- slots -----------------------------------------------------------------------------------

    def slots(self) -> list[dict[str, Any]]:
        """Every slot by name: device number or empty, and the kind."""
        with self._lock:
            return [
                {"slot": slot, "device_no": number, "kind": self._kind_of(number)}
                for slot, number in sorted(self._slots.items())
            ]

    def insert(self, slot: str, device_no: str) -> None:
        """Plug a disk in. Raises :class:`ComponentRefusal`."""
        with self._lock:
            if not slot or self._slots.get(slot):
                raise ComponentRefusal(f"slot taken: {slot}")
            if device_no in self._disks:
                raise ComponentRefusal(f"plugged in elsewhere: {device_no}")
            self._disks[device_no] = self._take(device_no)
            self._slots[slot] = device_no
            self._keep_slots()

    def pull(self, slot: str) -> None:
        """Pull what is in the slot; a request under way ends first."""
        with self._lock:
            device_no = self._slots.get(slot, "")
            if not device_no:
                raise ComponentRefusal(f"slot empty: {slot}")
            disk = self._disks.pop(device_no)
            with disk.lock:
                disk.store.release()
            self._slots[slot] = ""
            self._keep_slots()

    def set_fault(self, device_no: str, fault: ComponentFault | None) -> None:
        """Set one more fault on a disk, or with None take all of them off."""
        disk = self._disk(device_no)
        disk.faults = [*disk.faults, fault] if fault else []

    def commands(self, device_no: str) -> list[str]:
        """Ids of every request for the disk since it was plugged in."""
        return list(self._disk(device_no).commands)

    def stop(self) -> None:
        """Wait until what is being written is safe, and let the disks go."""
        with self._lock:
            for disk in self._disks.values():
                with disk.lock:
                    disk.store.release()
            self._disks = {}

    def _disk(self, device_no: str) -> Disk:
        with self._lock:
            if device_no not in self._disks:
                raise ComponentRefusal(f"not plugged in: {device_no}")
            return self._disks[device_no]

    def _kind_of(self, device_no: str) -> str:
        return self._disks[device_no].body.state.kind if device_no else ""

    def _start(self, own: list[str]) -> None:
        """Slots as they were left; a disk the world file gained since goes where it says."""
        known: set[str] = set()
        if self._slots_file.exists():
            kept = json.loads(self._slots_file.read_text(encoding="utf-8"))
            self._slots, known = dict(kept["slots"]), set(kept["known"])
        for device_no in own:
            slot = self._world[device_no].slot
            if device_no in known or not slot:
                continue
            if self._slots.get(slot):
                raise ComponentRefusal(f"slot taken: {slot}")
            self._slots[slot] = device_no
        for device_no in filter(None, self._slots.values()):
            self._disks[device_no] = self._take(device_no)
        self._known = known | set(own)
        self._keep_slots()

    def _take(self, device_no: str) -> Disk:
        store = StateStore(self._folder, device_no, ComponentState.from_json)
        try:
            store.hold()
        except StoreLocked:
            raise ComponentRefusal(f"plugged in elsewhere: {device_no}") from None
        store.recover()
        state = store.load()
        if state is None:
            if device_no not in self._world:
                raise ComponentRefusal(f"unknown disk: {device_no}")
            state = ComponentState.of_world(self._world[device_no], self.now())
            store.create(state)
        body = SimulatedComponentDisk(state, self._key, now=self.now, lag=self._lag)
        return Disk(body, store)

    def _keep_slots(self) -> None:
        temporary = self._slots_file.with_suffix(".tmp")
        content = {"slots": self._slots, "known": sorted(self._known)}
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self._slots_file)


def _refused(sign: Sign, kind: Kind = _NOBODY) -> Refused:
    return Refused(sign.of(kind), sign.text)


def _give_up(error: OSError) -> NoReturn:
    """A component that cannot write must not answer: end at once, the files say what is true."""
    print(f"component: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
