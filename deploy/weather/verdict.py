"""What is found after a storm: the demo's judge, and what only a storm can break.

More questions than the judge's: was every write on a disk permitted before it, to the claim that
owned the run at that time (the trail says so), is every doubt about a PIN a true one (a machine's
own journal shows the window open), and is every PIN we know the one the card takes. The simulated
disks' own files, the bureau's and the machines' journals are believed; our tables are held against
them.

To be imported after ``django.setup()``. Reads only.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agency.choices import Action
from agency.models import AuditEntry
from agency.scope import agency_scope
from agency.sealing import open_sealed
from clearing.bureau.standin import read_state
from clearing.choices import Stage
from clearing.worker.journal import Journal
from clearing.worker.pinbook import PinEntry, PinState
from deploy.demonstration import tables
from deploy.demonstration.expected import Expected, ExpectedDisk
from deploy.demonstration.judge import Claim, Claims, Sight, judge, look, writes_of
from deploy.demonstration.kinds import IC_CARD
from devices.models import TaxDisk
from devices.protocol.failures import Failure
from devices.simulator.evidence import holds_pin

_PIN_BYTES = 8
_PERMISSIONS = (Action.RUN_REPORT_ALLOWED, Action.RUN_CLEAR_ALLOWED)
_ENDS = (Action.RUN_SETTLED, Action.RUN_RELEASED, Action.RUN_LEASE_OVER)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the trail about a run; ``attempt``: the ordinal of its claim, and ``stage``: of
    a permission, where it says."""

    action: str
    at: dt.datetime
    run: int
    attempt: int = 0
    stage: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every violation in a sentence; what our tables say; disks whose PIN is rightly in doubt."""

    violations: list[str]
    claims: Claims
    in_doubt: list[str]


def verdict(
    *,
    disks: Path,
    bureau: Path,
    machines: Sequence[Path],
    expected: Expected,
    clock_offset: float,
) -> Verdict:
    """Look at everything and judge. ``disks`` and ``bureau``: the folders of the simulated ones;
    ``machines``: the data folders of the reader machines, which must have been stopped."""
    sights = look(disks, expected, clock_offset=clock_offset)
    entries = _pin_entries(machines, expected)
    said = tables.read_claims()
    claims = replace(said, disks=[_with_proof(claim, entries) for claim in said.disks])
    found = judge(expected, sights, read_state(bureau), claims, disturbed=True)
    trail = _trail()
    for disk in expected.disks:
        sight = sights.get(disk.device_no)
        if sight is not None:
            said_of = trail.get(disk.device_no, [])
            found += [
                f"{disk.company} {disk.device_no} ({disk.case}): {each}"
                for each in (*unpermitted(disk.kind, sight, said_of), *too_late(said_of))
            ]
    doubted = {claim.device_no for claim in claims.disks if claim.excused}
    found += _lost_pins(disks, expected, entries, doubted)
    return Verdict(found, said, sorted(doubted))


def unpermitted(kind: str, sight: Sight, trail: Sequence[Entry]) -> Iterator[str]:
    """Writes with no permission of their own before them in the trail."""
    for command, verb, action in (
        (writes_of(kind)[0], "抄报 (report)", Action.RUN_REPORT_ALLOWED),
        (writes_of(kind)[1], "清卡 (clear)", Action.RUN_CLEAR_ALLOWED),
    ):
        moments = [
            entry.at for entry in trail if entry.action == action and entry.stage != Stage.UPLOAD
        ]
        written = [write for write in sight.log if write.command == command]
        for number, write in enumerate(written, 1):
            if sum(moment <= write.at for moment in moments) < number:
                yield f"{verb}: 属期 {write.period} 的写入没有准许 (written without permission)"


def too_late(trail: Sequence[Entry]) -> Iterator[str]:
    """Permissions for a claim that had ended, or that another had followed."""
    owner: dict[int, int] = {}
    for entry in trail:
        if entry.action == Action.RUN_CLAIMED:
            owner[entry.run] = entry.attempt
        elif entry.action in _ENDS:
            owner.pop(entry.run, None)
        elif entry.action in _PERMISSIONS and owner.get(entry.run) != entry.attempt:
            yield (
                f"办理 {entry.run} 的第 {entry.attempt} 次领取已被接替, 仍获准许 "
                "(a late claim was given a permission)"
            )


def _pin_entries(machines: Sequence[Path], expected: Expected) -> dict[str, list[PinEntry]]:
    """By disk: what the machines' own journals know of its PIN."""
    found: dict[str, list[PinEntry]] = {disk.device_no: [] for disk in expected.disks}
    for folder in machines:
        book = Journal(folder).pins
        for device_no, entries in found.items():
            with contextlib.suppress(Failure):  # unreadable is not known
                if (entry := book.get(device_no)) is not None:
                    entries.append(entry)
    return found


def _with_proof(claim: Claim, entries: Mapping[str, Sequence[PinEntry]]) -> Claim:
    """A doubt counts only where a machine's own journal shows the window."""
    is_open = any(entry.state is PinState.OPEN for entry in entries.get(claim.device_no, ()))
    return replace(claim, window_seen=claim.window_seen and is_open)


def _trail() -> dict[str, list[Entry]]:
    """What the trail says of each disk's runs, in its order."""
    found: dict[str, list[Entry]] = defaultdict(list)
    with agency_scope(tables.agency_id()):
        numbers = dict(TaxDisk.objects.values_list("pk", "device_no"))
        wanted = [Action.RUN_CLAIMED, *_PERMISSIONS, *_ENDS]
        rows = AuditEntry.objects.filter(action__in=wanted).order_by("sequence")
        for action, disk, at, data in rows.values_list("action", "object_id", "at", "data"):
            attempt, stage = data.get("attempt", 0), data.get("stage", "")
            entry = Entry(action, at, data["run"], attempt, stage)
            found[numbers.get(disk or 0) or ""].append(entry)
    return found


def _lost_pins(
    disks: Path,
    expected: Expected,
    entries: Mapping[str, Sequence[PinEntry]],
    doubted: set[str],
) -> Iterator[str]:
    """Cards whose PIN is neither at the server nor in a machine's journal, though nobody doubts."""
    with agency_scope(tables.agency_id()):
        sealed = {
            disk.device_no: (bytes(disk.device_password or b""), disk.seal_context)
            for disk in TaxDisk.objects.filter(kind=IC_CARD)
        }
    for disk in expected.disks:
        if disk.kind != IC_CARD or disk.device_no in doubted or _was_wrong(disk):
            continue
        content, context = sealed.get(disk.device_no, (b"", ""))
        known = [entry.value for entry in entries[disk.device_no]]
        if content:
            known.append(_pin(open_sealed(content, context=context).decode()))
        try:
            lost = not any(holds_pin(disks, disk.device_no, pin) for pin in known)
        except FileNotFoundError:
            continue
        if lost:
            yield f"{disk.company} {disk.device_no} ({disk.case}): PIN 丢失 (its PIN is lost)"


def _was_wrong(disk: ExpectedDisk) -> bool:
    """The sheet's PIN was never the card's."""
    return disk.code in {"password_wrong", "wrong_disk", "password_locked"}


def _pin(text: str) -> bytes:
    return bytes.fromhex(text) if len(text) == 2 * _PIN_BYTES else text.encode()
