"""Backups for tests: kept through the service, of simulated cards and by whatever age."""

from __future__ import annotations

import datetime as dt
from typing import Any

from agency.clock import real_now
from agency.scope import agency_scope
from clearing.choices import PeriodState
from clearing.models import Attempt, Backup
from clearing.services.backups import keep_backup
from clearing.states import RunState
from devices.models import TaxDisk
from tests.clearing import scenes
from tests.devices.cards import bench, world_disk


def card_content(disk: TaxDisk) -> bytes:
    """What the driver exports of a simulated card with this disk's number and tax id."""
    world = world_disk(disk.device_no or "", tax_id=disk.company.tax_id)
    return bench(world).disk.export()


def kept(disk: TaxDisk, content: bytes | None = None, **fields: Any) -> Backup:
    """A backup of the disk, kept now; ``created_at`` makes it older."""
    if content is None:
        content = card_content(disk)
    with agency_scope(disk.agency_id):
        attempt = Attempt.objects.filter(run__disk=disk).order_by("-pk").first()
    if attempt is None:
        scenes.period(disk, PeriodState.TO_CLEAR)
        attempt = scenes.run(disk, RunState.CLAIMED).attempt
    assert attempt is not None
    with agency_scope(disk.agency_id):
        TaxDisk.objects.select_for_update(of=("self",)).get(pk=disk.pk)
        name, digest = keep_backup(disk, content)
        now = real_now()
        values: dict[str, Any] = {
            "run": attempt.run,
            "disk_period": attempt.run.disk_period,
            "size": len(content),
            "storage_name": name,
            "created_at": now,
            "verified_at": now,
            "simulated": True,
            **fields,
        }
        return Backup.objects.create(
            agency_id=disk.agency_id, attempt=attempt, sha256=digest, **values
        )


def years_ago(years: int) -> dt.datetime:
    return dt.datetime(2026 - years, 6, 30, 10, tzinfo=dt.UTC)
