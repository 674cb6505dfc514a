"""What the worker hands to its child: one JSON line on standard input.

It holds passwords and the machine's token: never an argument, never the environment, never a log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from clearing.wire import Order


@dataclass(frozen=True, slots=True)
class Task:
    """What the worker hands to its child. ``server_seen``: the server's time and when it was seen,
    steadily; ``arrived``: when the order came."""

    order: Order
    server: str
    token: str = field(repr=False)
    data_dir: Path
    rack_socket: Path | None
    server_seen: tuple[float, float] | None
    arrived: float
    parent: int

    def to_line(self) -> bytes:
        raw = {
            "order": self.order.to_json(),
            "server": self.server,
            "token": self.token,
            "data_dir": str(self.data_dir),
            "rack_socket": self.rack_socket and str(self.rack_socket),
            "server_seen": self.server_seen,
            "arrived": self.arrived,
            "parent": self.parent,
        }
        return json.dumps(raw).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Task:
        raw = json.loads(line)
        return cls(
            order=Order.from_json(raw["order"]),
            server=raw["server"],
            token=raw["token"],
            data_dir=Path(raw["data_dir"]),
            rack_socket=Path(raw["rack_socket"]) if raw["rack_socket"] else None,
            server_seen=tuple(raw["server_seen"]) if raw["server_seen"] else None,
            arrived=raw["arrived"],
            parent=raw["parent"],
        )
