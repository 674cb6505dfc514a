"""Presence and claims: what a machine sees, and the order it gets."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence

from django.conf import settings
from django.db import transaction

from agency import audit
from agency.choices import Action, ClearPolicy
from clearing import bell
from clearing.choices import By, EvidenceKind, Intent
from clearing.models import Attempt, DiskPeriod, Evidence, Run
from clearing.periods import is_due
from clearing.selectors.runnable import full_addresses, runnable_of
from clearing.selectors.stops import paused_addresses, stopped_runs
from clearing.services.moves import move
from clearing.services.packages import held_packages
from clearing.services.pauses import lock_address
from clearing.states import Reason, RunState
from clearing.wire import Limits, Order, Owed
from devices.choices import PasswordState
from devices.models import Machine, Slot, TaxDisk
from devices.protocol.failures import Code
from devices.protocol.month import Month
from devices.selectors import present_numbers
from devices.services import SlotReport, disk_passwords, presence_note

_PASSWORD_CODES: dict[str, Code] = {
    PasswordState.MISSING: Code.PASSWORD_MISSING,
    PasswordState.WRONG: Code.PASSWORD_WRONG,
    PasswordState.LOCKED: Code.PASSWORD_LOCKED,
    PasswordState.PIN_UNKNOWN: Code.PIN_UNKNOWN,
}


@transaction.atomic
def presence(
    *, machine: Machine, slots: Sequence[SlotReport], version: str, now: dt.datetime
) -> int:
    """Take a presence report; wakes what waited for these disks. ``now`` is real time.

    Returns how many runs the machine may start now."""
    if presence_note(machine=machine, slots=slots, version=version, now=now):
        bell.wake_sweeper(machine.agency_id)
    here = present_numbers(now, machine)
    woken = (
        Run.objects.select_for_update(skip_locked=True, of=("self",))
        .filter(
            state=RunState.WAITING,
            reason__in=[Reason.DISK, Reason.MACHINE],
            disk__device_no__in=here,
        )
        .order_by("pk")
    )
    for run in woken:
        move(run, RunState.QUEUED, now=now)
    return runnable_of(machine, now).count()


@transaction.atomic
def claim(
    *, machine: Machine, attempt_key: uuid.UUID, now: dt.datetime, real_now: dt.datetime
) -> Order | None:
    """Hand the next runnable run to the machine, as an order with a lease; None when there is none.

    A claim that the same machine repeats with the same key gets the same order while that attempt
    is the newest and its lease lives; another machine gets nothing by it. ``now`` is domain time
    and goes into the order."""
    earlier = Attempt.objects.filter(key=attempt_key).select_related("run").first()
    if earlier is not None:
        run = Run.objects.select_for_update().get(pk=earlier.run_id)
        theirs = earlier.machine_id == machine.pk
        alive = run.lease_until is not None and run.lease_until > real_now  # only a claimed one
        newest = theirs and run.attempt_id == earlier.pk
        return _order(run, earlier, machine, now) if newest and alive else None
    next_run = _next_run(machine, real_now)
    if next_run is None:
        return None
    run = next_run
    slot = Slot.objects.filter(machine=machine, device_no=run.disk.device_no).first()
    if slot is None:  # a presence report came between: the disk is not here any more
        return None
    attempt = Attempt.objects.create(
        agency_id=run.agency_id,
        run=run,
        machine=machine,
        key=attempt_key,
        ordinal=run.attempts.count() + 1,
        # What may not write now is handed out for the read that settles it.
        intent=Intent.READ if stopped_runs().filter(pk=run.pk).exists() else run.intent,
        slot=slot.name,
        claimed_at=real_now,
    )
    run.attempt = attempt
    limits = limits_now()
    run.lease_until = real_now + dt.timedelta(seconds=limits.lease)
    run.stage = ""
    move(run, RunState.CLAIMED, now=real_now)
    audit.record(
        Action.RUN_CLAIMED,
        run.disk,
        company_id=run.disk.company_id,
        data={"run": run.pk, "attempt": attempt.ordinal, "machine": machine.name},
    )
    return _order(run, attempt, machine, now)


def _next_run(machine: Machine, now: dt.datetime) -> Run | None:
    """The next runnable run, locked; the calls at its bureau address are counted under the lock of
    that address, so that two claims at once cannot both take the last place."""
    full: set[str] = set()
    while True:
        run = (
            runnable_of(machine, now)
            .exclude(disk__company__bureau__address__in=full)
            .select_for_update(skip_locked=True, of=("self",))
            .first()
        )
        if run is None or run.disk.company.bureau is None:
            return run
        address = run.disk.company.bureau.address
        lock_address(run.agency_id, address)
        if address not in full_addresses():
            return run
        full.add(address)


def limits_now() -> Limits:
    """The limits that travel with an order, by this environment's factor."""
    return Limits().scaled(settings.LIMITS_SCALE)


def _order(run: Run, attempt: Attempt, machine: Machine, now: dt.datetime) -> Order:
    disk, company = run.disk, run.disk.company
    address = company.bureau.address if company.bureau else ""
    rows = list(DiskPeriod.objects.filter(disk=disk))
    device_password, certificate_password = disk_passwords(disk)
    code = _password_code(disk, str(attempt.key))
    if attempt.pin_generation != disk.pin_generation:
        attempt.pin_generation = disk.pin_generation
        attempt.save(update_fields=["pin_generation"])
    open_ = run.open_intent or {}
    marked = [row.period for row in rows if row.marked_filed_at is not None]
    return Order(
        run_id=run.pk,
        attempt=str(attempt.key),
        intent=attempt.intent,
        period=run.disk_period.period,
        now=now.isoformat(),
        slot=attempt.slot,
        device_no=disk.device_no or "",
        tax_id=company.tax_id,
        terminal_no=disk.terminal_no,
        kind=disk.kind,
        bureau_url=address,
        limits=limits_now(),
        time_factor=settings.LIMITS_SCALE,
        simulated=machine.simulated,
        policy_try=company.clear_policy == ClearPolicy.TRY,
        filed=tuple(marked),
        not_due=tuple(
            str(period)
            for period in _recent_periods(run.disk_period.period)
            if not is_due(company, period)
        ),
        held=tuple(held_packages(disk)),
        reported=_handed_in(disk),
        report_open=Owed(open_["period"], open_["unit"])
        if open_.get("stage") == Intent.REPORT
        else None,
        confirm_owed=tuple(
            Owed(row.period, unit)
            for row in rows
            # One that was permitted and not read back may be written: the disk will say.
            if row.cleared_by != By.ELSEWHERE and address not in paused_addresses()
            for unit in row.units_to_confirm
        ),
        device_password=device_password if not code else "",
        certificate_password=certificate_password,
        pin_generation=disk.pin_generation,
        password_usable=not code,
        password_code=code,
        tries_left=disk.tries_left,
    )


def _password_code(disk: TaxDisk, claim: str) -> str:
    """Why no password may be sent, or "". Fewer than two tries left are never spent by software,
    and the one try that a person allowed is for one claim."""
    code = _PASSWORD_CODES.get(disk.password_state)
    if code is None and disk.pin_try_key not in {None, "", claim}:
        code = Code.PIN_UNKNOWN
    if code is None and disk.tries_left is not None and disk.tries_left < 2:
        code = Code.PASSWORD_LAST_TRIES
    return code.value if code else ""


def _recent_periods(period: str) -> list[Month]:
    """The ordered period and the year before it: a disk may be behind."""
    return [Month.parse(period).plus(-back) for back in range(13)]


def _handed_in(disk: TaxDisk) -> tuple[Owed, ...]:
    answers = Evidence.objects.filter(
        disk=disk, kind=EvidenceKind.BUREAU, data__op="WLCB", counted=True
    ).values_list("data__period", "unit")
    return tuple(Owed(period, unit) for period, unit in answers.distinct())
