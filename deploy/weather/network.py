"""A network of its own for every reader machine: namespaces, three cables each, and their cuts.

The storm itself runs in a network namespace of its own (:func:`enter`), and server, broker and
bureau with it; each machine gets another one, with a pair of veth devices to each of the three.
Every address exists in these namespaces only: two storms at once never meet, nothing of the host's
network is touched, and the kernel takes all of it away with the last process, however that ended.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import NoReturn

from deploy.private import within
from deploy.weather.schedule import LINKS, Kind

#: Addresses inside the namespaces; the place of a link in LINKS is its network.
SERVER, BROKER, BUREAU = "10.0.1.1", "10.0.2.1", "10.0.3.1"
_ADDRESSES = dict(zip(LINKS, (SERVER, BROKER, BUREAU), strict=True))
_CLONE_NEWNET = 0x40000000
_START_SECONDS = 10.0
_LIBC = ctypes.CDLL(None, use_errno=True)


def missing() -> list[str]:
    """What network namespaces need and this machine lacks, by package or by fact; else empty."""
    if sys.platform != "linux":
        return ["Linux"]
    tools = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
    lacking = sorted({package for tool, package in tools.items() if _find(tool) is None})
    if lacking:
        return lacking
    trial = "ip link set lo up && ip link add v0 type veth peer name v1"
    tried = subprocess.run(
        [*_unshare(), "sh", "-c", trial], capture_output=True, text=True, check=False, env=_path()
    )
    if tried.returncode == 0:
        return []
    who = "root" if os.geteuid() else "network namespaces and veth devices"
    return [f"{who} ({tried.stderr.strip()})"]


def enter(command: Sequence[str]) -> NoReturn:
    """Go on as ``command`` in a new network namespace; same process, same children's parent."""
    os.environ.update(_path())
    words = [*_unshare(), "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]
    os.execvp(words[0], words)  # noqa: S606 - our own command


class Network:
    """The machines' namespaces and cables; call it inside :func:`enter`. Ends with this process."""

    def __init__(self, machines: Sequence[str]) -> None:
        self._numbers = {name: number for number, name in enumerate(machines)}
        self._holders: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        for address in _ADDRESSES.values():
            _ip("addr", "add", f"{address}/32", "dev", "lo")
        try:
            for name in machines:
                self._add(name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the namespaces go; they end with their last process."""
        for holder in self._holders.values():
            if holder.stdin is not None:
                holder.stdin.close()
            holder.wait()
        self._holders = {}

    def inside(self, machine: str) -> list[str]:
        """The words before a command that make it one of this machine."""
        return ["nsenter", "-t", str(self._holders[machine].pid), "-n"]

    @contextlib.contextmanager
    def visit(self, machine: str) -> Iterator[None]:
        """Sockets that this thread opens meanwhile are opened on the machine."""
        with (
            open("/proc/thread-self/ns/net", "rb") as home,
            open(f"/proc/{self._holders[machine].pid}/ns/net", "rb") as there,
        ):
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    # -- cuts -----------------------------------------------------------------------------------

    def cut(self, machine: str, link: str, how: Kind) -> None:
        """``cable_pulled``: the machine notices at once; ``silence``: nothing passes either way,
        and nobody is told; ``answers_lost``: what the machine sends arrives, no answer does."""
        here, there, address = self._names(machine, link)
        with self._lock:
            if how is Kind.CABLE_PULLED:
                _ip("link", "set", there, "down", of=self._holders[machine].pid)
            elif how is Kind.SILENCE:
                _ip("link", "set", here, "down")
            else:
                _ip("route", "replace", "blackhole", address)

    def mend(self, machine: str, link: str) -> None:
        """As if nothing had been cut; harmless on a whole link."""
        here, there, address = self._names(machine, link)
        pid = self._holders[machine].pid
        with self._lock:
            _ip("link", "set", here, "up")
            _ip("link", "set", there, "up", of=pid)
            _ip("route", "replace", _ADDRESSES[link], "dev", there, "src", address, of=pid)
            _ip("route", "replace", address, "dev", here, "src", _ADDRESSES[link])

    def _names(self, machine: str, link: str) -> tuple[str, str, str]:
        """Both ends of the cable, and the machine's address."""
        number, place = self._numbers[machine], LINKS.index(link) + 1
        return f"m{number}{link}", link, f"10.0.{place}.{10 + number}"

    def _add(self, machine: str) -> None:
        holder = subprocess.Popen(["unshare", "-n", "cat"], stdin=subprocess.PIPE)
        self._holders[machine] = holder
        ours = os.readlink("/proc/self/ns/net")
        if not within(_START_SECONDS, lambda: _namespace_of(holder.pid) not in ("", ours)):
            raise RuntimeError(f"no network namespace for {machine}")
        _ip("link", "set", "lo", "up", of=holder.pid)
        for link in LINKS:
            here, there, address = self._names(machine, link)
            pair = ("type", "veth", "peer", "name", there, "netns", str(holder.pid))
            _ip("link", "add", here, *pair)
            _ip("addr", "add", f"{address}/32", "dev", there, of=holder.pid)
            self.mend(machine, link)


def _namespace_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return ""


def _ip(*words: str, of: int | None = None) -> None:
    """Run ip(8), in the namespace of the process ``of``. Raises RuntimeError."""
    inside = [] if of is None else ["nsenter", "-t", str(of), "-n"]
    done = subprocess.run([*inside, "ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _set_namespace(descriptor: int) -> None:
    """setns(2) for this thread alone; Python has it from 3.12 on."""
    if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _unshare() -> list[str]:
    return ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]


def _find(tool: str) -> str | None:
    return shutil.which(tool, path=_path()["PATH"])


def _path() -> dict[str, str]:
    """Also where PATH has no sbin."""
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
