"""A process on a leash (:mod:`deploy.leash`), in a process group with it, its output in a log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[2]

_STOP_SECONDS = 15.0
# macOS has it from Python 3.13 on. Without it a group may outlive its leader by a moment.
_CAN_PEEK = hasattr(os, "waitid")


class Child:
    """One process on a leash, in a process group with it; its output goes to a log."""

    def __init__(self, name: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    def start(
        cls,
        name: str,
        arguments: Iterable[str],
        environment: Mapping[str, str],
        *,
        log: Path,
        tail: int,
        inside: Iterable[str] = (),
    ) -> Self:
        """Start ``python ARGUMENTS`` in the project's folder. ``tail``: a file descriptor that the
        leash, not the process, keeps open to its end. ``inside``: words before the command that
        make it one of another namespace."""
        leash = [sys.executable, "-I", "-S", str(ROOT / "deploy" / "leash.py")]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*leash, "TERM", str(_STOP_SECONDS), *inside, sys.executable, *arguments],
                cwd=ROOT,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(tail,),
                start_new_session=True,  # Ctrl-C is for us
            )
        return cls(name, log, process)

    @property
    def ended(self) -> bool:
        """Whether it has ended; its number stays taken until :meth:`wait`."""
        if not _CAN_PEEK:
            return self._process.poll() is not None
        found = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return found is not None

    def let_go(self) -> None:
        """Ask for a good end; :meth:`wait` waits for it."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def wait(self) -> int:
        """Wait for the end; the exit status. Nothing of the group is left afterwards."""
        if _CAN_PEEK:
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self._end_group()
        status = self._process.wait()
        self.let_go()
        return status

    def kill(self) -> None:
        """SIGKILL, leash included, as when the power of that machine fails."""
        self._end_group()
        self._process.wait()
        self.let_go()

    def _end_group(self) -> None:
        """The group has the number of the leash, which nobody else can get while it is ours."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def last_lines(self, count: int = 60) -> str:
        lines = self.log.read_bytes().decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-count:])
