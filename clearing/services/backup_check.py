"""The look over all backups of an agency: each is read, its seal opened, its hash compared.

Also looks the other way: files in the folder that no row names. Small transactions, so that a long
check stands in nobody's way. Removes nothing and repairs nothing.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from django.core.files.storage import default_storage
from django.db.models import F

from agency import audit
from agency.choices import Action
from agency.scope import agency_scope
from clearing.choices import BackupProblem
from clearing.models import Backup
from clearing.services.backups import folder_of, look, note_look
from devices.models import TaxDisk

_AT_ONCE = 100


@dataclass(slots=True)
class Bad:
    """A backup that is not whole."""

    backup_id: int
    disk: str
    period: str
    name: str
    problem: BackupProblem


@dataclass(slots=True)
class CheckResult:
    """What a check of one agency found. ``strays``: sealed files without a row."""

    whole: int = 0
    bad: list[Bad] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.bad

    def counts(self) -> dict[str, int]:
        found = Counter(str(bad.problem) for bad in self.bad)
        return {"whole": self.whole, "stray": len(self.strays), **found}


def check_agency(
    agency_id: int, *, now: Callable[[], dt.datetime], most: int | None = None
) -> CheckResult:
    """Look at every backup of the agency (or at ``most`` of them, those not looked at for longest),
    and record the result in its trail. Opens its own scopes."""
    result = CheckResult()
    with agency_scope(agency_id):
        living = Backup.objects.filter(deleted_at__isnull=True)
        ids = list(
            living.order_by(F("looked_at").asc(nulls_first=True), "pk").values_list("pk", flat=True)
        )[:most]
        known = set(Backup.objects.exclude(storage_name="").values_list("storage_name", flat=True))
    for start in range(0, len(ids), _AT_ONCE):
        with agency_scope(agency_id):
            rows = Backup.objects.filter(pk__in=ids[start : start + _AT_ONCE])
            for backup in rows.filter(deleted_at__isnull=True).select_related("disk_period__disk"):
                _check(backup, backup.disk_period.disk, result, now())
    strays = [name for name in _files(folder_of(agency_id)) if name not in known]
    with agency_scope(agency_id):
        # A backup kept meanwhile is no stray.
        new = Backup.objects.filter(storage_name__in=strays).values_list("storage_name", flat=True)
        result.strays = sorted(set(strays) - set(new))
        if ids or result.strays:
            audit.record(Action.BACKUPS_CHECKED, data=result.counts())
    return result


def _check(backup: Backup, disk: TaxDisk, result: CheckResult, now: dt.datetime) -> None:
    looked = look(backup, disk)
    note_look(backup, looked, now=now)
    if looked.problem is None:
        result.whole += 1
        return
    result.bad.append(
        Bad(backup.pk, str(disk), backup.disk_period.period, backup.storage_name, looked.problem)
    )


def _files(folder: str) -> Iterator[str]:
    """All files under a folder of the storage."""
    try:
        folders, files = default_storage.listdir(folder)
    except FileNotFoundError:
        return
    yield from (f"{folder}/{name}" for name in files)
    for name in folders:
        yield from _files(f"{folder}/{name}")
