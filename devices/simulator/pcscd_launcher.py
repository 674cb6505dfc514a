"""Keeps private pcscd daemons (模拟); started by :mod:`devices.simulator.pcscd` in its namespaces.

    unshare -nm python -m devices.simulator.pcscd_launcher FOLDER READERS PER_DAEMON

Takes ``start N ALL``, ``kill N SIGNAL`` and ``pid N`` on standard input and answers each with
``ok …`` or ``no …``. When standard input ends all daemons are killed; when it is killed itself, the
kernel kills them (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from devices.simulator.pcscd import DRIVER, VirtualSlot, find_pcscd, slots_of

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNS = 0x20000
_MS_BIND = 0x1000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_LISTEN = "0A"
_RUN = Path("/run/pcscd")
_START_SECONDS = 30.0


class Daemon:
    """One pcscd and its folder."""

    def __init__(self, folder: Path, slots: list[VirtualSlot]) -> None:
        self._folder = folder
        self._slots = slots
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("run", "conf", "drivers", "lib"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        entries = []
        for slot in slots[::2]:
            library = folder / "lib" / f"vpcd-{slot.port}.so"
            shutil.copyfile(DRIVER.resolve(), library)
            entries.append(
                f'FRIENDLYNAME "{slot.reader[:-6]}"\n'
                f"DEVICENAME /dev/null:0x{slot.port:04X}\n"
                f"LIBPATH {library}\n"
                f"CHANNELID 0x{slot.port:04X}\n"
            )
        (folder / "conf" / "readers").write_text("\n".join(entries), encoding="ascii")

    def start(self, *, all_slots: bool) -> None:
        """Returns when the daemon's socket is there, and every slot listens (if ``all_slots``).

        Raises RuntimeError.
        """
        if self.process is not None:
            raise RuntimeError("runs already")
        run = self._folder / "run"
        for left in run.iterdir():  # of one that was killed
            left.unlink()
        with (self._folder / "pcscd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [find_pcscd() or "pcscd", "--foreground", "-c", str(self._folder / "conf")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ.get("PATH", ""), "PCSCLITE_HP_DROPDIR": self._drivers},
                preexec_fn=lambda: _into_own_mounts(run),
            )
        end = time.monotonic() + _START_SECONDS
        while not self._is_ready(all_slots):
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill(signal.SIGKILL)
                raise RuntimeError(f"pcscd did not start, see {self._folder / 'pcscd.log'}")
            time.sleep(0.01)

    def kill(self, signum: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(signum)
            self.process.wait()
            self.process = None

    @property
    def _drivers(self) -> str:
        return str(self._folder / "drivers")

    def _is_ready(self, all_slots: bool) -> bool:
        if not (self._folder / "run" / "pcscd.comm").exists():
            return False
        listening = set()
        for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            if state == _LISTEN:
                listening.add(int(local.rpartition(":")[2], 16))
        wanted = {slot.port for slot in self._slots}
        return wanted <= listening if all_slots else bool(wanted & listening)


def _into_own_mounts(run: Path) -> None:
    """In the forked child: die with the launcher, and see ``run`` as /run/pcscd."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _call("unshare", _CLONE_NEWNS)
    _call("mount", bytes(run), bytes(_RUN), None, _MS_BIND, None)


def _prepare_namespaces(folder: Path) -> None:
    """Bring the loopback up, and have a /run/pcscd to mount on (without making one outside)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
    if not _RUN.is_dir():
        if folder.is_relative_to("/run"):
            raise RuntimeError("the folder must not be below /run")
        _call("mount", b"tmpfs", b"/run", b"tmpfs", 0, None)
        _RUN.mkdir()


def _call(name: str, *arguments: bytes | int | None) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def main() -> int:
    folder, readers, per_daemon = Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3])
    _prepare_namespaces(folder)
    slots = slots_of(readers, per_daemon)
    daemons = [
        Daemon(folder / str(number), [slot for slot in slots if slot.daemon == number])
        for number in sorted({slot.daemon for slot in slots})
    ]
    for line in sys.stdin:
        try:
            print("ok", _do(daemons, line.split()), flush=True)
        except (RuntimeError, OSError) as error:
            print("no", error, flush=True)
    for daemon in daemons:
        daemon.kill(signal.SIGKILL)
    return 0


def _do(daemons: list[Daemon], words: list[str]) -> str:
    daemon = daemons[int(words[1])]
    match words[0]:
        case "start":
            daemon.start(all_slots=words[2] == "1")
        case "kill":
            daemon.kill(signal.Signals(int(words[2])))
        case "pid" if daemon.process is not None:
            return str(daemon.process.pid)
        case _:
            raise RuntimeError("not running")
    return ""


if __name__ == "__main__":
    sys.exit(main())
