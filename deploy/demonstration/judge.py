"""Whether every disk ended as the simulated world says it should: the one judge of a month.

The demo, the fault walk, the storm and the reliability tests all ask :func:`examine` (or
:func:`judge`, the same in sentences), with ``disturbed`` where anything was killed on the way.
It believes the simulated disks (their state and their log of writes) and the stand-in bureau, and
holds our own tables against them: a row that says "cleared" proves nothing here. Pure: it is handed
what was seen and answers with sentences, one for each violation; no sentence, no violation.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clearing.bureau.standin import State
from deploy.demonstration.expected import Expected, ExpectedDisk, ending
from deploy.demonstration.kinds import IC_CARD, types_in
from devices.protocol.month import Month
from devices.simulator.evidence import DiskEvidence, Write, read_log, read_state

DECLARE, CLEAR, VERIFY = "DECLARE_DUTY", "UPDATE_CONTROLS", "VERIFY_FISCAL_PIN"
#: The same on a component disk; what it notes of a password is as of a PIN, but nothing rolls.
COPY, WRITE, PASSWORD, CERTIFICATE = "SJCB", "JKHC", "PASSWORD", "CERTIFICATE"
_SECRETS = frozenset({VERIFY, PASSWORD, CERTIFICATE})


def writes_of(kind: str) -> tuple[str, str]:
    """The commands that report and clear a disk of this kind."""
    return (DECLARE, CLEAR) if kind == IC_CARD else (COPY, WRITE)


@dataclass(frozen=True, slots=True)
class Sight:
    """One simulated disk as it was found: what it says, and what was written to it."""

    evidence: DiskEvidence
    log: Sequence[Write]

    def written(self, command: str) -> list[tuple[str, str]]:
        """Period and unit of each such write, in their order."""
        return [
            (write.period, str(write.facts.get("types", "")))
            for write in self.log
            if write.command == command
        ]

    def verified(self, result: str) -> int:
        return sum(
            write.command in _SECRETS and write.facts.get("result") == result for write in self.log
        )

    def is_cleared(self, period: Month) -> bool:
        """By the dates on the disk alone."""
        through = self.evidence.cleared_through
        deadline = Month.of(self.evidence.issue_deadline)
        return through is not None and through >= period.last and deadline > period.window

    def is_reported(self, period: Month) -> bool:
        through = self.evidence.reported_through
        return through is not None and through >= period.last


@dataclass(frozen=True, slots=True)
class Allowed:
    """A permission for one unit of one period, as the trail has it."""

    period: str
    unit: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class HandedIn:
    """A report that the bureau was sent, as its own log has it: to the second."""

    device_no: str
    period: str
    unit: str
    at: dt.datetime


@dataclass(frozen=True, slots=True)
class Claim:
    """What our tables say of one disk. By period: ``states``, who reported and cleared, when the
    first backup was kept; ``unconfirmed``: periods whose clear the bureau has not confirmed;
    ``permitted``: how many PIN rolls were, ``packages_lost``: how many permitted reports brought no
    package, because machine or disk was gone before it was safe. ``window_seen``: the trail shows
    that a machine found its own PIN window open. ``allowed``: the clears that were permitted,
    ``reportable``: the reports, and the packages that might be sent again.
    ``unbacked``: those of them whose claim had kept no verified backup before, ``untold``: what
    happened without an entry in the trail, ``late``: what a claim was permitted that was over."""

    device_no: str
    tax_id: str
    company: str
    outcome: str = ""
    reason: str = ""
    code: str = ""
    states: Mapping[str, str] = field(default_factory=dict)
    reported_by: Mapping[str, str] = field(default_factory=dict)
    cleared_by: Mapping[str, str] = field(default_factory=dict)
    unconfirmed: Sequence[str] = ()
    backups: Mapping[str, dt.datetime] = field(default_factory=dict)
    permitted: int = 0
    packages_lost: int = 0
    window_seen: bool = False
    allowed: Sequence[Allowed] = ()
    reportable: Sequence[Allowed] = ()
    unbacked: Sequence[str] = ()
    untold: Sequence[str] = ()
    late: Sequence[str] = ()

    @property
    def excused(self) -> bool:
        """The one permitted end of a kill in the middle of a PIN roll: a person must look."""
        return self.code == "pin_unknown" and self.window_seen

    @property
    def ending(self) -> str:
        return ending(self.outcome, self.reason)


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is not as promised. ``device_no`` is empty for what concerns no one disk."""

    device_no: str
    who: str
    text: str

    def __str__(self) -> str:
        return f"{self.who}: {self.text}" if self.who else self.text


@dataclass(frozen=True, slots=True)
class Claims:
    """All of them, and where the chain of the audit trail is broken, if it is."""

    disks: Sequence[Claim]
    first_bad_sequence: int | None = None


def look(folder: Path, expected: Expected, *, clock_offset: float) -> dict[str, Sight]:
    """Read the simulated disks' own files. A disk that no rack ever had is left out.
    ``clock_offset``: of the components' clocks."""
    found = {}
    for disk in expected.disks:
        try:
            evidence = read_state(folder, disk.device_no)
        except FileNotFoundError:
            continue
        log = read_log(folder, disk.device_no, clock_offset=clock_offset)
        found[disk.device_no] = Sight(evidence, log)
    return found


def handed_in(log: Iterable[Mapping[str, Any]], *, clock_offset: float) -> list[HandedIn]:
    """The reports in the bureau's log. ``clock_offset``: of the bureau's clock."""
    ahead = dt.timedelta(seconds=clock_offset)
    return [
        HandedIn(
            entry["device_no"],
            entry["period"],
            entry["unit"],
            dt.datetime.fromisoformat(entry["at"]) - ahead,
        )
        for entry in log
        if entry["op"] == "WLCB"
    ]


def judge(
    expected: Expected,
    sights: Mapping[str, Sight],
    bureau: State,
    claims: Claims,
    *,
    disturbed: bool = False,
) -> list[str]:
    """Every violation in a sentence, as :func:`examine` finds them."""
    return [
        str(violation)
        for violation in examine(expected, sights, bureau, claims, disturbed=disturbed)
    ]


def examine(
    expected: Expected,
    sights: Mapping[str, Sight],
    bureau: State,
    claims: Claims,
    *,
    disturbed: bool = False,
    sent: Sequence[HandedIn] = (),
) -> list[Violation]:
    """Every violation. ``disturbed``: something was killed on the way, so a period may have been
    declared again whose package was lost. Nothing excuses a second clear. ``sent``: every report at
    the bureau, where it worked once on each request."""
    found: list[Violation] = []
    by_number = {claim.device_no: claim for claim in claims.disks}
    for disk in expected.disks:
        sight, claim = sights.get(disk.device_no), by_number.pop(disk.device_no, None)
        if sight is None:
            said = ["模拟税盘不存在 (no such simulated disk)"]
        elif disturbed and claim is not None and claim.excused and disk.kind == IC_CARD:
            said = list(_in_doubt(disk, sight, claim))
        else:
            spare = claim if disturbed else None
            said = [*_disk(disk, sight, spare), *_bureau(disk, sight, bureau)]
            said += _claim(disk, sight, claim, expected.period)
        if sight is not None and claim is not None:
            said += _permissions(disk, sight, claim)
            said += _sent(claim, [each for each in sent if each.device_no == disk.device_no])
        who = f"{disk.company} {disk.device_no} [{disk.case}]"
        found += [Violation(disk.device_no, who, each) for each in said]
    for claim in by_number.values():
        why = "应无需清卡, 却有税盘" if claim.tax_id in expected.diskless else "名单之外的税盘"
        text = f"{why} (a disk that should not be there)"
        found.append(Violation(claim.device_no, f"{claim.company} {claim.device_no}", text))
    if claims.first_bad_sequence is not None:
        where = claims.first_bad_sequence
        text = f"操作留痕的链条在第 {where} 条断开 (the audit chain is broken)"
        found.append(Violation("", "", text))
    return found


def result(expected: Expected, sights: Mapping[str, Sight], claims: Claims) -> dict[str, Any]:
    """The result as ``--json`` writes it. ``writes``: reports and clears written to the disk."""
    by_number = {claim.device_no: claim for claim in claims.disks}
    disks = []
    for disk in expected.disks:
        claim, sight = by_number.get(disk.device_no), sights.get(disk.device_no)
        writes = sight.evidence.declares + sight.evidence.clears if sight is not None else 0
        disks.append(
            {
                "device_no": disk.device_no,
                "tax_id": disk.tax_id,
                "outcome": claim.ending if claim is not None else "",
                "code": claim.code if claim is not None else "",
                "writes": writes,
            }
        )
    counts = Counter(str(disk["outcome"]) for disk in disks)
    counts["no_disk"] = len(expected.diskless)
    return {"counts": dict(counts), "disks": disks}


def _disk(disk: ExpectedDisk, sight: Sight, spare: Claim | None) -> Iterator[str]:
    """The disk against the expectation; ``spare``: what was permitted besides, where a kill
    excuses it."""
    report, clear = writes_of(disk.kind)
    for command, verb, periods, more_allowed in (
        (report, "抄报 (reports)", disk.reports, spare.packages_lost if spare else 0),
        (clear, "清卡 (clears)", disk.clears, 0),
    ):
        written = sight.written(command)
        wanted = [(period, unit) for period in periods for unit in disk.units]
        too_many = len(written) - len(set(written)) > more_allowed
        for at, times in Counter(written).items():
            if times > 1 and too_many:
                yield f"{verb}: 属期 {_at(at)} 写了 {times} 次 (written {times} times)"
        if list(dict.fromkeys(written)) != wanted:
            yield f"{verb}: 写入日志中为 {_writes(written)}, 应为 {_writes(wanted)}"
    evidence = sight.evidence
    if (evidence.declares, evidence.clears) != (
        len(sight.written(report)),
        len(sight.written(clear)),
    ):
        yield "税盘的计数与其写入日志不符 (its counters and its log differ)"
    rolls = disk.kind == IC_CARD
    rolled, wanted_rolls = sight.verified("rolled"), rolls * (len(disk.reports) + len(disk.clears))
    most_rolls = max(wanted_rolls, spare.permitted) if rolls and spare else wanted_rolls
    if not wanted_rolls <= rolled <= most_rolls:
        yield f"PIN 更换 {rolled} 次, 应为 {wanted_rolls} 次 (PIN rolls)"
    if sight.verified("wrong") != disk.tries_spent:
        yield f"试错口令 {sight.verified('wrong')} 次, 应为 {disk.tries_spent} 次 (PIN tries spent)"
    for name, seen, wanted_value in (
        ("剩余口令次数 (PIN tries left)", evidence.tries, disk.tries),
        ("开票截止日期 (issue deadline)", str(evidence.issue_deadline), disk.issue_deadline),
        ("已抄报至 (reported through)", str(evidence.reported_through), disk.reported_through),
        ("已清卡至 (cleared through)", str(evidence.cleared_through), disk.cleared_through),
    ):
        if seen != wanted_value:
            yield f"{name}为 {seen}, 应为 {wanted_value}"


def _in_doubt(disk: ExpectedDisk, sight: Sight, claim: Claim) -> Iterator[str]:
    """A disk whose PIN is in doubt stays where it was; what was written is right all the same."""
    for command, wanted in ((DECLARE, disk.reports), (CLEAR, disk.clears)):
        periods = [period for period, _ in sight.written(command)]
        if not set(periods) <= set(wanted) or (command == CLEAR and len(periods) > len(wanted)):
            yield f"写入日志中为 {_list(periods)}, 最多应为 {_list(wanted)} (written)"
    for text, state in claim.states.items():
        if (state == "cleared") != sight.is_cleared(Month.parse(text)):
            yield f"表中 {text} 为 {state}, 与税盘不符 (the row and the disk differ)"


def _bureau(disk: ExpectedDisk, sight: Sight, bureau: State) -> Iterator[str]:
    """The bureau against the expectation and the disk; of a card its types are not known."""
    types = set(types_in(disk.units))
    for verb, records in (("抄报", bureau.reported()), ("清卡", bureau.confirmed())):
        for (number, month), found in records.items():
            if types and number == disk.device_no and set(found) != types:
                said = f"{verb}的票种为 {_list(set(found))}, 应为 {_list(types)}"
                yield f"税局 {month} {said} (types at the bureau)"
    taken = {str(month) for number, month in bureau.reported() if number == disk.device_no}
    if taken != set(disk.reports):
        yield f"税局收到的抄报为 {_list(taken)}, 应为 {_list(disk.reports)} (reports at the bureau)"
    confirmed = {
        str(month): types
        for (number, month), types in bureau.confirmed().items()
        if number == disk.device_no
    }
    if set(confirmed) != set(disk.clears):
        yield f"税局确认的清卡为 {_list(confirmed)}, 应为 {_list(disk.clears)} (confirmed clears)"
    elif disk.clears:
        deadlines = {each.deadline for each in confirmed[disk.clears[-1]].values()}
        if deadlines != {str(sight.evidence.issue_deadline)}:
            yield f"税局下发的截止日期 {_list(deadlines)} 与税盘不符 (deadlines differ)"


def _claim(disk: ExpectedDisk, sight: Sight, claim: Claim | None, period: str) -> Iterator[str]:
    """Our tables against the disk first, then against the expectation."""
    if claim is None:
        yield "我们的表中没有这个盘 (not in our tables)"
        return
    for text, state in claim.states.items():
        month = Month.parse(text)
        if state == "cleared" and not sight.is_cleared(month):
            yield f"表中 {text} 为已清卡, 税盘并未清卡 (a row says cleared, the disk does not)"
        if state != "cleared" and sight.is_cleared(month):
            yield f"税盘 {text} 已清卡, 表中为 {state} (the disk is cleared, the row says not)"
        if state == "to_clear" and not sight.is_reported(month):
            yield f"表中 {text} 为已抄报, 税盘并未抄报 (a row says reported, the disk does not)"
    for text in disk.clears:
        if claim.states.get(text) != "cleared":
            yield f"属期 {text} 应记为已清卡 (no row says that it is cleared)"
        if claim.cleared_by.get(text) != "us":
            yield f"属期 {text} 应记为本系统清卡 (should be cleared by us)"
        if claim.reported_by.get(text) != "us":
            yield f"属期 {text} 应记为本系统抄报 (should be reported by us)"
    if claim.cleared_by.get(period, "") != disk.cleared_by:
        yield f"属期 {period} 的清卡方为 {claim.cleared_by.get(period, '无')} (cleared by)"
    if claim.unconfirmed:
        yield f"属期 {_list(claim.unconfirmed)} 的清卡未向税局确认 (confirmation owed)"
    for write in sight.log:
        kept = claim.backups.get(write.period)
        if write.command == writes_of(disk.kind)[1] and (kept is None or kept > write.at):
            yield f"属期 {write.period} 清卡前没有备份 (no backup before the clear)"
    wanted, said = (disk.ending, disk.code), (claim.ending, claim.code)
    if said != wanted:
        yield f"办理结果为 {_end(*said)}, 应为 {_end(*wanted)} (outcome)"


def _permissions(disk: ExpectedDisk, sight: Sight, claim: Claim) -> Iterator[str]:
    """Every report and clear on the disk was permitted to us before, and every permission to clear
    had its backup."""
    report, clear = writes_of(disk.kind)
    for command, verb, permissions in (
        (report, "抄报前没有准予 (a report without permission)", claim.reportable),
        (clear, "清卡前没有准予 (a clear without permission)", claim.allowed),
    ):
        for write in sight.log:
            if write.command != command:
                continue
            unit = str(write.facts.get("types", ""))
            fitting = (a for a in permissions if a.period == write.period and unit in {"", a.unit})
            if not any(each.at <= write.at for each in fitting):
                yield f"属期 {_at((write.period, unit))} {verb}"
    for each in claim.unbacked:
        yield f"{each} 准予清卡时本次领取尚无核验过的备份 (permitted without a backup of its claim)"
    for each in claim.late:
        yield f"{each} 准予给了已失效的领取 (permitted to a claim that was over)"
    for each in claim.untold:
        yield f"操作留痕缺少: {each} (missing in the trail)"


def _sent(claim: Claim, sent: Sequence[HandedIn]) -> Iterator[str]:
    """Every report that the bureau was sent had a permission of its own before it, one that was
    sent again as well."""
    seen: Counter[tuple[str, str]] = Counter()
    for each in sorted(sent, key=lambda one: one.at):
        at = (each.period, each.unit)
        seen[at] += 1
        until = each.at + dt.timedelta(seconds=1)
        before = [p for p in claim.reportable if (p.period, p.unit) == at and p.at <= until]
        if len(before) < seen[at]:
            yield f"属期 {_at(at)} 报送前没有准予 (sent to the bureau without permission)"


def _end(outcome: str, code: str) -> str:
    return f"{outcome or '无'} {code}".strip()


def _at(write: tuple[str, str]) -> str:
    return " ".join(filter(None, write))


def _writes(values: Sequence[tuple[str, str]]) -> str:
    return _list([_at(write) for write in values])


def _list(values: Sequence[str] | set[str] | Mapping[str, Any]) -> str:
    ordered = values if isinstance(values, list) else sorted(values)
    return "、".join(ordered) or "无"
