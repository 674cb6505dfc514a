"""The subjects of the contract suite: every driver over every transport that can be had here."""

from __future__ import annotations

import datetime as dt
import subprocess
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from devices.drivers.component import ComponentDisk
from devices.drivers.component_http import HttpTransport
from devices.drivers.contract import CardChannel, Pin, TaxDisk
from devices.drivers.dates import Kind
from devices.drivers.ic_card import IcCardDisk
from devices.protocol.failures import Code, Failure
from devices.simulator import evidence
from devices.simulator.card import SimulatedCard
from devices.simulator.card_state import CardState
from devices.simulator.component import ComponentServer
from devices.simulator.component_client import (
    ComponentControl,
    component_command,
    wait_for_address,
)
from devices.simulator.component_faults import ComponentMode
from devices.simulator.component_rack import ComponentRack
from devices.simulator.rack_client import RackChannel
from devices.simulator.rack_faults import Mode
from tests.contract.subject import (
    IN_WINDOW,
    KEY,
    KILLS,
    RIGHT,
    Break,
    Numbers,
    Situation,
    Step,
    Subject,
    make_world,
)
from tests.devices.cards import KeptPins, Loopback
from tests.devices.pcsc.desk import missing
from tests.devices.simulator.racks import RackProcess

PCSCD = "ic_card-pcscd"
CARDS = Numbers("00000000000A0001", "00000000000A0002", ())


class CardSubject(ABC):
    """What both ways to a simulated card share: PINs that outlive a session, names of commands."""

    killable: bool = False
    tells_pending: bool = False
    kind: str = Kind.IC_CARD.value
    types: tuple[str, ...] = ("025",)
    device_no: str = CARDS.device_no
    commands = {
        Step.IDENTIFY: "SELECT EF02",
        Step.READ: "SELECT EF01",
        Step.REPORT: "DECLARE_DUTY",
        Step.CLEAR: "UPDATE_CONTROLS",
    }

    def __init__(self, situation: Situation) -> None:
        made = make_world(self.kind, CARDS, situation)
        self.world, self.disk, self.other = made.world, made.disk, made.other
        self.pins = KeptPins()

    def open(self, *, password: str = RIGHT) -> TaxDisk:
        if password != RIGHT:
            self.pins.pin = Pin(password.encode(), 0)
        return IcCardDisk(self.channel(), pins=self.pins, host_now=lambda: IN_WINDOW)

    @abstractmethod
    def channel(self) -> CardChannel:
        """A new connection to the card."""

    def asked_for_secrets(self) -> bool:
        return bool(self.pins.calls)


class InProcessCard(CardSubject):
    """The card in this process. Sessions end without a word; nothing can be killed."""

    def __init__(self, situation: Situation) -> None:
        super().__init__(situation)
        self._cards = {
            disk.device_no: SimulatedCard(
                CardState.of_world(disk), bytes.fromhex(KEY), now=lambda: IN_WINDOW
            )
            for disk in (self.disk, self.other)
        }
        self._inserted = self.device_no
        self._fault: tuple[str, Break] | None = None

    def channel(self) -> CardChannel:
        channel = Loopback(self._cards[self._inserted])
        channel.card.reset()
        device_no = self._inserted

        def before(name: str) -> None:
            if device_no != self._inserted:
                raise Failure(Code.DISK_ABSENT)
            self._before(name)

        channel.before, channel.after = before, self._after
        return channel

    def swap(self) -> None:
        self._inserted = CARDS.other_no

    def strike(self, step: Step, how: Break) -> None:
        self._fault = (self.commands[step], how)

    def revive(self) -> None:
        self._fault = None

    def writes(self) -> Mapping[str, int]:
        counts = [card.state.counts for card in self._cards.values()]
        wrong = sum(3 - card.state.tries for card in self._cards.values())
        return {
            "report": sum(count.get("DECLARE_DUTY", 0) for count in counts),
            "clear": sum(count.get("UPDATE_CONTROLS", 0) for count in counts),
            "wrong": wrong - (3 - self.disk.tries) - (3 - self.other.tries),
        }

    def close(self) -> None:
        self._fault = None

    def _before(self, name: str) -> None:
        if self._fault == (name, Break.BEFORE):
            raise self._lost(name)

    def _after(self, name: str, answer: bytes) -> bytes:
        if self._fault == (name, Break.AFTER):
            raise self._lost(name)
        if self._fault == (name, Break.GARBAGE):
            self._fault = None
            return bytes.fromhex("DEADBEEF")
        return answer

    def _lost(self, name: str) -> Failure:
        self._fault = None
        return Failure(Code.NO_ANSWER, outcome_unknown=name in ("DECLARE_DUTY", "UPDATE_CONTROLS"))


class RackCard(CardSubject):
    """The card in a rack process, reached through its socket."""

    killable = True
    modes = {
        Break.BEFORE: Mode.LOSE_COMMAND,
        Break.AFTER: Mode.LOSE_ANSWER,
        Break.KILLED_BEFORE: Mode.HANG_BEFORE,
        Break.KILLED_AFTER: Mode.DIE_AFTER_LOG,
        Break.GARBAGE: Mode.GARBAGE,
    }

    def __init__(self, situation: Situation) -> None:
        super().__init__(situation)
        self._folder = tempfile.TemporaryDirectory(prefix="qk")
        self.rack = self.start_rack(Path(self._folder.name))
        self._channels: list[RackChannel] = []
        self._doomed = False

    def start_rack(self, folder: Path) -> RackProcess:
        return RackProcess(folder, self.world)

    def channel(self) -> CardChannel:
        self._let_go()
        channel = RackChannel(self.rack.socket, self.disk.slot, timeout=10)
        self._channels.append(channel)
        return channel

    def swap(self) -> None:
        self._let_go()
        self.rack.control.swap(self.disk.slot, self.other.device_no)

    def strike(self, step: Step, how: Break) -> None:
        seconds = 30.0 if how is Break.KILLED_BEFORE else 0.0
        self.rack.control.fault(
            self.device_no, self.modes[how], command=self.commands[step], seconds=seconds
        )
        self._doomed = how in KILLS
        if how is Break.KILLED_BEFORE:
            threading.Thread(target=self._kill_when_it_hangs).start()

    def _kill_when_it_hangs(self) -> None:
        self.rack.control.wait_until_hanging(self.device_no)
        self.rack.process.kill()

    def revive(self) -> None:
        if self._doomed:
            self.rack.process.wait(timeout=90)
            self.rack.restart()
            self._doomed = False
        self._let_go()
        self.rack.control.clear_faults(self.device_no)

    def writes(self) -> Mapping[str, int]:
        return _counted(self.rack.folder)

    def close(self) -> None:
        self._let_go()
        self.rack.end()
        self._folder.cleanup()

    def _let_go(self) -> None:
        """End this test's own sessions: the rack gives a disk to one client at a time."""
        while self._channels:
            self._channels.pop().close()
        if not self._doomed:
            self.rack.control.wait_until_free(self.device_no)


class Component:
    """A component disk over HTTP: the server in a thread, or in a process that can be killed."""

    tells_pending: bool = True
    commands = {
        Step.IDENTIFY: "SKSBBH",
        Step.READ: "JKSJCX",
        Step.REPORT: "SJCB",
        Step.CLEAR: "JKHC",
    }
    modes = {
        Break.BEFORE: ComponentMode.LOSE_COMMAND,
        Break.AFTER: ComponentMode.LOSE_ANSWER,
        Break.KILLED_BEFORE: ComponentMode.HANG_BEFORE,
        Break.KILLED_AFTER: ComponentMode.DIE_AFTER_LOG,
        Break.GARBAGE: ComponentMode.GARBAGE,
    }

    def __init__(
        self, kind: Kind, numbers: Numbers, situation: Situation, *, process: bool
    ) -> None:
        made = make_world(kind.value, numbers, situation)
        self.world, self.disk, self.other = made.world, made.disk, made.other
        self.kind, self.types, self.device_no = kind.value, numbers.types, numbers.device_no
        self.killable = process
        self._home = tempfile.TemporaryDirectory(prefix="qk")
        self.folder = Path(self._home.name) / "disks"
        self.folder.mkdir()
        self._world_file = Path(self._home.name) / "world.json"
        self.world.save(self._world_file)
        self._process: subprocess.Popen[bytes] | None = None
        self._doomed = False
        self._server: ComponentServer | None = None
        self.address = self._start()
        self.control = ComponentControl(self.address)

    def open(self, *, password: str = RIGHT) -> TaxDisk:
        return ComponentDisk(
            HttpTransport(self.address),
            kind=Kind(self.kind),
            device_no=self.device_no,
            password=lambda: password,
            call_seconds=10.0,
        )

    def swap(self) -> None:
        self.control.swap(self.disk.slot, self.other.device_no)

    def strike(self, step: Step, how: Break) -> None:
        seconds = 30.0 if how is Break.KILLED_BEFORE else 0.0
        self.control.fault(
            self.device_no, self.modes[how], command=self.commands[step], seconds=seconds
        )
        self._doomed = how in KILLS
        if how is Break.KILLED_BEFORE:
            threading.Thread(target=self._kill_once_asked, args=(self.commands[step],)).start()

    def _kill_once_asked(self, command: str) -> None:
        while command not in self.control.commands(self.device_no):
            threading.Event().wait(0.01)
        if self._process is not None:
            self._process.kill()

    def revive(self) -> None:
        if self._doomed and self._process is not None:
            self._process.wait(timeout=90)
            self.address = self._start()
            self.control = ComponentControl(self.address)
            self._doomed = False
        self.control.clear_faults(self.device_no)

    def writes(self) -> Mapping[str, int]:
        return _counted(self.folder)

    def asked_for_secrets(self) -> bool:
        asked: set[str] = set()
        for slot in self.control.slots():
            if slot["device_no"]:
                asked |= set(self.control.commands(slot["device_no"]))
        return bool(asked - {"SKSBBH"})

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.rack.stop()
        self._home.cleanup()

    def _start(self) -> str:
        offset = (IN_WINDOW - dt.datetime.now(dt.UTC)).total_seconds()
        if not self.killable:
            # One disk per host: the component sees whichever is there, as single ones do.
            rack = ComponentRack(self.world, "m1", self.folder, single=True, clock_offset=offset)
            self._server = ComponentServer(0, rack)
            serve = self._server.serve_forever
            threading.Thread(target=serve, kwargs={"poll_interval": 0.02}, daemon=True).start()
            return self._server.address
        port_file = Path(self._home.name) / "port"
        port_file.unlink(missing_ok=True)
        command = component_command(
            self._world_file, "m1", self.folder, port_file,
            "--single", "--clock-offset", f"{offset}",
        )  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        return wait_for_address(port_file, self._process)


def _counted(folder: Path) -> dict[str, int]:
    """The write log of every disk in ``folder``, as the evidence reader tells it."""
    reports, clears, wrong = 0, 0, 0
    for device_no in evidence.devices_in(folder):
        state = evidence.read_state(folder, device_no)
        reports, clears = reports + state.declares, clears + state.clears
        log = evidence.read_log(folder, device_no)
        wrong += sum(write.facts.get("result") == "wrong" for write in log)
        assert [write.n for write in log] == list(range(1, len(log) + 1))
    return {"report": reports, "clear": clears, "wrong": wrong}


COMPONENTS = {
    Kind.BAIWANG: Numbers("661900000001", "661900000002", ("004", "007", "026")),
    Kind.AISINO: Numbers("661800000001", "661800000002", ("004", "005", "007", "009")),
    Kind.UKEY: Numbers("661700000001", "661700000002", ("004", "007", "025")),
}


def card_through_pcscd(situation: Situation) -> Subject:
    from tests.contract.pcscd import PcscCard  # which is a rack's card, too

    return PcscCard(situation)


def component(kind: Kind, *, process: bool = False) -> Callable[[Situation], Subject]:
    return lambda situation: Component(kind, COMPONENTS[kind], situation, process=process)


#: Every driver × transport. The last ones hold their disk in a process that can be killed.
SUBJECTS: Mapping[str, Callable[[Situation], Subject]] = {
    "ic_card-in-process": InProcessCard,
    "ic_card-rack": RackCard,
    PCSCD: card_through_pcscd,
    "baiwang-http": component(Kind.BAIWANG),
    "aisino-http": component(Kind.AISINO),
    "ukey-http": component(Kind.UKEY),
}

#: The same with a process of its own, for kills.
KILLABLE: Mapping[str, Callable[[Situation], Subject]] = {
    "ic_card-rack": RackCard,
    PCSCD: card_through_pcscd,
    "baiwang-http": component(Kind.BAIWANG, process=True),
    "aisino-http": component(Kind.AISINO, process=True),
    "ukey-http": component(Kind.UKEY, process=True),
}


def cases(names: Iterable[str]) -> list[ParameterSet]:
    """The subjects as parameters; what cannot be had here is skipped, saying what is missing."""
    lacking = {PCSCD: missing()}
    return [
        pytest.param(name, marks=[pytest.mark.skip(reason=reason)] if reason else [])
        for name in names
        for reason in [lacking.get(name, "")]
    ]
