"""What ties a child to the worker that started it.

Owns the child's side: it ignores the signals meant for the worker (a write is never cut by Ctrl-C
or by systemd), hears the worker's wish to stop, and dies at once when the worker is gone: nobody
would end its hung calls any more, and nobody would renew its lease.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from typing import NoReturn

STOP_LINE = b"stop\n"

_PR_SET_PDEATHSIG = 1


def tie_to_parent(parent: int) -> None:
    """Die with ``parent`` even inside a hung call (Linux; elsewhere :class:`Leash` alone)."""
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above
            die()


class Leash:
    """Standard input: first the task; later ``stop`` is a wish, and the end of it the end of us.

    Reads the descriptor itself: a thread inside Python's buffered reader breaks the process's end.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self._stop = threading.Event()

    def task_line(self) -> bytes:
        """The first line; ends the process when there is none."""
        return self._line() or die()

    def hold(self) -> None:
        """Listen from now on."""
        threading.Thread(target=self._listen, name="leash", daemon=True).start()

    def stopping(self) -> bool:
        return self._stop.is_set()

    def _listen(self) -> None:
        while line := self._line():
            if line == STOP_LINE:
                self._stop.set()
        die()

    def _line(self) -> bytes | None:
        while b"\n" not in self._buffer:
            received = os.read(self._descriptor, 65536)
            if not received:
                return None
            self._buffer += received
        line, newline, self._buffer = self._buffer.partition(b"\n")
        return line + newline


def die() -> NoReturn:
    """End this process now, with nothing more said or written."""
    os._exit(70)
