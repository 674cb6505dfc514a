"""Permission at the irreversible steps, and backups; what a live claim may ask for.

Facts that ride along are taken first and stay taken, whatever the answer is.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from agency import audit
from agency.choices import Action
from clearing import bell
from clearing.choices import EvidenceKind, Intent, PeriodState, Stage
from clearing.models import Attempt, Backup, DiskPeriod, Evidence, Run
from clearing.outcomes import quiet_for
from clearing.periods import period_row
from clearing.selectors.stops import companies_held, stopped_runs
from clearing.services.backups import keep_backup
from clearing.services.claims import limits_now
from clearing.services.facts import Fact, Held, take
from clearing.states import RunState
from clearing.wire import Denial
from devices.models import Machine, TaxDisk
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from devices.services import pin_intent_open

# On top of grant and hard limit, before the server takes a machine for lost.
_MARGIN = 1.2


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a request: ``seconds`` when granted, else why not."""

    seconds: float = 0.0
    denial: Denial | None = None


class NotTheirs(Exception):
    """The run or attempt is not this machine's: the same as if it did not exist."""


def hold(machine: Machine, run_id: int, attempt_key: uuid.UUID) -> Held:
    """Lock disk and run (in this order) for the machine that held the attempt. Raises NotTheirs."""
    attempt = Attempt.objects.filter(key=attempt_key, run_id=run_id, machine=machine).first()
    if attempt is None:
        raise NotTheirs
    disk_id = Run.objects.values_list("disk_id", flat=True).get(pk=run_id)
    disk = TaxDisk.objects.select_for_update(of=("self",)).select_related("company").get(pk=disk_id)
    run = Run.objects.select_for_update(of=("self",)).get(pk=run_id)
    run.disk = disk
    attempt.refresh_from_db()
    return Held(disk, run, attempt, machine)


def lives(held: Held, now: dt.datetime) -> bool:
    """Whether the attempt is the newest and its lease is not over."""
    run = held.run
    return (
        held.newest
        and run.state == RunState.CLAIMED
        and run.lease_until is not None
        and run.lease_until > now
    )


def _lease_lost(held: Held) -> Grant:
    """Nothing more is permitted to this claim; whose run it is now, the sweeper looks at once."""
    bell.wake_sweeper(held.run.agency_id)
    return Grant(denial=Denial.LEASE_LOST)


@transaction.atomic
def intend(
    *,
    machine: Machine,
    run_id: int,
    attempt_key: uuid.UUID,
    stage: Stage,
    unit: str,
    period: Month,
    rolls_pin: bool,
    facts: Sequence[Fact],
    now: dt.datetime,
    real_now: dt.datetime,
) -> Grant:
    """Permit ``report``, the ``upload`` of a held package, or ``clear`` of one unit, or say why
    not. ``now`` is domain time."""
    held = hold(machine, run_id, attempt_key)
    take(held, facts, now=real_now)
    denial = _denial(held, stage, period, now, real_now)
    if (
        denial is None
        and rolls_pin
        and not pin_intent_open(
            disk=held.disk,
            machine=machine,
            now=real_now,
            generation=held.attempt.pin_generation,
            key=str(attempt_key),
        )
    ):
        denial = Denial.PIN_HELD
    if denial is not None:
        if denial == Denial.LEASE_LOST:
            _lease_lost(held)
        audit.record(
            Action.RUN_DENIED,
            held.disk,
            company_id=held.disk.company_id,
            data={"run": run_id, "stage": stage.value, "why": denial.value},
        )
        return Grant(denial=denial)
    limits = limits_now()
    lease = dt.timedelta(seconds=(limits.grant + limits.call) * _MARGIN)
    # One conditional UPDATE, "not cancelled" included, although the row is locked already.
    updated = Run.objects.filter(
        pk=run_id, state=RunState.CLAIMED, attempt=held.attempt, cancel_requested_by=""
    ).update(
        open_intent={"stage": stage.value, "unit": unit, "period": str(period)},
        lease_until=real_now + lease,
        stage=stage,
    )
    if updated != 1:
        return Grant(denial=Denial.LEASE_LOST)
    if stage == Stage.CLEAR:
        _note_permitted(held.disk, period, unit)
    audit.record(
        Action.RUN_CLEAR_ALLOWED if stage == Stage.CLEAR else Action.RUN_REPORT_ALLOWED,
        held.disk,
        company_id=held.disk.company_id,
        data={
            "run": run_id,
            "stage": stage.value,
            "unit": unit,
            "period": str(period),
            "attempt": held.attempt.ordinal,
        },
    )
    return Grant(seconds=limits.grant)


def _denial(
    held: Held, stage: Stage, period: Month, now: dt.datetime, real_now: dt.datetime
) -> Denial | None:
    if held.machine.revoked_at is not None:
        return Denial.REVOKED
    if not lives(held, real_now):
        return Denial.LEASE_LOST
    if held.run.cancel_requested_by:
        return Denial.CANCELLED
    report = {Stage.REPORT, Stage.UPLOAD}
    allowed = {Intent.REPORT: report, Intent.REPORT_AND_CLEAR: {*report, Stage.CLEAR}}
    if stage not in allowed.get(Intent(held.attempt.intent), set()) or not _right_disk(held):
        return Denial.WRONG_DISK
    if stage not in allowed.get(Intent(held.run.intent), set()):
        # The order was cancelled, and less is wanted since.
        return Denial.CANCELLED
    if period_row(held.disk, period).state == PeriodState.CLEARED:
        return Denial.ALREADY_CLEARED
    if stage == Stage.CLEAR and not _backed_up(held):
        return Denial.NO_BACKUP
    if quiet_for(now):
        return Denial.QUIET_HOURS
    if companies_held([held.disk.company_id]):
        return Denial.HELD
    if stopped_runs().filter(pk=held.run.pk).exists():
        return Denial.BUREAU_PAUSED
    return None


def _right_disk(held: Held) -> bool:
    """The disk identified itself in this attempt, and it is the one of the order."""
    identity = (
        Evidence.objects.filter(attempt=held.attempt, kind=EvidenceKind.IDENTITY)
        .order_by("-number")
        .first()
    )
    return (
        identity is not None
        and identity.data["device_no"] == held.disk.device_no
        and identity.data.get("tax_id", "") in {"", held.disk.company.tax_id}
        and not identity.data.get("training")
    )


def _backed_up(held: Held) -> bool:
    attempt = held.attempt
    return (
        attempt.backup_after is not None
        and attempt.backup_after == attempt.last_read
        and Backup.objects.filter(attempt=attempt, deleted_at__isnull=True).exists()
    )


def _note_permitted(disk: TaxDisk, period: Month, unit: str) -> None:
    row = DiskPeriod.objects.select_for_update().get(pk=period_row(disk, period).pk)
    if unit not in row.units_to_confirm:
        row.units_to_confirm = [*row.units_to_confirm, unit]
        row.save(update_fields=["units_to_confirm"])


@transaction.atomic
def keep(
    *,
    machine: Machine,
    run_id: int,
    attempt_key: uuid.UUID,
    period: Month,
    sha256: str,
    content: bytes,
    facts: Sequence[Fact],
    real_now: dt.datetime,
) -> Grant:
    """Store a backup, read it back and compare. Raises Failure(backup_failed) when it differs."""
    held = hold(machine, run_id, attempt_key)
    take(held, facts, now=real_now)
    if not lives(held, real_now):
        return _lease_lost(held)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise Failure(Code.BACKUP_FAILED, detail="sha256")
    name, digest = keep_backup(held.disk, content)
    backup, created = Backup.objects.get_or_create(
        agency_id=held.run.agency_id,
        attempt=held.attempt,
        sha256=digest,
        defaults={
            "run": held.run,
            "disk_period": period_row(held.disk, period),
            "size": len(content),
            "storage_name": name,
            "created_at": real_now,
            "verified_at": real_now,
            "simulated": machine.simulated,
        },
    )
    held.attempt.backup_after = held.attempt.last_read
    held.attempt.save(update_fields=["backup_after"])
    if created:
        audit.record(
            Action.RUN_BACKUP_KEPT,
            held.disk,
            company_id=held.disk.company_id,
            data={"run": run_id, "backup": backup.pk, "sha256": digest, "period": str(period)},
        )
    return Grant()


@transaction.atomic
def renew(*, machine: Machine, run_id: int, attempt_key: uuid.UUID, real_now: dt.datetime) -> Grant:
    """Lengthen a living lease; a lease that is over is over."""
    held = hold(machine, run_id, attempt_key)
    if machine.revoked_at is not None:
        return Grant(denial=Denial.REVOKED)
    if not lives(held, real_now):
        return _lease_lost(held)
    seconds = limits_now().lease
    until = real_now + dt.timedelta(seconds=seconds)
    if held.run.lease_until is None or held.run.lease_until < until:
        held.run.lease_until = until
        held.run.save(update_fields=["lease_until"])
    return Grant(seconds=seconds)


@transaction.atomic
def record(
    *,
    machine: Machine,
    run_id: int,
    attempt_key: uuid.UUID,
    facts: Sequence[Fact],
    real_now: dt.datetime,
) -> int:
    """Take facts and nothing else; the highest number taken."""
    return take(hold(machine, run_id, attempt_key), facts, now=real_now)
