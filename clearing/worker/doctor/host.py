"""The machine as the examination sees it: files, processes, programs. Replaced in tests."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_SECONDS = 10.0


@dataclass(frozen=True)
class Host:
    """``root``: where /proc and /sys are looked for."""

    root: Path = Path("/")
    platform: str = sys.platform

    def output(self, command: Sequence[str]) -> str | None:
        """What a program prints on both its outputs, or None when it is not there or hangs."""
        if shutil.which(command[0]) is None:
            return None
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        encoding = "mbcs" if self.platform == "win32" else "utf-8"
        return (done.stdout + done.stderr).decode(encoding, errors="replace")

    def processes(self) -> dict[int, str]:
        """Process id → command line (on Windows: the program's name)."""
        if self.platform == "win32":
            return self._tasks()
        found: dict[int, str] = {}
        for folder in (self.root / "proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes() or (folder / "comm").read_bytes()
            except OSError:  # it ended while we looked
                continue
            found[int(folder.name)] = line.replace(b"\0", b" ").decode(errors="replace").strip()
        return found

    def _tasks(self) -> dict[int, str]:
        listed = self.output(["tasklist", "/fo", "csv", "/nh"]) or ""
        rows = [row for row in csv.reader(listed.splitlines()) if len(row) > 1]
        return {int(row[1]): row[0] for row in rows if row[1].isdigit()}
