"""At the counter: the disk that was just plugged in goes before the rest."""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action
from agency.errors import ServiceError
from clearing import bell
from clearing.models import Run
from clearing.services.moves import move
from clearing.states import OPEN, Reason, RunState
from devices.models import TaxDisk
from devices.selectors import present_slots

# Claims take the smaller first; everything else has 10.
WALK_IN = 1
# What the arrival of the disk ends; a run that waits for a return or for the bureau stays waiting.
_FOR_THE_DISK = frozenset({Reason.DISK, Reason.MACHINE})


@transaction.atomic
def run_start_waiting(*, disk_id: int, real_now: dt.datetime) -> Run:
    """Put the open run of a disk that is plugged in before all others; starts nothing new.

    Raises ServiceError when the disk is not seen, or nothing of it waits for its arrival."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk_id)
    if not present_slots(real_now).filter(device_no=disk.device_no or "-").exists():
        raise ServiceError(_("还没有读到这只税盘，请先插好"))
    run = Run.objects.select_for_update().filter(disk=disk, state__in=OPEN).first()
    if run is None:
        raise ServiceError(_("这只税盘没有等待办理的事项，请联系记账会计"))
    if run.state == RunState.CLAIMED:
        raise ServiceError(_("这只税盘正在办理，请勿拔盘"))
    if run.state == RunState.WAITING and run.reason not in _FOR_THE_DISK:
        raise ServiceError(_("它在等：%(why)s") % {"why": Reason(run.reason).label})
    run.priority = WALK_IN
    if run.state == RunState.WAITING:
        move(run, RunState.QUEUED, now=real_now)
    else:
        run.save(update_fields=["priority"])
    audit.record(Action.RUN_WALK_IN, disk, company_id=disk.company_id, data={"run": run.pk})
    bell.ring(run.agency_id)
    bell.wake_sweeper(run.agency_id)
    return run
