"""What is found after a storm: the demo's judge, and what only a storm can break.

Three more questions than the judge's: was every write on a disk permitted before it (the trail has
the permission), is every doubt about a PIN a true one (a machine's own journal shows the window
open), and is every PIN we know the one the card takes. The simulated disks' own files, the bureau's
and the machines' journals are believed; our tables are held against them.

To be imported after ``django.setup()``. Reads only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from agency.choices import Action
from agency.models import AuditEntry
from agency.scope import agency_scope
from agency.sealing import open_sealed
from clearing.bureau.standin import read_state
from clearing.worker.journal import Journal
from clearing.worker.pinbook import PinEntry, PinState
from deploy.demonstration import tables
from deploy.demonstration.expected import Expected, ExpectedDisk
from deploy.demonstration.judge import Claim, Claims, Sight, judge, look, writes_of
from deploy.demonstration.kinds import IC_CARD
from deploy.demonstration.places import Places
from devices.models import TaxDisk
from devices.protocol.failures import Failure
from devices.simulator.evidence import holds_pin

_PIN_BYTES = 8


@dataclass(frozen=True, slots=True)
class Permissions:
    """When the trail says that a disk might be reported, and cleared; in order."""

    reports: Sequence[dt.datetime] = ()
    clears: Sequence[dt.datetime] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Every violation in a sentence; what our tables say; disks whose PIN is rightly in doubt."""

    violations: list[str]
    claims: Claims
    in_doubt: list[str]


def verdict(places: Places, machines: Sequence[str], expected: Expected, offset: float) -> Verdict:
    """Look at everything and judge. The machines must have been stopped: a journal is theirs."""
    sights = look(places.disks, expected, clock_offset=offset)
    books = [Journal(places.machine_config(name).with_suffix("")).pins for name in machines]
    entries = {
        disk.device_no: [
            entry for book in books if (entry := _entry(book.get, disk.device_no)) is not None
        ]
        for disk in expected.disks
    }
    said = tables.read_claims()
    claims = replace(said, disks=[_with_proof(claim, entries) for claim in said.disks])
    found = judge(expected, sights, read_state(places.bureau), claims, disturbed=True)
    permitted = _permissions()
    for disk in expected.disks:
        sight = sights.get(disk.device_no)
        if sight is not None:
            where = f"{disk.company} {disk.device_no} ({disk.case}): "
            allowed = permitted.get(disk.device_no, Permissions())
            found += [where + each for each in unpermitted(disk.kind, sight, allowed)]
    doubted = {claim.device_no for claim in claims.disks if claim.excused}
    found += _lost_pins(places, expected, entries, doubted)
    return Verdict(found, said, sorted(doubted))


def unpermitted(kind: str, sight: Sight, allowed: Permissions) -> Iterator[str]:
    """Writes with no permission of their own before them."""
    report, clear = writes_of(kind)
    for command, verb, moments in (
        (report, "抄报 (report)", allowed.reports),
        (clear, "清卡 (clear)", allowed.clears),
    ):
        written = [write for write in sight.log if write.command == command]
        for number, write in enumerate(written, 1):
            if sum(moment <= write.at for moment in moments) < number:
                yield f"{verb}: 属期 {write.period} 的写入没有准许 (written without permission)"


def _entry(get: object, device_no: str) -> PinEntry | None:
    if not callable(get):
        raise TypeError(get)
    try:
        entry = get(device_no)
    except Failure:
        return None
    return entry if isinstance(entry, PinEntry) else None


def _with_proof(claim: Claim, entries: Mapping[str, Sequence[PinEntry]]) -> Claim:
    """A doubt counts only where a machine's own journal shows the window."""
    is_open = any(entry.state is PinState.OPEN for entry in entries.get(claim.device_no, ()))
    return replace(claim, window_seen=claim.window_seen and is_open)


def _permissions() -> dict[str, Permissions]:
    with agency_scope(tables.agency_id()):
        rows = AuditEntry.objects.filter(
            action__in=[Action.RUN_REPORT_ALLOWED, Action.RUN_CLEAR_ALLOWED]
        ).order_by("at")
        found: dict[str, Permissions] = {}
        numbers = dict(TaxDisk.objects.values_list("pk", "device_no"))
        for action, disk, at in rows.values_list("action", "object_id", "at"):
            number = numbers.get(disk or 0) or ""
            before = found.setdefault(number, Permissions([], []))
            if action == Action.RUN_REPORT_ALLOWED:
                found[number] = replace(before, reports=[*before.reports, at])
            else:
                found[number] = replace(before, clears=[*before.clears, at])
        return found


def _lost_pins(
    places: Places,
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
            lost = not any(holds_pin(places.disks, disk.device_no, pin) for pin in known)
        except FileNotFoundError:
            continue
        if lost:
            yield f"{disk.company} {disk.device_no} ({disk.case}): PIN 丢失 (its PIN is lost)"


def _was_wrong(disk: ExpectedDisk) -> bool:
    """The sheet's PIN was never the card's."""
    return disk.code in {"password_wrong", "wrong_disk", "password_locked"}


def _pin(text: str) -> bytes:
    return bytes.fromhex(text) if len(text) == 2 * _PIN_BYTES else text.encode()
