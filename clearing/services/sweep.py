"""What time brings: leases over, waits over, disks gone, months turned, batches ended.

Conditional and idempotent: two sweepers at once do no harm. It never fails a run over a device
action; after its own start or a gap in its ticks it leaves leases alone for one lease length.
"""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from agency import audit
from agency.choices import Action
from clearing import bell
from clearing.models import Tick
from clearing.periods import current_period
from clearing.selectors.presence import machine_off
from clearing.services.claims import limits_now
from clearing.services.ends import lease_over, note_ended_batches
from clearing.services.moves import UNKNOWN_PATIENCE, move
from clearing.services.parked import locked_runs, sweep_parked
from clearing.states import Reason, RunState
from devices.models import TaxDisk
from devices.selectors import present_numbers, present_slots

JOB = "sweep"


def _is_gap(since: dt.timedelta, every: float) -> bool:
    return since > dt.timedelta(seconds=max(3 * every, 5))


@transaction.atomic
def tick(*, real_now: dt.datetime, every: float) -> bool:
    """Note that the sweeper came round; whether it may take leases for over this time."""
    row = Tick.objects.select_for_update().filter(job=JOB).first()
    lease = dt.timedelta(seconds=limits_now().lease)
    if row is None:
        row = Tick.objects.get_or_create(
            job=JOB, defaults={"at": real_now, "patient_until": real_now + lease}
        )[0]
    elif _is_gap(real_now - row.at, every):
        row.patient_until = real_now + lease
    row.at = real_now
    row.save()
    return row.patient_until is None or row.patient_until <= real_now


def may_take_leases(*, real_now: dt.datetime, every: float) -> bool:
    """The same of a round that does not come from the timer: only while the timer comes round."""
    row = Tick.objects.filter(job=JOB).first()
    if row is None or _is_gap(real_now - row.at, every):
        return False
    return row.patient_until is None or row.patient_until <= real_now


def sweep(*, now: dt.datetime, real_now: dt.datetime, leases: bool) -> None:
    """One round for the agency of the running scope. ``now`` is domain time."""
    if leases:
        for run in locked_runs(Q(lease_until__lt=real_now), state=RunState.CLAIMED):
            lease_over(run, real_now=real_now)
    # Cancelled while a machine had it; a late read took its doubt away and queued it.
    for run in locked_runs(
        ~Q(cancel_requested_by=""), state__in=[RunState.QUEUED, RunState.WAITING]
    ):
        move(run, RunState.CANCELLED, now=real_now)
    _months_turned(now, real_now)
    over = Q(next_try_at__lte=real_now) & ~Q(reason=Reason.BUREAU)
    for run in locked_runs(over, state=RunState.WAITING):
        move(run, RunState.QUEUED, now=real_now, code=run.code)
    _disks_gone(real_now)
    sweep_parked(now=real_now)
    _notice_unknown(real_now)
    note_ended_batches(now=real_now)
    bell.ring_last()


def _months_turned(now: dt.datetime, real_now: dt.datetime) -> None:
    """What waited into the next month is superseded; an unknown one is settled all the same."""
    before = Q(disk_period__period__lt=str(current_period(now)))
    for state in (RunState.QUEUED, RunState.WAITING):
        for run in locked_runs(before, state=state):
            move(run, RunState.SUPERSEDED, now=real_now)


def _notice_unknown(real_now: dt.datetime) -> None:
    """Once per doubt: an unknown run whose disk is away, or that nobody has read for an hour."""
    here = Q(disk__device_no__in=present_numbers(real_now))
    old = Q(attempt__ended_at__lt=real_now - UNKNOWN_PATIENCE)
    for run in locked_runs(~here | old, state=RunState.UNKNOWN, noticed_at__isnull=True):
        run.noticed_at = real_now
        run.save(update_fields=["noticed_at"])
        audit.record(
            Action.RUN_UNKNOWN_NOTICE,
            run.disk,
            company_id=run.disk.company_id,
            data={"run": run.pk, "device_no": run.disk.device_no},
        )


def _disks_gone(real_now: dt.datetime) -> None:
    """Queued runs say what they wait for when no machine has their disk, or may not use its PIN;
    waiting ones say something else when that changes, and go on when it is over."""
    here = Q(disk__device_no__in=present_numbers(real_now))
    off = machine_off(real_now)
    for why, absent in ((Reason.MACHINE, ~here & off), (Reason.DISK, ~here & ~off)):
        for run in locked_runs(absent, state=RunState.QUEUED):
            move(run, RunState.WAITING, now=real_now, reason=why)
        others = {Reason.MACHINE, Reason.DISK} - {why}
        for run in locked_runs(absent, state=RunState.WAITING, reason__in=others):
            run.reason = why
            run.save(update_fields=["reason"])
    held = Q(
        Exists(
            TaxDisk.objects.filter(pk=OuterRef("disk"), pin_intent_machine__isnull=False).exclude(
                pin_intent_machine__in=present_slots(real_now)
                .filter(device_no=OuterRef("device_no"))
                .values("machine")
            )
        )
    )
    for run in locked_runs(here & held, state=RunState.QUEUED):
        move(run, RunState.WAITING, now=real_now, reason=Reason.PIN)
    for run in locked_runs(~held, state=RunState.WAITING, reason=Reason.PIN):
        move(run, RunState.QUEUED, now=real_now)
