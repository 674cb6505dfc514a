"""A desk for tests: real pcscd daemons with virtual readers, and a rack whose disks are in them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from devices.drivers.ic_card import IcCardDisk
from devices.drivers.pcsc_channel import PcscChannel
from devices.drivers.pcsc_service import PcscService
from devices.drivers.pcsc_watch import ServiceView
from devices.protocol.failures import Failure
from devices.simulator import pcscd
from devices.simulator.pcscd import VirtualReaders
from devices.simulator.rack_client import RackControl, list_slots, rack_command, wait_ready
from devices.simulator.world import WorldDisk
from tests.devices.cards import IN_WINDOW, KeptPins, world_disk, world_of


def missing() -> str:
    """Why PC/SC tests cannot run here; empty when they can."""
    lacking = pcscd.missing()
    if importlib.util.find_spec("smartcard") is None:
        lacking.append("pyscard (deploy/requirements/reader.txt; needs libpcsclite-dev and gcc)")
    return f"needs {', '.join(lacking)}" if lacking else ""


@functools.cache
def daemon_folder() -> Path:
    """Where the daemons of this process live, one after another: short, and one for life, as a
    process talks to one socket only."""
    folder = tempfile.mkdtemp(prefix="qk")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def number(place: int) -> str:
    """The device number of the disk that starts in slot ``place`` (from 1)."""
    return f"{0xA0000 + place:016X}"


def slot(place: int) -> str:
    return f"S-{place:02d}"


class Desk:
    """``disks`` of ``readers`` slots hold a disk each; the rest is empty.

    One process talks to one daemon for life, so all desks whose channels are opened in the test's
    own process stand in the same folder.
    """

    def __init__(
        self,
        folder: Path,
        scratch: Path,
        *,
        readers: int = 4,
        disks: int = 2,
        per_daemon: int = pcscd.READERS_PER_DAEMON,
    ) -> None:
        self.folder = scratch / "disks"
        self.virtual = VirtualReaders(folder, readers, per_daemon=per_daemon)
        self.service = PcscService(self.virtual.sockets[0])
        self.socket = scratch / "rack.sock"
        self.control = RackControl(self.socket)
        self._channels: list[PcscChannel] = []
        self._clients: list[subprocess.Popen[str]] = []
        world = scratch / "world.json"
        world_of(*(self._disk(place) for place in range(1, disks + 1))).save(world)
        command = rack_command(world, "m1", self.folder, self.socket)
        for place, reader in enumerate(self.virtual.slots, 1):
            host, port = reader.address
            command += ["--vpcd", f"{slot(place)}={host}:{port}"]
        self._rack = subprocess.Popen(self.virtual.inside(command), stdout=subprocess.DEVNULL)
        try:
            wait_ready(self.socket)
            self.wait_seen(*range(1, disks + 1))
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _disk(place: int) -> WorldDisk:
        return world_disk(number(place), slot=slot(place))

    def reader(self, place: int) -> str:
        return self.virtual.slots[place - 1].reader

    def channel(
        self, place: int = 1, *, wait: float = 3.0, only_atrs: Sequence[bytes] = ()
    ) -> PcscChannel:
        channel = PcscChannel(
            self.reader(place), service=self.service, wait=wait, only_atrs=only_atrs
        )
        self._channels.append(channel)
        return channel

    def disk(self, place: int = 1, pins: KeptPins | None = None) -> IcCardDisk:
        return IcCardDisk(self.channel(place), pins=pins, host_now=lambda: IN_WINDOW)

    def client(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        """Another process at the same daemon; ``script`` sees ``channel(place)`` and ``argv``."""
        client = subprocess.Popen(
            [sys.executable, "-c", _PRELUDE + script, str(self.service.socket), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._clients.append(client)
        return client

    def views(self) -> list[ServiceView]:
        """What each daemon shows now, asked by a process of its own."""
        found = []
        for path in self.virtual.sockets:
            command = [sys.executable, "-m", "devices.drivers.pcsc_watch", "--once"]
            answer = subprocess.run(
                [*command, "--socket", str(path)], check=False, capture_output=True
            )
            found.append(ServiceView.from_line(answer.stdout))
        return found

    def wait_seen(self, *places: int, present: bool = True) -> None:
        """Wait until pcscd sees the slots as they are."""
        wanted = {(self.virtual.slots[place - 1].daemon, self.reader(place)) for place in places}

        def seen() -> bool:
            there = {
                (daemon, reader.name)
                for daemon, view in enumerate(self.views())
                for reader in view.readers
                if reader.present is present
            }
            return wanted <= there

        until(seen)

    def slots(self) -> dict[str, str]:
        return {view.slot: view.device_no for view in list_slots(self.socket)}

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        for client in self._clients:
            client.kill()
            client.communicate()
        self._rack.terminate()
        self._rack.wait()
        self.virtual.close()


@contextlib.contextmanager
def foreign_card(desk: Desk, place: int, log: Path) -> Iterator[None]:
    """A card of somebody else in an empty slot; what it is sent is in ``log``."""
    host, port = desk.virtual.slots[place - 1].address
    command = [sys.executable, "-m", "devices.simulator.vpcd", host, str(port), "--log", str(log)]
    with subprocess.Popen(desk.virtual.inside(command), stdin=subprocess.PIPE) as process:
        try:
            desk.wait_seen(place)
            yield
        finally:
            process.kill()


def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def failure_of(action: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        action()
    return caught.value


_PRELUDE = """
import os, sys, time
from pathlib import Path
from smartcard import scard
from devices.drivers.ic_card import UNIT, IcCardDisk
from devices.drivers.pcsc_channel import PcscChannel
from devices.drivers.pcsc_service import PcscService
from devices.protocol.failures import Failure
from devices.protocol.iccard import Application, select_application
from tests.devices.cards import IN_WINDOW, PERIOD, KeptPins, clear_data
service = PcscService(Path(sys.argv[1]))
argv = sys.argv[2:]
SELECT = select_application(Application.FISCAL).encode()
def say(*words):
    print(*words, flush=True)
"""
