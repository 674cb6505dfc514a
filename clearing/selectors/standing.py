"""Where a disk and a company stand this month: the one definition behind every counter and badge.

:data:`RULES` is read from the top, the first rule that applies gives a disk its standing.
:data:`SEVERITY` orders standings from the one that decides to the one that yields: a company
stands where its worst disk stands, sub-machines included; retired disks (已注销) and disks for
training (测试盘) do not count, and a company without any other disk is 无需清卡. Each company has
exactly one standing, so the counters are disjoint and add up to 全部.

Decisions that are not obvious:

- *A run that works goes first* (办理中): what failed before is about to be answered.
- *A cleared disk needs no person*: a run that failed after the clear (a mere 读盘, say) does not
  take the clear back; a run whose result is unknown (结果待核实) does ask for one.
- *人工登记 has a counter of its own*, shown only while it counts something. It is nowhere near
  green and cannot hide among 已清卡 or 无需清卡.
- *A failed comparison* (比对不通过) needs a person, until the return is marked as filed again.
- *待申报* needs every disk of the company reported; 未读盘 and 待抄报 therefore outrank it.
- Waiting for the disk, the machine, the bureau or a quiet hour is no standing: the row keeps the
  one of its period, and says beside it why it waits.

Pure: no query, no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db import models
from django.utils.translation import gettext_lazy as _

from clearing.choices import FilingState, PeriodState
from clearing.states import Reason, RunState


class Standing(models.TextChoices):
    """The counters of the board, in their order on the screen."""

    UNREAD = "unread", _("未读盘")
    TO_REPORT = "to_report", _("待抄报")
    TO_FILE = "to_file", _("待申报")
    TO_CLEAR = "to_clear", _("待清卡")
    IN_PROGRESS = "in_progress", _("办理中")
    CLEARED = "cleared", _("已清卡")
    NOTHING = "nothing", _("无需清卡")
    NEEDS = "needs", _("需处理")
    BY_HAND = "by_hand", _("人工登记")


COLOURS: dict[Standing, str] = {
    Standing.UNREAD: "grey",
    Standing.TO_REPORT: "amber",
    Standing.TO_FILE: "amber",
    Standing.TO_CLEAR: "amber",
    Standing.IN_PROGRESS: "blue",
    Standing.CLEARED: "green",
    Standing.NOTHING: "grey",
    Standing.NEEDS: "red",
    Standing.BY_HAND: "violet",
}


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What the rules look at, for one disk and the present period.

    ``run_state`` / ``run_reason``: of the open run, empty without one. ``failed``: the last run of
    this period failed and no later one did better. ``filed``: marked as filed, not due, or filed as
    the bureau says. ``clear_waits_for_filing``: the company's 清卡时机 is 申报后清卡.
    """

    state: str = PeriodState.UNREAD
    filing: str = FilingState.UNKNOWN
    filed: bool = False
    clear_waits_for_filing: bool = True
    run_state: str = ""
    run_reason: str = ""
    failed: bool = False


WORKING = frozenset({RunState.QUEUED, RunState.CLAIMED})
#: Reasons to wait that a person ends.
FOR_A_PERSON = frozenset({Reason.BY_HAND, Reason.PIN})

RULES: tuple[tuple[Standing, Callable[[DiskFacts], bool]], ...] = (
    (Standing.IN_PROGRESS, lambda disk: disk.run_state in WORKING),
    (Standing.NEEDS, lambda disk: disk.run_state == RunState.UNKNOWN),
    (Standing.NEEDS, lambda disk: disk.run_reason in FOR_A_PERSON),
    (Standing.CLEARED, lambda disk: disk.state == PeriodState.CLEARED),
    (Standing.BY_HAND, lambda disk: disk.state == PeriodState.BY_HAND),
    (Standing.NEEDS, lambda disk: disk.failed),
    (
        Standing.NEEDS,
        lambda disk: disk.filing == FilingState.COMPARISON_FAILED and not disk.filed,
    ),
    (
        Standing.TO_FILE,
        lambda disk: (
            disk.state == PeriodState.TO_CLEAR
            and (
                disk.run_reason == Reason.FILING or (disk.clear_waits_for_filing and not disk.filed)
            )
        ),
    ),
    (Standing.TO_CLEAR, lambda disk: disk.state == PeriodState.TO_CLEAR),
    (Standing.TO_REPORT, lambda disk: disk.state == PeriodState.TO_REPORT),
    (Standing.UNREAD, lambda disk: True),
)

SEVERITY: tuple[Standing, ...] = (
    Standing.IN_PROGRESS,
    Standing.NEEDS,
    Standing.UNREAD,
    Standing.TO_REPORT,
    Standing.TO_FILE,
    Standing.TO_CLEAR,
    Standing.BY_HAND,
    Standing.CLEARED,
    Standing.NOTHING,
)

#: Most urgent first, for lists: what needs a person before what a click does, what is done last.
URGENCY: tuple[Standing, ...] = (
    Standing.NEEDS,
    Standing.IN_PROGRESS,
    Standing.UNREAD,
    Standing.TO_REPORT,
    Standing.TO_FILE,
    Standing.TO_CLEAR,
    Standing.BY_HAND,
    Standing.CLEARED,
    Standing.NOTHING,
)


def standing_of(disk: DiskFacts) -> Standing:
    """The standing of one disk: the first rule that applies."""
    return next(standing for standing, applies in RULES if applies(disk))


def worst(standings: Iterable[Standing]) -> Standing:
    """The standing of a company from those of its disks that count."""
    return min(standings, key=SEVERITY.index, default=Standing.NOTHING)
