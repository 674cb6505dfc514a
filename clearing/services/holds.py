"""暂缓: a person keeps clients back, with a reason, and lets them go again."""

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
from clearing.selectors.stops import companies_held, open_holds
from clearing.services.moves import move
from clearing.states import Reason, RunState
from devices.models import TaxDisk


@transaction.atomic
def hold(*, disk_ids: Iterable[int], note: str, by: str, real_now: dt.datetime) -> int:
    """Keep the clients of these disks back, with all their disks and those that they get later; how
    many disks were not kept back before. A queued run waits from now on, a claimed one stops at its
    next request for permission, a permitted write is never cut.

    Raises ServiceError without a reason."""
    if not note.strip():
        raise ServiceError(_("请写明原因"))
    disks = _locked(disk_ids)
    before = companies_held(disk.company_id for disk in disks)
    fresh = [disk for disk in disks if disk.company_id not in before]
    for disk in fresh:
        Hold.objects.create(
            agency_id=disk.agency_id,
            disk=disk,
            note=note.strip()[:200],
            held_by=by,
            held_at=real_now,
        )
        queued = Run.objects.select_for_update().filter(disk=disk, state=RunState.QUEUED)
        for run in queued.exclude(intent=Intent.READ):
            move(run, RunState.WAITING, now=real_now, reason=Reason.HOLD)
        audit.record(
            Action.DISK_HELD, disk, company_id=disk.company_id, data={"note": note.strip()[:200]}
        )
    if fresh:
        bell.wake_sweeper(fresh[0].agency_id)
    return len(fresh)


@transaction.atomic
def release_hold(*, disk_ids: Iterable[int], by: str, real_now: dt.datetime) -> int:
    """Let the clients of these disks go on; how many disks were kept back."""
    disks = _locked(disk_ids)
    held = companies_held(disk.company_id for disk in disks)
    # A disk that was retired since has its row all the same.
    open_holds().filter(disk__company__in=held).update(released_at=real_now, released_by=by)
    freed = [disk for disk in disks if disk.company_id in held]
    for disk in freed:
        waiting = Run.objects.select_for_update().filter(
            disk=disk, state=RunState.WAITING, reason=Reason.HOLD
        )
        for run in waiting:
            move(run, RunState.QUEUED, now=real_now)
        audit.record(Action.DISK_RELEASED, disk, company_id=disk.company_id)
    if freed:
        bell.ring(freed[0].agency_id)
        bell.wake_sweeper(freed[0].agency_id)
    return len(freed)


def _locked(disk_ids: Iterable[int]) -> list[TaxDisk]:
    """The disks in use of the companies that these belong to."""
    named = TaxDisk.objects.filter(pk__in=set(disk_ids)).values("company")
    disks = TaxDisk.objects.select_for_update(of=("self",)).filter(
        company__in=named, retired_at__isnull=True
    )
    return list(disks.order_by("pk"))
