"""暂缓: a person keeps disks back, with a reason, and lets them go again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db import transaction
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action
from agency.errors import ServiceError
from clearing import bell
from clearing.choices import Intent
from clearing.models import Hold, Run
from clearing.services.moves import move
from clearing.states import Reason, RunState
from devices.models import TaxDisk


@transaction.atomic
def hold(*, disk_ids: Iterable[int], note: str, by: str, real_now: dt.datetime) -> int:
    """Keep disks back; how many were not kept back before. A queued run waits from now on, a
    claimed one stops at its next request for permission, a permitted write is never cut.

    Raises ServiceError without a reason."""
    if not note.strip():
        raise ServiceError(_("请写明原因"))
    changed = 0
    for disk in _locked(disk_ids):
        if Hold.objects.filter(disk=disk, released_at__isnull=True).exists():
            continue
        Hold.objects.create(
            agency_id=disk.agency_id,
            disk=disk,
            note=note.strip()[:200],
            held_by=by,
            held_at=real_now,
        )
        changed += 1
        queued = Run.objects.select_for_update().filter(disk=disk, state=RunState.QUEUED)
        for run in queued.exclude(intent=Intent.READ):
            move(run, RunState.WAITING, now=real_now, reason=Reason.HOLD)
        audit.record(
            Action.DISK_HELD, disk, company_id=disk.company_id, data={"note": note.strip()[:200]}
        )
        bell.wake_sweeper(disk.agency_id)
    return changed


@transaction.atomic
def release_hold(*, disk_ids: Iterable[int], by: str, real_now: dt.datetime) -> int:
    """Let disks go on; how many were kept back."""
    changed = 0
    for disk in _locked(disk_ids):
        if not Hold.objects.filter(disk=disk, released_at__isnull=True).update(
            released_at=real_now, released_by=by
        ):
            continue
        changed += 1
        waiting = Run.objects.select_for_update().filter(
            disk=disk, state=RunState.WAITING, reason=Reason.HOLD
        )
        for run in waiting:
            move(run, RunState.QUEUED, now=real_now)
        audit.record(Action.DISK_RELEASED, disk, company_id=disk.company_id)
        bell.ring(disk.agency_id)
        bell.wake_sweeper(disk.agency_id)
    return changed


def _locked(disk_ids: Iterable[int]) -> list[TaxDisk]:
    disks = TaxDisk.objects.select_for_update(of=("self",)).filter(pk__in=set(disk_ids))
    return list(disks.order_by("pk"))
