"""Hands at the stand-in component (模拟): start it, plug, pull, swap, set faults, list slots.

Owns the client side of ``/_control`` and the command line. Each call is a connection of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from devices.simulator.component_faults import ComponentMode

_SECONDS = 10.0


class ComponentControl:
    """Raises ValueError for what the component will not do, httpx.HTTPError without one."""

    def __init__(self, address: str) -> None:
        self._url = f"{address}/_control"

    def slots(self) -> list[dict[str, str]]:
        """Every slot: ``slot``, ``device_no`` (or empty), ``kind``."""
        slots: list[dict[str, str]] = self._do(op="slots")["slots"]
        return slots

    def insert(self, slot: str, device_no: str) -> None:
        self._do(op="insert", slot=slot, device_no=device_no)

    def pull(self, slot: str) -> None:
        self._do(op="pull", slot=slot)

    def swap(self, slot: str, device_no: str) -> None:
        """Put another disk, out of the drawer, into the slot."""
        self.pull(slot)
        self.insert(slot, device_no)

    def fault(self, device_no: str, mode: ComponentMode, **fields: Any) -> None:
        """Set a fault; ``fields`` as in ``component_faults.ComponentFault``."""
        self._do(op="fault", device_no=device_no, mode=mode.value, **fields)

    def clear_faults(self, device_no: str) -> None:
        self._do(op="clear_faults", device_no=device_no)

    def commands(self, device_no: str) -> list[str]:
        """Ids of the requests for the disk since it was plugged in."""
        commands: list[str] = self._do(op="commands", device_no=device_no)["commands"]
        return commands

    def _do(self, **question: Any) -> dict[str, Any]:
        with httpx.Client(trust_env=False, timeout=_SECONDS) as client:
            response = client.post(self._url, json=question)
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer


def component_command(
    world: Path, machine: str, folder: Path, port_file: Path, *options: str
) -> list[str]:
    """The command line that starts a stand-in component, for whoever keeps processes."""
    return [
        *(sys.executable, "-m", "devices.simulator.component"),
        *("--world", str(world), "--machine", machine),
        *("--dir", str(folder), "--port-file", str(port_file), *options),
    ]


def wait_for_address(
    port_file: Path, process: subprocess.Popen[Any] | None = None, *, timeout: float = 15.0
) -> str:
    """The address once the component takes calls. TimeoutError, also when it ended instead."""
    end = time.monotonic() + timeout
    while time.monotonic() < end and (process is None or process.poll() is None):
        if port_file.exists():
            return f"http://127.0.0.1:{port_file.read_text(encoding='ascii').strip()}"
        time.sleep(0.01)
    raise TimeoutError(f"no component at {port_file}")
