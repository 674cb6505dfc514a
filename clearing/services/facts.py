"""Facts from machines: taken whenever they arrive, once each, never thrown away.

A fact counts while its attempt is the newest of its run; later it is kept as evidence and changes
no state. A PIN is always taken, ordered by generation.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clearing import bell
from clearing.bureau.refusals import ANSWERS
from clearing.choices import EvidenceKind, FilingState, Stage
from clearing.models import Attempt, DiskPeriod, Evidence, Run, StageResult
from clearing.periods import note_answer, note_read, parse_controls, period_row
from clearing.services.moves import move
from clearing.services.packages import seal_package
from clearing.services.pauses import note_call
from clearing.states import RunState
from clearing.wire import FactKind
from devices.models import Machine, TaxDisk
from devices.protocol.catalogue.retries import BUREAU_DOWN
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from devices.services import (
    password_refused,
    pin_delivered,
    pin_in_doubt,
    pin_not_sent,
    pin_not_taken,
    tries_noted,
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact as it came over the wire."""

    number: int
    kind: FactKind
    data: Mapping[str, Any]


@dataclass(slots=True)
class Held:
    """The rows of one run, locked in order (disk → run), with the attempt that speaks."""

    disk: TaxDisk
    run: Run
    attempt: Attempt
    machine: Machine

    @property
    def newest(self) -> bool:
        return self.run.attempt_id == self.attempt.pk


def take(held: Held, facts: Sequence[Fact], *, now: dt.datetime) -> int:
    """Take facts in the order of their numbers; the highest number taken. ``now`` is real time.

    Raises Failure(device_garbled / machine_fault) for a fact of another shape: nothing is taken."""
    highest = 0
    for fact in sorted(facts, key=lambda each: each.number):
        try:
            _TAKERS[fact.kind](held, fact, now)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Failure(
                Code.MACHINE_FAULT, detail=f"fact {fact.kind}: {type(error).__name__}"
            ) from None
        highest = fact.number
    return highest


def _keep(
    held: Held,
    fact: Fact,
    kind: EvidenceKind,
    now: dt.datetime,
    *,
    period: str = "",
    unit: str = "",
    data: Mapping[str, Any] | None = None,
    sealed: bytes | None = None,
) -> Evidence | None:
    """Write the evidence row; None when this number was taken before."""
    row = period_row(held.disk, Month.parse(period)) if period else held.run.disk_period
    evidence, created = Evidence.objects.get_or_create(
        agency_id=held.run.agency_id,
        attempt=held.attempt,
        number=fact.number,
        defaults={
            "disk": held.disk,
            "disk_period": row,
            "run": held.run,
            "kind": kind,
            "unit": unit,
            "data": dict(fact.data if data is None else data),
            "sealed": sealed,
            "at": now,
            "counted": held.newest,
            "versions": {"worker": held.machine.version, "driver": held.disk.kind},
            "simulated": held.machine.simulated,
        },
    )
    return evidence if created else None


def _stage(held: Held, fact: Fact, now: dt.datetime) -> None:
    data = fact.data
    stage = Stage(data["stage"])
    period = data.get("period") or held.run.disk_period.period
    _row, created = StageResult.objects.get_or_create(
        agency_id=held.run.agency_id,
        attempt=held.attempt,
        number=fact.number,
        defaults={
            "run": held.run,
            "disk_period": period_row(held.disk, Month.parse(period)),
            "stage": stage,
            "unit": data.get("unit", ""),
            "ok": bool(data["ok"]),
            "code": data.get("code", ""),
            "raw_code": str(data.get("raw_code", ""))[:40],
            "raw_text": str(data.get("raw_text", ""))[:400],
            "at": dt.datetime.fromisoformat(data["at"]),
            "device_ms": int(data.get("device_ms", 0)),
            "bureau_ms": int(data.get("bureau_ms", 0)),
        },
    )
    if created and held.newest:
        held.run.stage = stage
        held.run.save(update_fields=["stage"])
        # What a lost attempt still tells of the bureau is old.
        if stage in _BUREAU_STAGES and held.run.state == RunState.CLAIMED:
            word = _of_the_bureau(data)
            if word is not None:
                note_call(held.run, word, now=now)


# Stages that end with a call to the bureau.
_BUREAU_STAGES = frozenset({Stage.UPLOAD, Stage.FILING, Stage.FETCH, Stage.CONFIRM})


def _of_the_bureau(data: Mapping[str, Any]) -> str | None:
    """What the stage tells of the bureau: "" that it answered, or the code that says it is down.

    None where it tells nothing: permission was denied, or the disk or the component failed before
    or instead of the bureau."""
    code = data.get("code", "")
    if data["ok"] or (data.get("asked") and code in ANSWERS):
        return ""
    return code if code in BUREAU_DOWN else None


def _identity(held: Held, fact: Fact, now: dt.datetime) -> None:
    if _keep(held, fact, EvidenceKind.IDENTITY, now) is None or not held.newest:
        return
    training = bool(fact.data.get("training"))
    if fact.data["device_no"] == held.disk.device_no and training != held.disk.training:
        held.disk.training = training
        held.disk.save(update_fields=["training"])


def _control(held: Held, fact: Fact, now: dt.datetime) -> None:
    types = fact.data["types"]
    read_at = dt.datetime.fromisoformat(fact.data["read_at"])
    parse_controls(types)  # garbled: refused before it is kept
    if _keep(held, fact, EvidenceKind.CONTROL, now) is None or not held.newest:
        return
    note_read(held.disk, types, read_at=read_at, period=Month.parse(held.run.disk_period.period))
    held.attempt.last_read = fact.number
    held.attempt.save(update_fields=["last_read"])
    # The read takes the doubt away.
    if held.run.state == RunState.UNKNOWN:
        move(held.run, RunState.QUEUED, now=now)
    elif held.run.open_intent is not None:
        held.run.open_intent = None
        held.run.save(update_fields=["open_intent"])


def _package(held: Held, fact: Fact, now: dt.datetime) -> None:
    period, unit = fact.data["period"], fact.data["unit"]
    evidence = _keep(
        held,
        fact,
        EvidenceKind.PACKAGE,
        now,
        period=period,
        unit=unit,
        data={"period": period},
        sealed=seal_package(held.disk, fact.data),
    )
    if evidence is not None and held.newest:
        row = _locked_row(held.disk, period)
        row.statistics = {**row.statistics, unit: dict(fact.data.get("statistics", {}))}
        row.save(update_fields=["statistics"])


def _bureau(held: Held, fact: Fact, now: dt.datetime) -> None:
    period, unit = fact.data["period"], fact.data["unit"]
    if _keep(held, fact, EvidenceKind.BUREAU, now, period=period, unit=unit) and held.newest:
        note_answer(_locked_row(held.disk, period), fact.data["op"], unit)


def _filing(held: Held, fact: Fact, now: dt.datetime) -> None:
    period = fact.data["period"]
    if _keep(held, fact, EvidenceKind.FILING, now, period=period) and held.newest:
        row = _locked_row(held.disk, period)
        row.filing = FilingState(fact.data["filing"])
        row.save(update_fields=["filing"])


def _password(held: Held, fact: Fact, now: dt.datetime) -> None:
    code, tries_left = fact.data["code"], int(fact.data["tries_left"])
    if _keep(held, fact, EvidenceKind.PASSWORD, now) is None or not held.newest:
        return
    if code not in {Code.PASSWORD_WRONG, Code.PASSWORD_LOCKED}:
        return
    locked = code == Code.PASSWORD_LOCKED
    if held.attempt.pin_generation in {None, held.disk.pin_generation}:
        password_refused(disk=held.disk, locked=locked, tries_left=tries_left)
    else:  # the order carried an earlier password
        tries_noted(disk=held.disk, tries_left=0 if locked else tries_left)
    held.disk.refresh_from_db()


def _pin(held: Held, fact: Fact, now: dt.datetime) -> None:
    """Never kept as evidence: it holds the PIN. Its generation makes it idempotent."""
    generation = int(fact.data["generation"])
    if fact.data.get("unknown"):
        pin_in_doubt(disk=held.disk, machine=held.machine, generation=generation)
    elif fact.data.get("refused") and not fact.data.get("sent", True):
        pin_not_sent(disk=held.disk, machine=held.machine, generation=generation)
    elif fact.data.get("refused"):
        pin_not_taken(disk=held.disk, machine=held.machine, generation=generation)
    elif pin_delivered(
        disk=held.disk,
        machine=held.machine,
        generation=generation,
        pin=bytes.fromhex(fact.data["pin"]),
    ):
        # What this attempt rolled, it may roll again.
        Attempt.objects.filter(pk=held.attempt.pk).update(pin_generation=generation)
        held.attempt.pin_generation = generation
    held.disk.refresh_from_db()
    if held.run.state != RunState.CLAIMED:  # what came late may be what another run waits for
        bell.wake_sweeper(held.run.agency_id)


def _locked_row(disk: TaxDisk, period: str) -> DiskPeriod:
    return DiskPeriod.objects.select_for_update().get(pk=period_row(disk, Month.parse(period)).pk)


_TAKERS: dict[FactKind, Callable[[Held, Fact, dt.datetime], None]] = {
    FactKind.STAGE: _stage,
    FactKind.IDENTITY: _identity,
    FactKind.CONTROL: _control,
    FactKind.PACKAGE: _package,
    FactKind.BUREAU: _bureau,
    FactKind.FILING: _filing,
    FactKind.PASSWORD: _password,
    FactKind.PIN: _pin,
}
