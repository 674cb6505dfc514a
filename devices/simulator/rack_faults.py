"""Faults that can be set on a disk of the rack (模拟), for fault walks and tests.

Owns which command a fault strikes and what it then does. Faults live in the rack's memory only: a
rack that is started again has none.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

DEFAULT_GARBAGE = "DEADBEEF"


class Mode(enum.StrEnum):
    """What goes wrong.

    ``lose_command``: the command never reaches the card; the session ends without an answer.
    ``lose_answer``: the card acts, the session ends without an answer.
    ``hang_before`` / ``hang_after``: nothing happens for ``seconds`` before or after the card
    acts; then it goes on as if nothing had been. If the client goes away while it hangs *before*,
    the card never acts.
    ``garbage``: the card acts, the answer is ``data`` (hexadecimal) instead.
    ``die_before_log`` / ``die_after_log``: the rack kills itself (SIGKILL) after the state of a
    write is safe and before its log line, or after both and before the answer.
    """

    LOSE_COMMAND = "lose_command"
    LOSE_ANSWER = "lose_answer"
    HANG_BEFORE = "hang_before"
    HANG_AFTER = "hang_after"
    GARBAGE = "garbage"
    DIE_BEFORE_LOG = "die_before_log"
    DIE_AFTER_LOG = "die_after_log"


@dataclass(slots=True)
class Fault:
    """``command``: a name as ``iccard.command_name`` gives it, or its first word; empty: any.

    The first ``skip`` commands that match pass, the next ``times`` are struck.
    """

    mode: Mode
    command: str = ""
    skip: int = 0
    times: int = 1
    seconds: float = 0.0
    data: str = DEFAULT_GARBAGE

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Fault:
        """Raises ValueError for what is no fault."""
        try:
            fault = cls(
                mode=Mode(message["mode"]),
                command=str(message.get("command", "")),
                skip=int(message.get("skip", 0)),
                times=int(message.get("times", 1)),
                seconds=float(message.get("seconds", 0)),
                data=str(message.get("data", DEFAULT_GARBAGE)),
            )
            bytes.fromhex(fault.data)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no fault: {error!r}") from error
        return fault

    def strikes(self, name: str) -> bool:
        """Whether the command ``name`` is struck; counts it."""
        if self.command and name != self.command and not name.startswith(f"{self.command} "):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times <= 0:
            return False
        self.times -= 1
        return True
