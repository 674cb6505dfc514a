"""Before an action: how many will run, and how many are skipped and why. Writes nothing.

The services decide again, under locks; this is what a person is told before.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

from django.db import models
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from agency.choices import Act
from agency.models import Company
from clearing.choices import Intent, PeriodState
from clearing.eligible import Candidate, why_skipped
from clearing.selectors.board import Row, rows_of
from clearing.selectors.failures import cause_of
from clearing.selectors.lines import DiskLine
from clearing.states import RunState
from devices.protocol.month import Month


class ActionKind(models.TextChoices):
    """What the buttons of the board do; the first three are intents of a batch."""

    READ = "read", gettext_lazy("读盘")
    REPORT_AND_CLEAR = "report_and_clear", gettext_lazy("一键抄报清卡")
    REPORT = "report", gettext_lazy("抄报")
    MARK_FILED = "mark_filed", gettext_lazy("标记已申报")
    UNMARK_FILED = "unmark_filed", gettext_lazy("撤销已申报标记")
    RETRY = "retry", gettext_lazy("重试")
    CANCEL = "cancel", gettext_lazy("取消办理")
    HOLD = "hold", gettext_lazy("暂缓办理")
    RELEASE = "release", gettext_lazy("取消暂缓")


INTENTS = frozenset({ActionKind.READ, ActionKind.REPORT, ActionKind.REPORT_AND_CLEAR})
HOLDS = frozenset({ActionKind.HOLD, ActionKind.RELEASE})
FILING = frozenset({ActionKind.MARK_FILED, ActionKind.UNMARK_FILED})


def right_for(action: ActionKind) -> Act:
    """The right an action needs."""
    if action in HOLDS:
        return Act.HOLD
    return Act.MARK_FILED if action in FILING else Act.RUN


@dataclass(slots=True)
class Preview:
    """What an action would do. ``targets``: disk ids, company ids or run ids, as the action needs.

    ``kinds``: what will be done → with how many disks. ``skipped``: reason → how many disks
    (companies, for one without a disk). ``warnings``: those whose filing mark comes before their
    disks are reported."""

    action: ActionKind
    companies: int = 0
    targets: list[int] = field(default_factory=list)
    joined: int = 0
    absent: int = 0
    kinds: Counter[Intent] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)

    @property
    def kind_counts(self) -> list[tuple[str, int]]:
        return [(str(kind.label), self.kinds[kind]) for kind in Intent if self.kinds[kind]]

    @property
    def writes(self) -> bool:
        """Whether any disk may be written."""
        return bool(set(self.kinds) - {Intent.READ})

    @property
    def skipped_counts(self) -> list[tuple[str, int]]:
        return self.skipped.most_common()

    @property
    def skipped_total(self) -> int:
        return sum(self.skipped.values())

    @property
    def fresh(self) -> int:
        return len(self.targets) - self.joined


def preview(
    action: ActionKind,
    companies: QuerySet[Company],
    period: Month,
    today: dt.date,
    *,
    cause: str = "",
) -> Preview:
    """Go through the chosen companies; the number of queries is constant.

    ``cause``: only the disks that stand still because of it (a group of ``selectors.failures``)."""
    rows = rows_of(companies, period, today)
    result = Preview(action, companies=len(rows))
    for row in rows:
        if action in FILING:
            _filing(result, row)
        else:
            _disks(result, row, cause)
    return result


def _disks(result: Preview, row: Row, cause: str) -> None:
    if not row.disks:
        result.skipped[_("没有税盘 (数电)，无需清卡")] += 1
    for line in row.disks:
        if cause and cause_of(line) != cause:
            continue
        reason = _skip_reason(result.action, line)
        if reason:
            result.skipped[reason] += 1
            continue
        result.targets.append(_target(result.action, line))
        if (intent := _intent(result.action, line)) is not None:
            result.kinds[intent] += 1
        if result.action in INTENTS and line.run is not None:
            result.joined += 1


def _intent(action: ActionKind, line: DiskLine) -> Intent | None:
    """What would be done with the disk; a retry does what failed, and no more."""
    if action == ActionKind.RETRY:
        return Intent(line.failed.intent) if line.failed is not None else None
    return Intent(action.value) if action in INTENTS else None


def _target(action: ActionKind, line: DiskLine) -> int:
    if action == ActionKind.RETRY and line.failed is not None:
        return line.failed.id
    if action == ActionKind.CANCEL and line.run is not None:
        return line.run.id
    return line.id


def _skip_reason(action: ActionKind, line: DiskLine) -> str:
    """Why a disk is left out; empty when it is not."""
    if action == ActionKind.RELEASE:
        return "" if line.held else _("没有暂缓")
    if action == ActionKind.HOLD:
        return _("已暂缓办理") if line.held else _("已注销") if line.retired else ""
    if action == ActionKind.CANCEL:
        if line.run is None:
            return _("没有在办的办理")
        return _("结果待核实，须先读盘，不能取消") if line.run.state == RunState.UNKNOWN else ""
    if action == ActionKind.RETRY:
        if line.run is not None:
            return _("已在办理")
        if line.failed is None:
            return _("没有未办成的办理")
    intent = _intent(action, line)
    if intent is None:
        return ""
    return why_skipped(
        intent,
        Candidate(
            retired=line.retired,
            training=line.training,
            under_way=line.run is not None,
            held=bool(line.held),
            reported=line.reported,
            cleared=line.state == PeriodState.CLEARED,
            bureau=line.bureau,
        ),
    )


def _filing(result: Preview, row: Row) -> None:
    counted = [line for line in row.disks if line.counts]
    marked = [line for line in counted if line.marked_at is not None]
    if not counted:
        result.skipped[_("没有税盘 (数电)，无需清卡")] += 1
    elif result.action == ActionKind.MARK_FILED and _all_cleared(counted):
        result.skipped[_("本月已清卡")] += 1
    elif result.action == ActionKind.MARK_FILED and len(marked) == len(counted):
        result.skipped[_("已标记申报")] += 1
    elif result.action == ActionKind.UNMARK_FILED and not marked:
        result.skipped[_("没有申报标记")] += 1
    else:
        result.targets.append(row.id)
        if result.action == ActionKind.MARK_FILED and not all(line.reported for line in counted):
            result.warnings.append(row.short_name)


def _all_cleared(lines: list[DiskLine]) -> bool:
    return all(line.state == PeriodState.CLEARED for line in lines)
