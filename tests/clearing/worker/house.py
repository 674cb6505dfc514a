"""A reader machine in a folder: simulated disks, a stand-in bureau, a fake server, children."""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clearing.bureau.standin.service import BEIJING
from clearing.wire import Limits, Order
from clearing.worker.client import ServerClient
from clearing.worker.config import MachineConfig
from clearing.worker.journal import Journal
from clearing.worker.overseer import COMMAND
from clearing.worker.places import Places
from clearing.worker.steady import steady
from clearing.worker.task import Task
from devices.simulator import evidence
from devices.simulator.card_state import CardState
from devices.simulator.evidence import DiskEvidence
from devices.simulator.rack_client import RackControl, rack_command, wait_ready
from devices.simulator.rack_faults import Mode
from devices.simulator.rack_wire import MAX_SOCKET_PATH
from devices.simulator.world import World, WorldDisk, WorldTaxpayer
from tests.clearing.worker.fake_server import TOKEN, FakeServer

PIN = b"12345678"
NOW = dt.datetime(2026, 3, 10, 9, 30, tzinfo=BEIJING)
PERIOD = "2026-02"

# Generous where nothing is to run out; tests of limits make their own.
LIMITS = Limits(call=20.0, bureau=10.0, run=60.0, lease=60.0, grant=60.0, poll=2.0)


@dataclass(frozen=True)
class Card:
    """A simulated disk of a company of its own, cleared through January; February is filed."""

    device_no: str
    tax_id: str
    slot: str


def _card(number: int) -> Card:
    return Card(f"A1B2C3D4E5F6{number:04d}", f"91420106MA{number:08d}", f"A-{number:03d}")


class Street:
    """One rack and one bureau for all tests of a process; each test takes cards of its own."""

    CARDS = 500

    def __init__(self, folder: Path) -> None:
        self.rack_dir = folder / "disks"
        self.socket = folder / "rack"
        assert len(str(self.socket)) <= MAX_SOCKET_PATH
        self.bureau_url = ""
        self._folder = folder
        self._cards = map(_card, range(1, self.CARDS + 1))
        self._processes: list[subprocess.Popen[bytes]] = []

    def take(self) -> Card:
        return next(self._cards)

    def start(self) -> None:
        """Rack and bureau, at the same time."""
        world = self._folder / "world.json"
        port = self._folder / "port"
        _world([_card(number) for number in range(1, self.CARDS + 1)]).save(world)
        self._spawn(rack_command(world, "H1", self.rack_dir, self.socket))
        self._spawn(
            [
                *(sys.executable, "-m", "clearing.bureau.standin", "--world", str(world)),
                *("--dir", str(self._folder / "bureau"), "--port-file", str(port)),
                f"--clock-offset={NOW.timestamp() - time.time()}",
            ]
        )
        wait_ready(self.socket)
        until = time.monotonic() + 20
        while not port.exists():
            assert time.monotonic() < until, "the bureau did not start"
            time.sleep(0.01)
        self.bureau_url = f"http://127.0.0.1:{port.read_text().strip()}/"

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _spawn(self, command: list[str]) -> None:
        self._processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )


def _world(cards: list[Card]) -> World:
    return World(
        key="00112233445566778899AABBCCDDEEFF",
        taxpayers=[
            WorldTaxpayer(card.tax_id, "某公司", "14201060000", "某区税务局", {PERIOD: "filed"})
            for card in cards
        ],
        disks=[
            WorldDisk(
                device_no=card.device_no,
                tax_id=card.tax_id,
                taxpayer_name="",
                machine="H1",
                slot=card.slot,
                pin=PIN.decode(),
                issue_deadline="2026-03-16",
                cleared_through="2026-01-31",
                reported_through="2026-01-31",
            )
            for card in cards
        ],
    )


class House:
    """A reader machine in a folder, with two disks plugged in; everything it talks to runs."""

    def __init__(self, street: Street, folder: Path) -> None:
        self.server = FakeServer()
        self.data_dir = folder / "data"
        self.socket = street.socket
        self.alices, self.bobs = street.take(), street.take()
        self._street = street
        self._children: list[Child] = []

    def close(self) -> None:
        for child in self._children:
            child.kill()
        self.server.close()

    # -- the machine --------------------------------------------------------------------------

    @property
    def rack(self) -> RackControl:
        return RackControl(self.socket)

    @property
    def config(self) -> MachineConfig:
        return MachineConfig(
            server=self.server.url,
            token=TOKEN,
            data_dir=self.data_dir,
            rack_socket=self.socket,
            only_slots=(self.alices.slot, self.bobs.slot),
        )

    @property
    def places(self) -> Places:
        return Places(self.data_dir)

    @property
    def journal(self) -> Journal:
        return Journal(self.data_dir)

    def client(self) -> ServerClient:
        return ServerClient(self.server.url, TOKEN)

    def disk(self, card: Card | None = None) -> DiskEvidence:
        return evidence.read_state(self._street.rack_dir, (card or self.alices).device_no)

    def writes(self, card: Card | None = None) -> list[str]:
        """Commands that changed the disk, in order."""
        device_no = (card or self.alices).device_no
        return [write.command for write in evidence.read_log(self._street.rack_dir, device_no)]

    def holds_pin(self, pin: bytes) -> bool:
        return evidence.holds_pin(self._street.rack_dir, self.alices.device_no, pin)

    def pin(self) -> str:
        """The PIN that Alice's disk has now, as its owner may have it on paper."""
        state = evidence._state(self._street.rack_dir, self.alices.device_no)
        assert isinstance(state, CardState)
        return state.pin.hex()

    def hang(self, mode: Mode, command: str, seconds: float = 60.0) -> None:
        """Alice's disk hangs in its next such command."""
        device_no = self.alices.device_no
        self.rack.fault(device_no, mode, command=command, seconds=seconds)

    def wait_until_hanging(self) -> None:
        self.rack.wait_until_hanging(self.alices.device_no, timeout=20)

    def wait_until_free(self) -> None:
        self.rack.wait_until_free(self.alices.device_no, timeout=20)

    def commands(self) -> list[str]:
        """What Alice's disk was sent."""
        return self.rack.commands(self.alices.device_no)

    def journal_files(self) -> list[str]:
        return sorted(path.name for path in (self.data_dir / "journal").iterdir())

    # -- runs ---------------------------------------------------------------------------------

    def order(self, run_id: int = 1, **changes: Any) -> Order:
        order = Order(
            run_id=run_id,
            attempt=str(uuid.uuid4()),
            intent="report_and_clear",
            period=PERIOD,
            now=NOW.isoformat(),
            slot=self.alices.slot,
            device_no=self.alices.device_no,
            tax_id=self.alices.tax_id,
            terminal_no=0,
            kind="ic_card",
            bureau_url=self._street.bureau_url,
            limits=LIMITS,
            simulated=True,
            filed=(PERIOD,),
            device_password=PIN.decode(),
            pin_generation=1,
        )
        return replace(order, **changes)

    def child(
        self,
        order: Order,
        config: MachineConfig | None = None,
        *,
        command: Sequence[str] = COMMAND,
    ) -> Child:
        self._children.append(Child(order, config or self.config, command))
        return self._children[-1]


class Child:
    """A real child process, handled as the worker does."""

    def __init__(
        self, order: Order, config: MachineConfig, command: Sequence[str] = COMMAND
    ) -> None:
        self.order = order
        self.events: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        task = Task(
            order=order,
            server=config.server,
            token=config.token,
            data_dir=config.data_dir,
            hardware=config.hardware,
            hold_seconds=config.hold_seconds,
            server_seen=None,
            arrived=steady(),
            parent=os.getpid(),
        )
        self.say(task.to_line())

    def say(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.finish()

    def finish(self) -> list[dict[str, Any]]:
        """Wait for its end; what it said."""
        assert self.process.stdout is not None and self.process.stdin is not None
        if not self.process.stdout.closed:
            with self.process.stdout as stdout:
                self.events = [json.loads(line) for line in stdout]
        self.process.wait(90)
        self.process.stdin.close()
        return self.events
