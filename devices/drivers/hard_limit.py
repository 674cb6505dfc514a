"""A time limit on a whole HTTP call, for every transport that speaks to a device or a bureau."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Any, Self


class HardLimit:
    """Ends a call when its time is over, wherever it hangs, by cutting its connection.

    httpx limits each read and write by itself; nothing in it limits their sum.
    """

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        with self._lock:
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """httpx tells of each step; the one that matters is the new connection."""
        if event != "connection.connect_tcp.complete":
            return
        with self._lock:
            # A duplicate: TLS takes the descriptor over, handshake included, and a shutdown through
            # the duplicate still ends the one connection.
            self._socket = info["return_value"].get_extra_info("socket").dup()
            if self.over:
                self._cut()

    def _end(self) -> None:
        with self._lock:
            self.over = True
            self._cut()

    def _cut(self) -> None:
        if self._socket is None:
            return
        with contextlib.suppress(OSError):  # the other side was faster
            self._socket.shutdown(socket.SHUT_RDWR)
