"""The one table of run states: labels, groups, and every allowed move.

The database repeats the invariants as constraints (``clearing.models.Run``); tests draw every
move, allowed and refused.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class RunState(models.TextChoices):
    QUEUED = "queued", _("排队中")
    WAITING = "waiting", _("等待")
    CLAIMED = "claimed", _("办理中")
    UNKNOWN = "unknown", _("结果待核实")
    DONE = "done", _("已完成")
    FAILED = "failed", _("未办成")
    CANCELLED = "cancelled", _("已取消")
    SKIPPED = "skipped", _("已跳过")
    SUPERSEDED = "superseded", _("已转入新属期")


class Reason(models.TextChoices):
    """Why a run waits; each has a waker."""

    DISK = "disk", _("待插盘")
    MACHINE = "machine", _("等待读盘机上线")
    PIN = "pin", _("PIN 在另一台读盘机上")
    FILING = "filing", _("待申报")
    WINDOW = "window", _("未到征期")
    QUIET = "quiet", _("跨日跨月时段, 暂不写盘")
    BUREAU = "bureau", _("税局暂不可用, 稍后自动再试")
    RETRY = "retry", _("稍后自动再试")
    CONFIRM = "confirm", _("清卡确认待送达税局")
    BY_HAND = "by_hand", _("待人工办理")
    HOLD = "hold", _("暂缓")


# What ends these waits is not a time: a disk or a machine that comes, a person.
WOKEN = frozenset({Reason.DISK, Reason.MACHINE, Reason.BY_HAND, Reason.HOLD})

OPEN = frozenset({RunState.QUEUED, RunState.WAITING, RunState.CLAIMED, RunState.UNKNOWN})
ENDED = frozenset(RunState) - OPEN
# A batch ends when none of its runs is in these.
BUSY = frozenset({RunState.QUEUED, RunState.CLAIMED, RunState.UNKNOWN})

# What the machine that held the newest attempt may still settle after its lease is over.
_SETTLED = ENDED | {RunState.WAITING, RunState.UNKNOWN}

MOVES: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: _SETTLED | {RunState.CLAIMED},
    # Its waker, cancel, the month turning, a confirmed entry by hand.
    RunState.WAITING: frozenset(
        {RunState.QUEUED, RunState.CANCELLED, RunState.SUPERSEDED, RunState.SKIPPED}
    ),
    # settle, release, lease over
    RunState.CLAIMED: _SETTLED | {RunState.QUEUED},
    # A claim that reads the disk; or the read that the lost attempt still delivers: then nothing
    # is in doubt any more, and it is queued (and settled, if its settlement comes too).
    RunState.UNKNOWN: frozenset({RunState.CLAIMED, RunState.QUEUED}),
    **{state: frozenset() for state in ENDED},
}

COLOURS: dict[RunState, str] = {
    RunState.QUEUED: "blue",
    RunState.WAITING: "amber",
    RunState.CLAIMED: "blue",
    RunState.UNKNOWN: "violet",
    RunState.DONE: "green",
    RunState.FAILED: "red",
    RunState.CANCELLED: "grey",
    RunState.SKIPPED: "grey",
    RunState.SUPERSEDED: "grey",
}


def may_move(before: RunState, after: RunState) -> bool:
    """Whether the table allows the move."""
    return after in MOVES[before]
