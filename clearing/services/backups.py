"""Backups at rest: sealed, named by the hash of their content, verified whenever they are read.

Owns every touch of a backup's file. A file may serve several rows (the same disk in the same
state): it goes only when no living row names it, decided under the disk's lock, which also whoever
keeps a backup holds. Never hands out a content that is not exactly what was kept.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

from django.core.exceptions import SuspiciousOperation
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction

from agency import audit
from agency.choices import Action
from agency.durable import make_durable
from agency.sealing import SealError, UnknownKey, open_sealed, seal
from clearing.choices import BackupProblem
from clearing.models import Backup, backup_context
from devices.models import TaxDisk
from devices.protocol.failures import Code, Failure


def context_of(disk: TaxDisk) -> str:
    """What a disk's backups are bound to."""
    return backup_context(disk.agency_id, disk.pk)


def folder_of(agency_id: int) -> str:
    return f"backups/a{agency_id}"


def keep_backup(disk: TaxDisk, content: bytes) -> tuple[str, str]:
    """Store a sealed copy under its content's hash and read it back; (storage name, SHA-256). When
    this returns a power loss cannot take it.

    The caller holds the disk's lock. Raises Failure(backup_failed) when what is read back is not
    what was given, or could not be written through."""
    digest = hashlib.sha256(content).hexdigest()
    name = f"{folder_of(disk.agency_id)}/d{disk.pk}/{digest[:2]}/{digest}.sealed"
    if default_storage.exists(name):
        if _read(disk, name, digest).problem is None:
            _make_durable(name)  # whoever wrote it may have got no further
            return name, digest
        default_storage.delete(name)  # a torn write of an earlier try
    stored = default_storage.save(name, ContentFile(seal(content, context=context_of(disk))))
    if stored != name or _read(disk, name, digest).problem is not None:
        raise Failure(Code.BACKUP_FAILED)
    _make_durable(name)
    return name, digest


def _make_durable(name: str) -> None:
    try:
        make_durable(default_storage, name)
    except OSError as error:
        raise Failure(Code.BACKUP_FAILED, detail=error.strerror or "fsync") from None


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at a backup found: its content, or what is wrong."""

    content: bytes = b""
    problem: BackupProblem | None = None


def look(backup: Backup, disk: TaxDisk) -> Looked:
    """Read a backup, open its seal, compare its hash. Writes nothing."""
    looked = _read(disk, backup.storage_name, backup.sha256)
    if looked.problem == BackupProblem.DAMAGED and _of_another_disk(backup, disk):
        return Looked(problem=BackupProblem.FOREIGN)
    return looked


def _read(disk: TaxDisk, name: str, digest: str) -> Looked:
    try:
        with default_storage.open(name) as file:
            sealed = file.read()
    except (OSError, SuspiciousOperation):  # not there, not readable, an odd name
        return Looked(problem=BackupProblem.MISSING)
    try:
        content = open_sealed(sealed, context=context_of(disk))
    except UnknownKey:
        return Looked(problem=BackupProblem.NO_KEY)
    except SealError:
        return Looked(problem=BackupProblem.DAMAGED)
    if hashlib.sha256(content).hexdigest() != digest:
        return Looked(problem=BackupProblem.SWAPPED)
    return Looked(content)


def _of_another_disk(backup: Backup, disk: TaxDisk) -> bool:
    """Whether the file opens as a backup of another disk of the agency."""
    with default_storage.open(backup.storage_name) as file:
        sealed = file.read()
    for other in TaxDisk.objects.exclude(pk=disk.pk).values_list("pk", flat=True):
        try:
            open_sealed(sealed, context=backup_context(disk.agency_id, other))
        except SealError:
            continue
        return True
    return False


def note_look(backup: Backup, looked: Looked, *, now: dt.datetime) -> None:
    """Keep what a look found on the row: the page shows it."""
    backup.looked_at = now
    backup.problem = looked.problem or ""
    if looked.problem is None:
        backup.verified_at = now
    backup.save(update_fields=["looked_at", "problem", "verified_at"])


@transaction.atomic
def backup_open(*, backup: Backup, disk: TaxDisk, action: Action, now: dt.datetime) -> Looked:
    """The content for a person who asked (``action``: opened or downloaded); always in the trail,
    with what was found."""
    if backup.deleted_at is not None:
        raise Failure(Code.BACKUP_FAILED, detail="deleted")
    looked = look(backup, disk)
    note_look(backup, looked, now=now)
    audit.record(
        action if looked.problem is None else Action.BACKUP_DAMAGED,
        disk,
        company_id=disk.company_id,
        data={"backup": backup.pk, "sha256": backup.sha256, "found": looked.problem or "whole"},
    )
    return looked


def remove_file(disk_id: int, name: str) -> bool:
    """Delete a file that no living row names; whether it is gone. Takes the disk's lock."""
    with transaction.atomic():
        TaxDisk.objects.select_for_update(of=("self",)).get(pk=disk_id)
        if Backup.objects.filter(storage_name=name, deleted_at__isnull=True).exists():
            return False
        default_storage.delete(name)
    return True
