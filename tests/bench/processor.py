"""Processor time of processes that are not ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def cpu_seconds(belongs: Callable[[Path], bool]) -> float:
    """Processor time of living processes and their ended children."""
    ticks = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if belongs(process):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += sum(int(fields[place]) for place in (11, 12, 13, 14))
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")
