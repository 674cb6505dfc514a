"""The disks of one rack (模拟): which slot holds which, who has one open, what is set on it.

Owns slots, sessions and the order of events around one command. One exclusive session per disk;
its end, for whatever reason, is a card reset. Slots outlive the process (``slots-<machine>.json``).

Must never: let two sessions touch one disk, or answer before the write is safe (``store.py``).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from devices.protocol.failures import Code
from devices.protocol.iccard import changes_card, command_name
from devices.simulator.card import SimulatedCard
from devices.simulator.card_state import CardState
from devices.simulator.rack_faults import Fault, Mode
from devices.simulator.store import DiskStore, StoreLocked
from devices.simulator.world import World

#: Which share of ``World.stage_ms`` a command costs, so that a stage of the driver costs about one:
#: identify 0.4 + 0.6, read 0.4 + 0.4, report 0.4 + 0.4 + 0.1 + 0.2, clear 0.4 + 0.1 + 0.5.
#: A client that dies meanwhile does not stop the command: the card already has it.
STAGE_SHARES = {
    "SELECT TSAM01": 0.4,
    "SELECT EF02": 0.6,
    "SELECT EF01": 0.4,
    "VERIFY_FISCAL_PIN": 0.1,
    "DECLARE_DUTY": 0.2,
    "UPDATE_CONTROLS": 0.5,
}

_PEEK_SECONDS = 0.02


#: A client that closes and comes back at once finds its own old session still ending.
_LEAVING_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.01


class RackRefusal(Exception):
    """A request that cannot be done now; ``code`` goes to the client."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(text or code)
        self.code = code
        self.text = text


class AnswerLost(Exception):
    """The session ends without a word."""


class CardGone(Exception):
    """The card was pulled, or the rack stops. ``in_doubt``: a changing command was under way."""

    def __init__(self, in_doubt: bool) -> None:
        super().__init__(in_doubt)
        self.in_doubt = in_doubt


@dataclass(slots=True)
class Disk:
    """A disk that is plugged in. ``commands``: names of all commands since the rack started."""

    card: SimulatedCard
    store: DiskStore
    session: Session | None = None
    faults: list[Fault] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    hanging: str = ""


class Session:
    """One client's hold on one disk. ``peer_is_gone`` tells whether the client still lives."""

    def __init__(self, disk: Disk, stage_seconds: float, peer_is_gone: Callable[[], bool]) -> None:
        self._disk = disk
        self._stage_seconds = stage_seconds
        self._peer_is_gone = peer_is_gone
        self._ended = threading.Event()
        self._busy = threading.Lock()

    @property
    def left(self) -> bool:
        """The client has gone, and nothing but its last command holds the disk any more."""
        return not self._disk.hanging and self._peer_is_gone()

    def end(self) -> None:
        """The card is pulled out of this session's hands; a command under way notices."""
        self._ended.set()

    def settle(self) -> None:
        """Wait until no command is between card and store."""
        with self._busy:
            pass

    def transmit(self, apdu: bytes) -> bytes:
        """One command. Raises :class:`CardGone` or :class:`AnswerLost`."""
        if self._ended.is_set():
            raise CardGone(in_doubt=False)
        disk, name = self._disk, command_name(apdu)
        disk.commands.append(name)
        fault = next((fault for fault in disk.faults if fault.strikes(name)), None)
        mode = fault.mode if fault else None
        self._wait(self._stage_seconds * STAGE_SHARES.get(name, 0.0), apdu)
        if mode is Mode.LOSE_COMMAND:
            raise AnswerLost
        if fault and mode is Mode.HANG_BEFORE:
            with self._hanging(name):
                self._wait(fault.seconds, apdu)
            if self._peer_is_gone():
                raise AnswerLost
        response = self._act(apdu, mode)
        if fault and mode is Mode.HANG_AFTER:
            with self._hanging(name):
                self._wait(fault.seconds, apdu)
        if mode is Mode.LOSE_ANSWER:
            raise AnswerLost
        return bytes.fromhex(fault.data) if fault and mode is Mode.GARBAGE else response

    def _act(self, apdu: bytes, mode: Mode | None) -> bytes:
        """The card acts, and what it wrote is safe before anything else happens."""
        with self._busy:
            if self._ended.is_set():
                raise CardGone(in_doubt=changes_card(apdu))
            card, store = self._disk.card, self._disk.store
            answer = card.transmit(apdu)
            if answer.write is not None:
                between = _die if mode is Mode.DIE_BEFORE_LOG else None
                try:
                    store.keep(card.state, answer.write, between=between)
                except OSError as error:
                    _give_up(error)
                if mode is Mode.DIE_AFTER_LOG:
                    _die()
            return answer.response

    def _wait(self, seconds: float, apdu: bytes) -> None:
        """Let ``seconds`` pass, less if the client goes; :class:`CardGone` if the card does."""
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            if self._ended.wait(min(rest, _PEEK_SECONDS)):
                raise CardGone(in_doubt=changes_card(apdu))
            if self._peer_is_gone():
                return

    @contextlib.contextmanager
    def _hanging(self, name: str) -> Iterator[None]:
        self._disk.hanging = name
        try:
            yield
        finally:
            self._disk.hanging = ""


class Rack:
    """All slots of one machine. Thread-safe; raises :class:`RackRefusal`."""

    def __init__(self, world: World, machine: str, folder: Path) -> None:
        self._world = {d.device_no: d for d in world.disks if d.kind == "ic_card"}
        self._key = bytes.fromhex(world.key)
        self._stage_seconds = world.stage_ms / 1000
        self._folder = folder
        self._slots_file = folder / f"slots-{machine}.json"
        self._lock = threading.RLock()
        self._disks: dict[str, Disk] = {}
        self._slots: dict[str, str] = {}
        self._known: set[str] = set()
        self._start([d.device_no for d in self._world.values() if d.machine == machine])

    def _start(self, own: list[str]) -> None:
        """Slots as they were left; a disk the world file gained since goes where it says."""
        if self._slots_file.exists():
            kept = json.loads(self._slots_file.read_text(encoding="utf-8"))
            self._slots, self._known = dict(kept["slots"]), set(kept["known"])
        for device_no in own:
            slot = self._world[device_no].slot
            if device_no not in self._known and slot and not self._slots.get(slot):
                self._slots[slot] = device_no
            elif device_no not in self._known and slot:
                raise RackRefusal("slot_taken", f"{slot}: {self._slots[slot]}, {device_no}")
            if DiskStore(self._folder, device_no).load() is None:
                self._first_state(device_no)
        self._known.update(own)
        for device_no in self._slots.values():
            if device_no:
                self._disks[device_no] = self._take(device_no)
        self._keep_slots()

    # --- slots ----------------------------------------------------------------------------------

    def slots(self) -> list[dict[str, Any]]:
        """Every slot by name: device number or empty, whether it is open, what it hangs in."""
        with self._lock:
            return [
                {
                    "slot": slot,
                    "device_no": device_no,
                    "in_use": bool(device_no and self._disks[device_no].session),
                    "hanging": self._disks[device_no].hanging if device_no else "",
                }
                for slot, device_no in sorted(self._slots.items())
            ]

    def insert(self, slot: str, device_no: str) -> None:
        """Plug a disk in, out of the drawer or from another rack that let it go."""
        with self._lock:
            if not slot or self._slots.get(slot):
                raise RackRefusal("slot_taken", slot)
            if device_no in self._disks:
                raise RackRefusal("plugged_in_elsewhere", device_no)
            self._disks[device_no] = self._take(device_no)
            self._slots[slot] = device_no
            self._keep_slots()

    def pull(self, slot: str) -> None:
        """Pull whatever is in the slot, out of a running session if need be."""
        with self._lock:
            device_no = self._slots.get(slot, "")
            if not device_no:
                raise RackRefusal("slot_empty", slot)
            disk = self._disks.pop(device_no)
            if disk.session is not None:
                disk.session.end()
                disk.session.settle()
            disk.store.release()
            self._slots[slot] = ""
            self._keep_slots()

    def swap(self, slot: str, device_no: str) -> None:
        """Another disk into the slot; what was there goes into the drawer, or where it came from
        if the other one was plugged in."""
        with self._lock:
            other = next((name for name, held in self._slots.items() if held == device_no), "")
            before = self._slots.get(slot, "")
            if slot == other:
                return
            if before:
                self.pull(slot)
            if other:
                self.pull(other)
            self.insert(slot, device_no)
            if other and before:
                self.insert(other, before)

    # --- sessions -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def session(
        self, slot: str, device_no: str, peer_is_gone: Callable[[], bool]
    ) -> Iterator[Session]:
        """An exclusive session with the disk in ``slot``, or with ``device_no`` wherever it is."""
        until = time.monotonic() + _LEAVING_SECONDS
        while (taken := self._open(slot, device_no, peer_is_gone)) is None:
            if time.monotonic() > until:
                raise RackRefusal(Code.DISK_IN_USE)
            time.sleep(_LOOK_AGAIN_SECONDS)
        disk, session = taken
        try:
            yield session
        finally:
            with self._lock:
                disk.session = None

    def _open(
        self, slot: str, device_no: str, peer_is_gone: Callable[[], bool]
    ) -> tuple[Disk, Session] | None:
        """The disk and a session with it; None while a client that has gone is still leaving."""
        with self._lock:
            disk = self._disks.get(self._slots.get(slot, "") if slot else device_no)
            if disk is None:
                raise RackRefusal(Code.DISK_ABSENT)
            if disk.session is not None:
                if disk.session.left:
                    return None
                raise RackRefusal(Code.DISK_IN_USE)
            disk.session = Session(disk, self._stage_seconds, peer_is_gone)
            disk.card.reset()
            return disk, disk.session

    def set_fault(self, device_no: str, fault: Fault | None) -> None:
        """Set one more fault on a disk, or with None take all of them off."""
        disk = self._plugged(device_no)
        disk.faults = [*disk.faults, fault] if fault else []

    def commands(self, device_no: str) -> list[str]:
        """Names of every command the disk was sent since it was plugged in."""
        return list(self._plugged(device_no).commands)

    def stop(self) -> None:
        """End every session, and let what is being written become safe."""
        with self._lock:
            sessions = [disk.session for disk in self._disks.values() if disk.session]
        for session in sessions:
            session.end()
            session.settle()

    # --- disks ----------------------------------------------------------------------------------

    def _plugged(self, device_no: str) -> Disk:
        with self._lock:
            if device_no not in self._disks:
                raise RackRefusal(Code.DISK_ABSENT, device_no)
            return self._disks[device_no]

    def _take(self, device_no: str) -> Disk:
        store = DiskStore(self._folder, device_no)
        try:
            store.hold()
        except StoreLocked:
            raise RackRefusal("plugged_in_elsewhere", device_no) from None
        store.recover()
        state = store.load() or self._first_state(device_no)
        card = SimulatedCard(state, self._key, now=lambda: dt.datetime.now(dt.UTC))
        return Disk(card, store)

    def _first_state(self, device_no: str) -> CardState:
        if device_no not in self._world:
            raise RackRefusal("unknown_disk", device_no)
        state = CardState.of_world(self._world[device_no])
        DiskStore(self._folder, device_no).create(state)
        return state

    def _keep_slots(self) -> None:
        temporary = self._slots_file.with_suffix(".tmp")
        content = {"slots": self._slots, "known": sorted(self._known)}
        temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        temporary.replace(self._slots_file)


def _give_up(error: OSError) -> NoReturn:
    """A rack that cannot write must not answer: end at once, the files say what is true."""
    print(f"rack: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
