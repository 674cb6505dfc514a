"""Tax disks: added, given passwords by people, told their passwords' fate by the disk itself."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action
from agency.errors import ServiceError
from agency.models import Company
from agency.sealing import open_sealed, seal
from devices.choices import DiskKind, PasswordState
from devices.models import TaxDisk
from devices.services.pins import bring_late, decided


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

    A device password starts a new generation (``devices.services.pins``). Raises ServiceError while
    a machine is rolling the disk's PIN: it must deliver, or be declared lost, first."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    if disk.pin_intent_machine is not None:
        raise ServiceError(
            _("读盘机“%(name)s”正在更换此盘的 PIN：请等它联网交回，或由主管先申明它已丢失")
            % {"name": disk.pin_intent_machine.name}
        )
    if device_password:
        disk.device_password = seal(device_password, context=disk.seal_context)
        disk.password_state = PasswordState.UNTRIED
        disk.password_entered_at = now
        decided(disk)
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
def password_refused(*, disk: TaxDisk, locked: bool, tries_left: int) -> None:
    """Remember the disk's own answer: no password is sent again until a person enters one."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    disk.password_state = PasswordState.LOCKED if locked else PasswordState.WRONG
    disk.tries_left = 0 if locked else tries_left
    disk.pin_try_key = None
    audit.record(
        Action.DISK_PASSWORD_REFUSED,
        disk,
        company_id=disk.company_id,
        data={"locked": locked, "tries_left": disk.tries_left},
    )
    bring_late(disk)
    disk.save()


@transaction.atomic
def tries_noted(*, disk: TaxDisk, tries_left: int) -> None:
    """The disk refused a password that is no longer the present one: only its count is news."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    disk.tries_left = tries_left
    if tries_left == 0:
        disk.password_state = PasswordState.LOCKED
    disk.save(update_fields=["tries_left", "password_state"])
    audit.record(
        Action.DISK_PASSWORD_REFUSED,
        disk,
        company_id=disk.company_id,
        data={"earlier_password": True, "locked": tries_left == 0, "tries_left": tries_left},
    )
