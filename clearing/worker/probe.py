"""Asks slots who is in them: ``python -m clearing.worker.probe``, in a process that can be ended.

The slots come as one JSON line on standard input. Before each it says which, after it what came: an
identity, a problem by catalogue code, or that a run has the slot. Asked to (``control``), it reads
the control data, too. It sends no password and changes nothing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clearing.worker.drivers import Wanted, kind_in, open_disk
from clearing.worker.hardware import Hardware
from clearing.worker.leash import Leash, tie_to_parent
from clearing.worker.places import Places
from clearing.worker.switch import activate
from devices.drivers.contract import Identity, TaxDisk
from devices.protocol.control import BEIJING, to_json
from devices.protocol.failures import Code, Failure

# A run that waits for the group goes first: a round of questions can be made later.
_GROUP_SECONDS = 0.5

Found = dict[str, Any]


def main() -> int:
    leash = Leash()
    task = json.loads(leash.task_line())
    tie_to_parent(task["parent"])
    leash.hold()
    places = Places(Path(task["data_dir"]))
    hardware = Hardware.from_json(task["hardware"])
    for slot in task["slots"]:
        _say({"slot": slot, "begins": True})
        with _held(places, hardware, slot) as free:
            control = task.get("control", False)
            found = ask(hardware, slot, task["seconds"], control) if free else None
        _say({"slot": slot, "found": found})
    return 0


@contextlib.contextmanager
def _held(places: Places, hardware: Hardware, slot: str) -> Iterator[bool]:
    with contextlib.ExitStack() as held:
        group = hardware.group_of(slot)
        free = group is None or held.enter_context(places.hold_group(group.name, _GROUP_SECONDS))
        yield free and held.enter_context(places.hold_slot(slot))


def ask(hardware: Hardware, slot: str, seconds: float, control: bool = False) -> Found:
    """Who is in the slot, as presence reports it; with ``control`` what the disk says, too."""
    found: Found = {
        "device_no": "",
        "tax_id": "",
        "kind": "",
        "terminal_no": None,
        "problem": "",
    }
    try:
        activate(hardware, slot, seconds)
        disk = _opened(hardware, slot, seconds)
        try:
            identity, disk = _identified(hardware, slot, seconds, disk)
            found |= {
                "device_no": identity.device_no,
                "tax_id": identity.tax_id,
                "kind": identity.kind,
                "terminal_no": identity.terminal_no,
            }
            if control:
                found |= _read(disk, identity)
        finally:
            disk.close()
    except Failure as failure:
        found["problem"] = failure.code.value
    return found


def _opened(hardware: Hardware, slot: str, seconds: float) -> TaxDisk:
    return open_disk(
        hardware,
        Wanted(
            kind=kind_in(hardware, slot),
            slot=slot,
            call_seconds=seconds,
            host_now=lambda: dt.datetime.now(BEIJING),
        ),
    )


def _identified(
    hardware: Hardware, slot: str, seconds: float, disk: TaxDisk
) -> tuple[Identity, TaxDisk]:
    """Re-opening is the first rung of the ladder: a lost answer is asked for once more."""
    try:
        return disk.identify(), disk
    except Failure as failure:
        if failure.code != Code.NO_ANSWER:
            raise
    disk.close()
    disk = _opened(hardware, slot, seconds)
    try:
        return disk.identify(), disk
    except Failure:
        disk.close()
        raise


def _read(disk: TaxDisk, identity: Identity) -> Found:
    """What a person may see of the disk. A kind that wants its password first says so."""
    known: Found = {
        "name": identity.taxpayer_name,
        "training": identity.training,
        "retired": identity.retired,
        "raw": dict(identity.raw),
        "types": {},
        "unread": "",
    }
    if not disk.capabilities.read:
        return known | {"unread": Code.NOT_SUPPORTED.value}
    try:
        controls = disk.read_control()
    except Failure as failure:
        return known | {"unread": failure.code.value}
    return known | {"types": {kind: to_json(data) for kind, data in controls.items()}}


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
