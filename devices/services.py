"""Writing in the device layer: machines, disks and their passwords, what machines see.

Everything runs inside an ``agency_scope``. Passwords are sealed here and nowhere else, bound to
their disk; none is ever part of an audit entry.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import transaction
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action
from agency.errors import ServiceError
from agency.models import Agency, Company
from agency.sealing import open_sealed, seal
from devices.choices import DiskKind, PasswordState
from devices.models import Machine, Slot, TaxDisk


@dataclass(frozen=True, slots=True)
class MachineCreated:
    """A new machine and its token, which is shown once and kept only as a hash."""

    machine: Machine
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SlotReport:
    """One slot of a presence report."""

    name: str
    device_no: str = ""
    tax_id: str = ""
    kind: str = ""
    terminal_no: int | None = None
    problem: str = ""


@transaction.atomic
def machine_create(
    *, agency: Agency, name: str, parallel: int = 8, simulated: bool = False
) -> MachineCreated:
    """Register a reader machine. Raises ServiceError for a name that is taken."""
    if Machine.objects.filter(name=name).exists():
        raise ServiceError(_("已有名为“%(name)s”的读盘机") % {"name": name})
    token = secrets.token_urlsafe(32)
    machine = Machine.objects.create(
        agency=agency,
        name=name,
        token_hash=hashlib.sha256(token.encode()).digest(),
        broker_account=f"m{agency.pk}-{secrets.token_hex(6)}",
        parallel=parallel,
        simulated=simulated,
    )
    audit.record(Action.MACHINE_CREATED, machine)
    return MachineCreated(machine, token)


@transaction.atomic
def machine_revoke(*, machine: Machine, now: dt.datetime) -> None:
    """Take the machine's permissions away; facts it still owes are accepted for 30 days."""
    if Machine.objects.filter(pk=machine.pk, revoked_at__isnull=True).update(revoked_at=now):
        Slot.objects.filter(machine=machine).delete()
        audit.record(Action.MACHINE_REVOKED, machine)


@transaction.atomic
def disk_create(
    *,
    company: Company,
    kind: DiskKind,
    device_no: str | None = None,
    terminal_no: int = 0,
    device_password: str = "",
    certificate_password: str = "",
    now: dt.datetime,
) -> TaxDisk:
    """Add a disk to a company. Raises ServiceError for a device number that is taken."""
    if device_no and TaxDisk.objects.filter(device_no=device_no).exists():
        raise ServiceError(_("盘号 %(no)s 已在本机构登记") % {"no": device_no})
    disk = TaxDisk.objects.create(
        agency_id=company.agency_id,
        company=company,
        kind=kind,
        device_no=device_no or None,
        terminal_no=terminal_no,
    )
    audit.record(Action.DISK_ADDED, disk, company_id=company.pk, data={"kind": str(kind)})
    if device_password or certificate_password:
        disk_password_enter(
            disk=disk,
            device_password=device_password,
            certificate_password=certificate_password,
            now=now,
        )
    return disk


@transaction.atomic
def disk_password_enter(
    *, disk: TaxDisk, device_password: str, certificate_password: str = "", now: dt.datetime
) -> None:
    """Keep passwords that a person entered; an empty one leaves what is there.

    For a rolling kind the device password is the card's present PIN: it starts a new generation,
    so that no older PIN that still arrives replaces it."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    if disk.pin_intent_machine_id is not None:
        raise ServiceError(_("读盘机正在更换此盘的 PIN，请等它办完再录入"))
    if device_password:
        disk.device_password = seal(device_password, context=disk.seal_context)
        disk.password_state = PasswordState.UNTRIED
        disk.password_entered_at = now
        disk.pin_generation += 1
    if certificate_password:
        disk.certificate_password = seal(certificate_password, context=disk.seal_context)
    disk.save()
    audit.record(
        Action.DISK_PASSWORD_ENTERED,
        disk,
        company_id=disk.company_id,
        data={"device": bool(device_password), "certificate": bool(certificate_password)},
    )


def disk_passwords(disk: TaxDisk) -> tuple[str, str]:
    """(device password, certificate password), opened; only for the answer to a claim."""
    return (
        _opened(disk.device_password, disk.seal_context),
        _opened(disk.certificate_password, disk.seal_context),
    )


def _opened(sealed: bytes | memoryview | None, context: str) -> str:
    return open_sealed(bytes(sealed), context=context).decode() if sealed is not None else ""


@transaction.atomic
def pin_intent_open(*, disk: TaxDisk, machine: Machine, now: dt.datetime) -> bool:
    """Note that ``machine`` is about to roll the PIN; False when another has an open intent.

    ``disk`` must be locked by the caller (lock order disk → run)."""
    if disk.pin_intent_machine_id not in {None, machine.pk}:
        return False
    disk.pin_intent_machine, disk.pin_intent_at = machine, now
    disk.save(update_fields=["pin_intent_machine", "pin_intent_at"])
    audit.record(Action.DISK_PIN_INTENT, disk, company_id=disk.company_id)
    return True


@transaction.atomic
def pin_delivered(*, disk: TaxDisk, machine: Machine, generation: int, pin: bytes) -> bool:
    """Take a new PIN, whenever it arrives, ordered by generation; closes the machine's intent.

    Returns whether it was newer than what was known."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    newer = generation > disk.pin_generation
    if newer:
        disk.device_password = seal(_pin_text(pin), context=disk.seal_context)
        disk.pin_generation = generation
        disk.password_state = PasswordState.GOOD
        disk.tries_left = None
        audit.record(
            Action.DISK_PIN_ROLLED,
            disk,
            company_id=disk.company_id,
            data={"generation": generation},
        )
    _close_intent(disk, machine, generation)
    disk.save()
    return newer


def _pin_text(pin: bytes) -> str:
    """A PIN as an order carries it: its characters, or hexadecimal where it has others."""
    text = pin.decode("latin-1")
    return text if text.isascii() and text.isprintable() else pin.hex().upper()


@transaction.atomic
def pin_not_taken(*, disk: TaxDisk, machine: Machine, generation: int) -> None:
    """The card answered that it did not take the PIN: nothing rolled, the intent is closed."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    _close_intent(disk, machine, generation + 1)
    disk.save()


@transaction.atomic
def pin_in_doubt(*, disk: TaxDisk, machine: Machine, generation: int) -> None:
    """A window was found open: the last PIN is kept, and only a person may try it."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    if generation < disk.pin_generation:
        return  # a newer PIN has been delivered or entered meanwhile
    disk.password_state = PasswordState.PIN_UNKNOWN
    _close_intent(disk, machine, generation + 1)
    disk.save()
    audit.record(
        Action.DISK_PIN_UNKNOWN, disk, company_id=disk.company_id, data={"machine": machine.name}
    )


def _close_intent(disk: TaxDisk, machine: Machine, generation: int) -> None:
    if disk.pin_intent_machine_id == machine.pk and generation >= disk.pin_generation:
        disk.pin_intent_machine = None
        disk.pin_intent_at = None


@transaction.atomic
def password_refused(*, disk: TaxDisk, locked: bool, tries_left: int) -> None:
    """Remember the disk's own answer: no password is sent again until a person enters one."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    disk.password_state = PasswordState.LOCKED if locked else PasswordState.WRONG
    disk.tries_left = 0 if locked else tries_left
    disk.save(update_fields=["password_state", "tries_left"])
    audit.record(
        Action.DISK_PASSWORD_REFUSED,
        disk,
        company_id=disk.company_id,
        data={"locked": locked, "tries_left": disk.tries_left},
    )


@transaction.atomic
def presence_note(
    *, machine: Machine, slots: Sequence[SlotReport], version: str, now: dt.datetime
) -> None:
    """Replace what is known of the machine's slots by its report; ``now`` is real time.

    A disk without a known number is bound when its tax id leaves no choice (:func:`_bind`)."""
    old = {slot.name: slot for slot in Slot.objects.filter(machine=machine)}
    rows = []
    for report in slots:
        before = old.get(report.name)
        same = before is not None and before.device_no == report.device_no
        rows.append(
            Slot(
                agency_id=machine.agency_id,
                machine=machine,
                name=report.name,
                device_no=report.device_no,
                tax_id=report.tax_id,
                kind=report.kind,
                terminal_no=report.terminal_no,
                problem=report.problem,
                seen_at=now,
                since=before.since if before is not None and same else now,
            )
        )
    Slot.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["agency", "machine", "name"],
        update_fields=[
            "device_no",
            "tax_id",
            "kind",
            "terminal_no",
            "problem",
            "seen_at",
            "since",
        ],
    )
    Slot.objects.filter(machine=machine).exclude(name__in=[s.name for s in slots]).delete()
    Machine.objects.filter(pk=machine.pk).update(seen_at=now, version=version[:20])
    _bind([report for report in slots if report.device_no and report.tax_id])


def _bind(reports: Sequence[SlotReport]) -> None:
    """Give a disk its number at first sight: its kind and tax id match exactly one unbound disk
    (and the machine number, where the disk says it)."""
    known = set(
        TaxDisk.objects.filter(device_no__in=[r.device_no for r in reports]).values_list(
            "device_no", flat=True
        )
    )
    for report in reports:
        if report.device_no in known:
            continue
        unbound = TaxDisk.objects.filter(
            device_no__isnull=True, company__tax_id=report.tax_id, kind=report.kind
        )
        if report.terminal_no is not None:
            unbound = unbound.filter(terminal_no=report.terminal_no)
        candidates = list(unbound[:2])
        if len(candidates) == 1:
            disk = candidates[0]
            TaxDisk.objects.filter(pk=disk.pk, device_no__isnull=True).update(
                device_no=report.device_no
            )
            disk.device_no = report.device_no
            audit.record(Action.DISK_BOUND, disk, company_id=disk.company_id)
