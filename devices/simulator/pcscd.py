"""Private pcscd daemons with virtual readers (模拟), for tests, benches and the demo.

Owns a network namespace of their own (vpcd listens on **all** addresses; only cards have to be
inside, clients come by unix socket), a mount namespace per daemon with its own ``/run/pcscd``, the
generated ``reader.conf``, and the processes: they end with whoever started them.

Facts: a reader.conf entry makes two slots, and each entry needs its own copy of the driver
library, or cards end up in the wrong reader (the library keeps its state in globals). Debian's
pcscd 1.9.9 holds 16 readers and drops the rest without a word (PCSC#13), hence one daemon per 16.
``PCSCLITE_HP_DROPDIR`` points at an empty folder: a test never takes a real reader. Without root a
user namespace is made as well.

Must never: touch the system's own pcscd, its socket or its readers.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from devices.simulator.rack_wire import socket_address

#: What pcsc-lite before 2.0 holds.
READERS_PER_DAEMON = 16
HOST = "127.0.0.1"
_FIRST_PORT = 35963
_SLOTS_PER_ENTRY = 2
DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")


def missing() -> list[str]:
    """What these daemons need and this machine lacks, by Debian package or by fact; else empty."""
    found = []
    if sys.platform != "linux":
        return ["Linux"]
    if find_pcscd() is None:
        found.append("pcscd")
    if not DRIVER.exists():
        found.append("vsmartcard-vpcd")
    tools = [tool for tool in ("unshare", "nsenter") if shutil.which(tool) is None]
    if tools:
        found.append("util-linux")
    else:
        tried = subprocess.run([*_unshare(), "true"], check=False, capture_output=True, text=True)
        if tried.returncode != 0:
            found.append(f"network and mount namespaces ({tried.stderr.strip()})")
    return found


@dataclass(frozen=True, slots=True)
class VirtualSlot:
    """One reader: at which daemon, its PC/SC name there, and where a card is plugged in."""

    daemon: int
    reader: str
    port: int

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port


def slots_of(readers: int, per_daemon: int = READERS_PER_DAEMON) -> list[VirtualSlot]:
    """The slots that :class:`VirtualReaders` makes, in order."""
    slots = []
    for number in range(readers):
        daemon, place = divmod(number, per_daemon)
        entry, slot = divmod(place, _SLOTS_PER_ENTRY)
        port = _FIRST_PORT + daemon * 2 * per_daemon + place
        slots.append(VirtualSlot(daemon, f"QK virtual {entry:02d} 00 {slot:02X}", port))
    return slots


class VirtualReaders:
    """Daemons with ``readers`` slots together. They die with this process, or at :meth:`close`.

    ``folder`` must be short (sockets live in it) and not below /run. ``wait``: until all slots are
    open; False for more slots than a daemon holds. Raises RuntimeError when they do not start.
    """

    def __init__(
        self,
        folder: Path,
        readers: int,
        *,
        per_daemon: int = READERS_PER_DAEMON,
        wait: bool = True,
    ) -> None:
        self._wait = wait
        self.slots = slots_of(readers, per_daemon)
        self.sockets = [
            folder / str(daemon) / "run" / "pcscd.comm"
            for daemon in sorted({slot.daemon for slot in self.slots})
        ]
        for path in self.sockets:
            socket_address(path)
        self._launcher = subprocess.Popen(
            [
                *_unshare(),
                *(sys.executable, "-m", "devices.simulator.pcscd_launcher"),
                *(str(folder), str(readers), str(per_daemon)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for us; they end when our end of the pipe closes
        )
        try:
            for daemon in range(len(self.sockets)):
                self.start(daemon)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> VirtualReaders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def inside(self, command: Sequence[str]) -> list[str]:
        """``command`` as it runs where the cards' ports are."""
        target = ["nsenter", "-t", str(self._launcher.pid), "-n"]
        return [*target, *([] if os.geteuid() == 0 else ["-U", "--preserve-credentials"]), *command]

    def start(self, daemon: int) -> None:
        """Start a daemon that is not running, and wait until it has opened all its readers."""
        self._ask(f"start {daemon} {int(self._wait)}")

    def kill(self, daemon: int, signum: signal.Signals = signal.SIGKILL) -> None:
        """End a daemon and see that it is gone."""
        self._ask(f"kill {daemon} {int(signum)}")

    def pid(self, daemon: int) -> int:
        return int(self._ask(f"pid {daemon}"))

    def close(self) -> None:
        """End all; safe to call twice."""
        for pipe in self._pipes():
            pipe.close()
        self._launcher.wait()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        stdin, stdout = self._launcher.stdin, self._launcher.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("no pipes")
        return stdin, stdout

    def _ask(self, question: str) -> str:
        stdin, stdout = self._pipes()
        try:
            stdin.write(question + "\n")
            stdin.flush()
        except BrokenPipeError:
            pass
        word, _, rest = stdout.readline().strip().partition(" ")
        if word != "ok":
            raise RuntimeError(f"pcscd: {question}: {rest or 'the launcher ended'}")
        return rest


def find_pcscd() -> str | None:
    """The daemon, also where PATH has no sbin."""
    return shutil.which("pcscd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _unshare() -> list[str]:
    return ["unshare", "-nm"] if os.geteuid() == 0 else ["unshare", "-rnm"]
