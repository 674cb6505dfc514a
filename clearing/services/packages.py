"""Report packages and backups at rest: sealed, and found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db.models import Exists, OuterRef

from agency.sealing import SealError, open_sealed, seal
from clearing.choices import EvidenceKind
from clearing.models import Backup, Evidence
from clearing.wire import Held
from devices.models import TaxDisk
from devices.protocol.failures import Code, Failure


def package_context(disk: TaxDisk) -> str:
    return f"package:{disk.agency_id}:{disk.pk}"


def seal_package(disk: TaxDisk, data: Mapping[str, Any]) -> bytes:
    """Seal a package as the machine delivered it: fields and statistics."""
    plain = {"fields": data["fields"], "statistics": data.get("statistics", {})}
    return seal(json.dumps(plain, ensure_ascii=False), context=package_context(disk))


def held_packages(disk: TaxDisk) -> list[Held]:
    """Packages without a recorded answer of the bureau, the newest of each period and unit."""
    answered = Evidence.objects.filter(
        disk=OuterRef("disk"),
        kind=EvidenceKind.BUREAU,
        counted=True,
        unit=OuterRef("unit"),
        data__op="WLCB",
        data__period=OuterRef("data__period"),
        pk__gt=OuterRef("pk"),
    )
    rows = Evidence.objects.filter(
        ~Exists(answered), disk=disk, kind=EvidenceKind.PACKAGE, counted=True
    ).order_by("pk")
    newest: dict[tuple[str, str], Held] = {}
    for row in rows:
        plain = json.loads(open_sealed(bytes(row.sealed or b""), context=package_context(disk)))
        period = row.data["period"]
        newest[period, row.unit] = Held(period, row.unit, plain["fields"], plain["statistics"])
    return list(newest.values())


def keep_backup(disk: TaxDisk, content: bytes) -> tuple[str, str]:
    """Store a sealed copy under its content's hash and read it back; (storage name, SHA-256).

    Raises Failure(backup_failed) when what is read back is not what was given."""
    digest = hashlib.sha256(content).hexdigest()
    name = f"backups/a{disk.agency_id}/d{disk.pk}/{digest[:2]}/{digest}.sealed"
    if default_storage.exists(name) and _matches(disk, name, digest):
        return name, digest
    default_storage.delete(name)  # a torn write of an earlier try
    sealed = seal(content, context=_backup_context(disk))
    stored = default_storage.save(name, ContentFile(sealed))
    if stored != name or not _matches(disk, name, digest):
        raise Failure(Code.BACKUP_FAILED)
    return name, digest


def open_backup(backup: Backup, disk: TaxDisk) -> bytes:
    """The content of a backup, its hash checked. Raises Failure(backup_failed)."""
    with default_storage.open(backup.storage_name) as file:
        try:
            content = open_sealed(file.read(), context=_backup_context(disk))
        except SealError as error:
            raise Failure(Code.BACKUP_FAILED, detail=str(error)) from None
    if hashlib.sha256(content).hexdigest() != backup.sha256:
        raise Failure(Code.BACKUP_FAILED)
    return content


def _backup_context(disk: TaxDisk) -> str:
    return f"backup:{disk.agency_id}:{disk.pk}"


def _matches(disk: TaxDisk, name: str, digest: str) -> bool:
    with default_storage.open(name) as file:
        try:
            content = open_sealed(file.read(), context=_backup_context(disk))
        except SealError:
            return False
    return hashlib.sha256(content).hexdigest() == digest
