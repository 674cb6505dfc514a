"""A run's child that kills itself with SIGKILL at a chosen line around a PIN roll.

    python -m tests.reliability.pin_victim POINT [FILE]

Lines of our own code are counted from the request for a roll to the moment its answer is safe, for
every roll of the run; at line POINT the process dies, without a last word. POINT 0 dies nowhere and
leaves the list of all places in FILE. Everything else is ``clearing.worker.child``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

if __name__ == "__main__":
    sys.modules["click"] = None  # type: ignore[assignment] # as in the child

from clearing.worker import child, client, durable, journal, ledger, pinbook, pins
from devices.drivers import ic_card
from devices.simulator import rack_client

_WATCHED = frozenset(
    str(module.__file__)
    for module in (client, durable, ic_card, journal, ledger, pinbook, pins, rack_client)
)
_BEGINS, _ENDS = journal.AttemptLog.ask_roll.__code__, ic_card.IcCardDisk._roll_pin.__code__


class Victim:
    """Counts lines, and dies at one of them."""

    def __init__(self, point: int) -> None:
        self.places: list[str] = []
        self._point = point
        self._around = False

    def called(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code is _BEGINS:
            self._around = True
        return self._passed if frame.f_code.co_filename in _WATCHED else None

    def _passed(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line" and self._around:
            name = Path(frame.f_code.co_filename).name
            self.places.append(f"{name}:{frame.f_lineno} {frame.f_code.co_name}")
            if len(self.places) == self._point:
                os.kill(os.getpid(), signal.SIGKILL)
        elif event == "return" and frame.f_code is _ENDS:
            self._around = False
        return self._passed


def main() -> int:
    victim = Victim(int(sys.argv[1]))
    sys.settrace(victim.called)
    status = child.main()
    sys.settrace(None)
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(json.dumps(victim.places), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
