"""What the worker hands to its child: one JSON line on standard input.

It holds passwords and the machine's token: never an argument, never the environment, never a log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from clearing.wire import Order
from clearing.worker.hardware import Hardware


@dataclass(frozen=True, slots=True)
class Task:
    """What the worker hands to its child. ``server_seen``: the server's time and when it was seen,
    steadily; ``arrived``: when the order came; ``hold_seconds``: how long an intent may be held
    while the readers are seen to."""

    order: Order
    server: str
    token: str = field(repr=False)
    data_dir: Path
    hardware: Hardware
    server_seen: tuple[float, float] | None
    arrived: float
    parent: int
    hold_seconds: float = 0.0

    def to_line(self) -> bytes:
        raw = {
            "order": self.order.to_json(),
            "server": self.server,
            "token": self.token,
            "data_dir": str(self.data_dir),
            "hardware": self.hardware.to_json(),
            "server_seen": self.server_seen,
            "arrived": self.arrived,
            "parent": self.parent,
            "hold_seconds": self.hold_seconds,
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
            hardware=Hardware.from_json(raw["hardware"]),
            server_seen=tuple(raw["server_seen"]) if raw["server_seen"] else None,
            arrived=raw["arrived"],
            parent=raw["parent"],
            hold_seconds=raw["hold_seconds"],
        )
