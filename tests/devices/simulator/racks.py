"""A real rack process for tests: started, killed, started again, always ended."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from devices.drivers.ic_card import IcCardDisk
from devices.simulator.rack_client import RackChannel, RackControl, rack_command, wait_ready
from devices.simulator.world import World
from tests.devices.cards import DEVICE_NO, IN_WINDOW, KeptPins


class RackProcess:
    """One machine's rack over a folder. ``folder`` must be short: a socket lives in it. ``more``:
    arguments of its own; ``inside``: makes its command one of another namespace."""

    def __init__(
        self,
        folder: Path,
        world: World,
        machine: str = "m1",
        *,
        more: Sequence[str] = (),
        inside: Callable[[list[str]], list[str]] = list,
    ) -> None:
        self._more, self._inside = more, inside
        self.folder = folder / "disks"
        self.socket = folder / f"{machine}.sock"
        self.control = RackControl(self.socket)
        self._world = folder / f"world-{machine}.json"
        self._machine = machine
        self._channels: list[RackChannel] = []
        world.save(self._world)
        self.process = self._spawn()

    def _spawn(self) -> subprocess.Popen[str]:
        command = rack_command(self._world, self._machine, self.folder, self.socket)
        process = subprocess.Popen(
            self._inside([*command, *self._more]),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_ready(self.socket)
        return process

    def channel(self, device_no: str = DEVICE_NO, *, timeout: float = 30.0) -> RackChannel:
        """A channel that is closed with the rack at the latest."""
        channel = RackChannel(self.socket, device_no=device_no, timeout=timeout)
        self._channels.append(channel)
        return channel

    def disk(self, pins: KeptPins, device_no: str = DEVICE_NO) -> IcCardDisk:
        return IcCardDisk(self.channel(device_no), pins=pins, host_now=lambda: IN_WINDOW)

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """End the rack by a signal (or see that it ended); its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signum)
        status = self.process.wait(timeout=90)
        while self._channels:
            self._channels.pop().close()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return status

    def restart(self) -> None:
        """Start again on the same folder; the process must have ended."""
        self.end(signal.SIGKILL)
        self.process = self._spawn()


CLIENT = """
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from devices.drivers.contract import Pin
from devices.drivers.ic_card import UNIT
from tests.devices.cards import IN_WINDOW, PERIOD, KeptPins
from devices.drivers.ic_card import IcCardDisk
from devices.simulator.rack_client import RackChannel
socket, device_no, what = sys.argv[1:]
disk = IcCardDisk(
    RackChannel(Path(socket), device_no=device_no), pins=KeptPins(), host_now=lambda: IN_WINDOW
)
disk.identify()
if what == "report":
    print("reporting", flush=True)
    disk.report(UNIT, PERIOD)
print("open", flush=True)
sys.stdin.read()
"""


def client_process(rack: RackProcess, what: str) -> subprocess.Popen[str]:
    """Another process that has the disk open; ``what``: ``hold`` or ``report``."""
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(rack.socket), DEVICE_NO, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and nothing left open."""
    process.kill()
    process.communicate()
