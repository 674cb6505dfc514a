"""Faults that can be set on a disk of the stand-in component (模拟), for fault walks and tests.

Owns which request a fault strikes and what it then does. Faults live in memory only: a component
that is started again has none. The modes are the rack's, and one more: ``refuse``.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

#: ``<garbage/>``, in hexadecimal.
DEFAULT_GARBAGE = "3C676172626167652F3E"


class ComponentMode(enum.StrEnum):
    """What goes wrong. ``hang_before`` and ``hang_after`` go on after ``seconds``; if the client
    has gone away meanwhile, the disk never acts after ``hang_before``."""

    LOSE_COMMAND = "lose_command"  # the disk does not act, the connection ends
    LOSE_ANSWER = "lose_answer"  # it acts, the connection ends
    HANG_BEFORE = "hang_before"
    HANG_AFTER = "hang_after"
    GARBAGE = "garbage"  # it acts, the answer is ``data``
    REFUSE = "refuse"  # it does not act, the answer is the return code ``code``
    DIE_BEFORE_LOG = "die_before_log"  # SIGKILL once the state is safe
    DIE_AFTER_LOG = "die_after_log"  # SIGKILL once the log is, too


@dataclass(slots=True)
class ComponentFault:
    """``command``: the id of an operation (``SJCB``), empty: any. The first ``skip`` that match
    pass, the next ``times`` are struck."""

    mode: ComponentMode
    command: str = ""
    skip: int = 0
    times: int = 1
    seconds: float = 0.0
    data: str = DEFAULT_GARBAGE
    code: str = ""
    text: str = ""

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> ComponentFault:
        """Raises ValueError for what is no fault."""
        try:
            fault = cls(
                mode=ComponentMode(message["mode"]),
                command=str(message.get("command", "")),
                skip=int(message.get("skip", 0)),
                times=int(message.get("times", 1)),
                seconds=float(message.get("seconds", 0)),
                data=str(message.get("data", DEFAULT_GARBAGE)),
                code=str(message.get("code", "")),
                text=str(message.get("text", "")),
            )
            bytes.fromhex(fault.data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no fault: {error!r}") from error
        return fault

    def strikes(self, command: str) -> bool:
        """Whether ``command`` is struck; counts it."""
        if self.command not in ("", command):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times <= 0:
            return False
        self.times -= 1
        return True
