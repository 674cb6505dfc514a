"""Runs probe processes: every slot gets its time, and a reader that hangs costs only its own.

Owns the limit of a probe and the marks: a slot that answered is free again, one that hung is
marked.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

from clearing.worker.config import MachineConfig
from clearing.worker.places import Places
from devices.protocol.failures import Code

log_ = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "clearing.worker.probe")
#: How long one slot may take; starting the process is part of the first one's time.
PROBE_SECONDS = 20.0

Found = dict[str, Any]
_HUNG: Found = {
    "device_no": "",
    "tax_id": "",
    "kind": "",
    "terminal_no": None,
    "problem": Code.NO_ANSWER.value,
    "hung": True,
}


def probe_slots(
    config: MachineConfig,
    slots: Sequence[str],
    places: Places,
    *,
    seconds: float = PROBE_SECONDS,
    command: Sequence[str] = COMMAND,
    control: bool = False,
) -> dict[str, Found]:
    """Ask each slot who is in it; slots in a run are left out. Marks and unmarks slots.

    A slot whose reader hung is ``no_answer`` with ``hung``; ``control`` reads what the disk says,
    too."""
    task = {
        "hardware": config.hardware.to_json(),
        "data_dir": str(config.data_dir),
        "seconds": seconds,
        "control": control,
        "parent": os.getpid(),
    }
    found: dict[str, Found] = {}
    for party in config.hardware.parties(slots):
        found |= _ask_party(task, party, places, seconds, command)
    return found


def _ask_party(
    task: dict[str, Any],
    slots: Sequence[str],
    places: Places,
    seconds: float,
    command: Sequence[str],
) -> dict[str, Found]:
    """Slots that one process can ask; another one goes on after a slot that hung."""
    found: dict[str, Found] = {}
    left = list(slots)
    while left:
        answered, hung = _ask(task | {"slots": left}, seconds, command)
        for slot, answer in answered.items():
            if answer is not None:
                if answer["problem"] == Code.DISK_IN_USE and places.is_marked(slot):
                    # The call that was cut still has the reader: PC/SC frees it with its answer.
                    answer = dict(_HUNG)
                found[slot] = answer
                if answer["problem"] != Code.NO_ANSWER:
                    places.unmark(slot)
        if hung is not None:
            log_.warning("slot %s: reader does not answer", hung)
            places.mark(hung)
            found[hung] = dict(_HUNG)
        done = set(answered) | ({hung} if hung is not None else {left[0]})
        left = [slot for slot in left if slot not in done]
    return found


def _ask(
    task: dict[str, Any], seconds: float, command: Sequence[str]
) -> tuple[dict[str, Found | None], str | None]:
    """One process for all slots: what was answered, and the slot in which it hung, if any."""
    answered: dict[str, Found | None] = {}
    at: str | None = None
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101 - pipes
        lines: queue.Queue[bytes | None] = queue.Queue()
        threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
        while (line := lines.get(timeout=seconds)) is not None:
            said = json.loads(line)
            if said.get("begins"):
                at = said["slot"]
            else:
                answered[said["slot"]], at = said["found"], None
    except queue.Empty:
        log_.debug("probe over its limit")
    except OSError as error:
        log_.warning("probe: %s", type(error).__name__)
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    return answered, at


def _read(stdout: Any, lines: queue.Queue[bytes | None]) -> None:
    try:
        for line in stdout:
            lines.put(line)
    except (OSError, ValueError):  # closed under our hands
        pass
    finally:
        lines.put(None)
