"""Children of a reader machine, forked from a process that has read their programs already.

The product starts each run and each probe as a program of its own (a PC/SC context must not be
forked); reading that program costs several times what a simulated run costs. A walk has thousands
of runs and no PC/SC, so here one process for each machine reads the programs once and forks.

What comes out is what the worker knows: a process of its own and a child of the worker, in a
session of its own, with the same two pipes, that claims, works and is killed like any other. Only
``exec`` is left out. Linux alone can give a grandchild to its grandparent; elsewhere, and for every
other command, the programs are started as always.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

Program = Callable[[list[str]], int]

_PR_SET_CHILD_SUBREAPER = 36
_LOOK_SECONDS = 0.005
_ORPHANED = 70


class Nursery:
    """Made in a worker before its first thread. ``programs``: by the name of the module."""

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self._programs = programs if sys.platform == "linux" else {}
        self._lock = threading.Lock()
        if not self._programs:
            return
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        worker = os.getpid()
        self._wire, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self._wire.close()
            _serve(theirs, worker, self._programs)
        theirs.close()

    def popen(self, command: Sequence[str], **options: Any) -> Forked | subprocess.Popen[bytes]:
        """As :class:`subprocess.Popen`. Raises OSError when no process starts."""
        name, arguments = command[2], command[3:]
        if command[:2] != (sys.executable, "-m") or name not in self._programs:
            return subprocess.Popen(command, **options)
        (said, say), (hear, heard) = os.pipe(), os.pipe()
        try:
            with self._lock:
                message = "\n".join((name, *arguments)).encode()
                socket.send_fds(self._wire, [message], [said, heard])
                pid = int(self._wire.recv(32) or b"0")
            if not pid:
                raise ChildProcessError("the nursery has no child")
        except OSError:
            os.close(say)
            os.close(hear)
            raise
        finally:
            os.close(said)
            os.close(heard)
        return Forked(pid, say, hear)


class Forked:
    """A forked child, as far as a worker uses :class:`subprocess.Popen`."""

    def __init__(self, pid: int, stdin: int, stdout: int) -> None:
        self.pid = pid
        self.stdin, self.stdout = open(stdin, "wb"), open(stdout, "rb")  # noqa: SIM115 - its owner closes them
        self.returncode: int | None = None
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            time.sleep(_LOOK_SECONDS)
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _serve(wire: socket.socket, worker: int, programs: Mapping[str, Program]) -> NoReturn:
    """Fork a child for each message, until the worker is gone. One thread, no other descriptor."""
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError):
        while True:
            message, (said, heard), _, _ = socket.recv_fds(wire, 65536, 2)
            name, *arguments = message.decode().split("\n")
            born, bear = os.pipe()
            between = os.fork()
            if between == 0:
                between = os.getpid()
                if os.fork() == 0:
                    os.close(born)
                    wire.close()
                    _become_child(worker, between)
                    _run(programs[name], arguments, (said, heard), bear)
                os._exit(0)
            for descriptor in (said, heard, bear):
                os.close(descriptor)
            os.waitpid(between, 0)
            wire.send(os.read(born, 32) or b"0")
            os.close(born)
    os._exit(0)


def _become_child(worker: int, between: int) -> None:
    """Wait until the process between is gone, and we are the worker's."""
    os.setsid()
    while (parent := os.getppid()) != worker:
        if parent != between:  # the worker is gone as well
            os._exit(_ORPHANED)
        time.sleep(0.0005)


def _run(program: Program, arguments: list[str], pipes: tuple[int, int], bear: int) -> NoReturn:
    for number, descriptor in enumerate(pipes):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.write(bear, str(os.getpid()).encode())
    os.close(bear)
    status = 1
    try:
        status = program(arguments)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    os._exit(status)
