"""Makes a slot of a group the active one, by the configured command.

The caller holds the group. What then answers is not believed to be the disk of that slot: its
identity is asked, as everywhere.
"""

from __future__ import annotations

import subprocess

from clearing.worker.hardware import Hardware
from devices.protocol.failures import Code, Failure

RAW_CODE = "switch"


def activate(hardware: Hardware, slot: str, seconds: float) -> None:
    """Returns when the command ended well; nothing to do for a slot of no group.

    Raises Failure(no_answer)."""
    group = hardware.group_of(slot)
    if group is None:
        return
    try:
        done = subprocess.run(
            group.command(slot),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(Code.NO_ANSWER, raw_code=RAW_CODE, detail=type(error).__name__) from None
    if done.returncode:
        raise Failure(Code.NO_ANSWER, raw_code=RAW_CODE, detail=f"{done.returncode}")
