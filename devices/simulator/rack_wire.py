"""How a rack (模拟) and its clients talk: one JSON object per line over a unix socket.

Owns framing and the limits. A connection either asks control questions (one answer each) or opens
one disk and then carries APDUs: ``{"op": "open", "slot": …}`` → ``{"ok": true}``, then
``{"apdu": hex}`` → ``{"response": hex}`` or ``{"error": code, "outcome_unknown": bool}``.

Must never: read a line without end. How long to wait is the socket's own setting.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

#: sun_path holds 108 bytes with its closing zero.
MAX_SOCKET_PATH = 107
_MAX_LINE = 1 << 20


class WireError(Exception):
    """What came is no message of ours."""


def socket_address(path: Path) -> str:
    """``path`` as an address, or ValueError that says how long it may be."""
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise ValueError(
            f"socket path has {length} bytes, at most {MAX_SOCKET_PATH} are possible: {path}"
        )
    return str(path)


class Wire:
    """One end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._buffer = bytearray()

    def send(self, message: dict[str, Any]) -> None:
        self.connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next message, None at the end. OSError (TimeoutError) and :class:`WireError`."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_LINE:
                raise WireError("line too long")
            received = self.connection.recv(65536)
            if not received:
                return None
            self._buffer += received
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except ValueError:
            raise WireError("not JSON") from None
        if not isinstance(message, dict):
            raise WireError("not an object")
        return message

    def peer_is_gone(self) -> bool:
        """Whether the other end has closed, without taking anything out of the stream."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self.connection.close()
