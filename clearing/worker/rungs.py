"""The rungs of the recovery ladder, and what each is called towards the server and people.

A slot that hangs is reported with the problem of the rung it is on.
"""

from __future__ import annotations

import enum

from devices.protocol.failures import Code
from devices.protocol.texts import N_


class Rung(enum.IntEnum):
    """How far the ladder was climbed for a slot; the next one is tried when this one failed."""

    REOPEN = 0
    CONTEXT = 1
    SERVICE = 2
    POWER = 3
    PERSON = 4

    @property
    def problem(self) -> str:
        """The slot's problem as presence reports it (at most 32 characters)."""
        return _PROBLEMS[self]

    @property
    def label(self) -> str:
        return _LABELS[self]


_PROBLEMS = {
    Rung.REOPEN: Code.NO_ANSWER.value,
    Rung.CONTEXT: "reader_context",
    Rung.SERVICE: "reader_service",
    Rung.POWER: "reader_power",
    Rung.PERSON: "reader_person",
}
_LABELS = {
    Rung.REOPEN: N_("重新打开税盘"),
    Rung.CONTEXT: N_("重新建立读卡连接"),
    Rung.SERVICE: N_("重启读卡服务"),
    Rung.POWER: N_("读卡器断电重启"),
    Rung.PERSON: N_("须人工处理: 请拔出税盘重新插入, 或更换读卡器"),
}

#: For pages and lists: the text of a slot's problem that is no failure of the catalogue.
PROBLEM_LABELS = {rung.problem: rung.label for rung in Rung if rung is not Rung.REOPEN}
