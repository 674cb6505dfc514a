"""Asks slots who is in them: ``python -m clearing.worker.probe``, in a process that can be ended.

The slots come as one JSON line on standard input. Before each it says which, after it what came: an
identity, a problem by catalogue code, or that a run has the slot. It sends no password and changes
nothing.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from clearing.worker.drivers import open_disk
from clearing.worker.leash import Leash, tie_to_parent
from clearing.worker.places import Places
from devices.drivers.dates import Kind
from devices.protocol.control import BEIJING
from devices.protocol.failures import Failure


def main() -> int:
    leash = Leash()
    task = json.loads(leash.task_line())
    tie_to_parent(task["parent"])
    leash.hold()
    places = Places(Path(task["data_dir"]))
    for slot in task["slots"]:
        _say({"slot": slot, "begins": True})
        with places.hold_slot(slot) as free:
            found = ask(slot, Path(task["rack_socket"]), task["seconds"]) if free else None
        _say({"slot": slot, "found": found})
    return 0


def ask(slot: str, rack_socket: Path, seconds: float) -> dict[str, Any]:
    """Who is in the slot, as presence reports it."""
    found = {"device_no": "", "tax_id": "", "kind": "", "terminal_no": None, "problem": ""}
    try:
        disk = open_disk(
            Kind.IC_CARD,
            slot,
            rack_socket=rack_socket,
            call_seconds=seconds,
            pins=None,
            host_now=lambda: dt.datetime.now(BEIJING),
        )
        try:
            identity = disk.identify()
        finally:
            disk.close()
    except Failure as failure:
        return found | {"problem": failure.code.value}
    return found | {
        "device_no": identity.device_no,
        "tax_id": identity.tax_id,
        "kind": identity.kind,
        "terminal_no": identity.terminal_no,
    }


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
