"""Ways a disk can stand, written straight into the tables: what the pages are shown to show."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from agency.scope import agency_scope
from clearing.choices import By, Intent, PeriodState
from clearing.models import Attempt, Batch, BatchRun, DiskPeriod, Run
from clearing.states import ENDED, RunState
from devices.models import Machine, TaxDisk
from tests.conftest import NOW

#: NOW lies in the window of November, so October is reported and cleared.
PERIOD = "2026-10"


def control(*types: str, reported: bool = False, cleared: bool = False) -> dict[str, Any]:
    """Control data as they are stored, for the period :data:`PERIOD`."""
    return {
        kind: {
            "invoice_type": kind,
            "issue_deadline": "2026-12-15" if cleared else "2026-11-16",
            "period_start": "2026-11-01" if reported else "2026-10-01",
            "period_end": "2026-11-30" if reported else "2026-10-31",
            "last_reported_on": "2026-11-03" if reported else "2026-10-05",
            "device_clock": None,
            "clock_source": "device",
            "pending_uploads": 0,
            "limits": {},
            "raw": {},
        }
        for kind in types
    }


def period(disk: TaxDisk, state: PeriodState, **fields: Any) -> DiskPeriod:
    """The disk's row of :data:`PERIOD`, and the disk's last read, in ``state``."""
    reported = state in {PeriodState.TO_CLEAR, PeriodState.CLEARED}
    cleared = state == PeriodState.CLEARED
    values: dict[str, Any] = {"state": state, "period": PERIOD}
    if state != PeriodState.UNREAD:
        values["control"] = control("025", reported=reported, cleared=cleared)
        values["read_at"] = NOW
    if reported:
        values |= {"reported_at": NOW, "reported_by": By.US}
    if cleared:
        values |= {"cleared_at": NOW, "cleared_by": By.US}
    values |= fields
    with agency_scope(disk.agency_id):
        if "control" in values:
            disk.control, disk.control_read_at = values["control"], NOW
            disk.issue_deadline = dt.date(2026, 12, 15) if cleared else dt.date(2026, 11, 16)
            disk.save()
        row, _created = DiskPeriod.objects.update_or_create(
            agency_id=disk.agency_id,
            disk=disk,
            period=values.pop("period"),
            defaults=values,
        )
    return row


def run(
    disk: TaxDisk,
    state: RunState,
    *,
    batch: Batch | None = None,
    intent: Intent = Intent.REPORT_AND_CLEAR,
    **fields: Any,
) -> Run:
    """A run of :data:`PERIOD` in ``state``, in a batch of its own unless one is given."""
    with agency_scope(disk.agency_id):
        row, _created = DiskPeriod.objects.get_or_create(
            agency_id=disk.agency_id, disk=disk, period=PERIOD
        )
        batch = batch or Batch.objects.create(
            agency_id=disk.agency_id,
            intent=intent,
            key=str(uuid.uuid4()),
            period=PERIOD,
            started_by="郑会计",
            created_at=NOW,
        )
        values: dict[str, Any] = {
            "intent": intent,
            "created_at": NOW,
            "ended_at": NOW if state in ENDED else None,
            **fields,
        }
        if state == RunState.UNKNOWN:
            values["open_intent"] = {"stage": "clear", "unit": "025", "period": PERIOD}
        made = Run.objects.create(
            agency_id=disk.agency_id,
            disk=disk,
            disk_period=row,
            batch=batch,
            state=RunState.QUEUED if state == RunState.CLAIMED else state,
            **values,
        )
        BatchRun.objects.create(agency_id=disk.agency_id, batch=batch, run=made)
        if state == RunState.CLAIMED:
            _claim(made)
    return made


def _claim(row: Run) -> None:
    machine, _created = Machine.objects.get_or_create(
        agency_id=row.agency_id, name="前台读盘机", defaults={"token_hash": bytes(32)}
    )
    row.attempt = Attempt.objects.create(
        agency_id=row.agency_id,
        run=row,
        machine=machine,
        key=uuid.uuid4(),
        ordinal=1,
        slot="A-01",
        claimed_at=NOW,
    )
    row.state, row.lease_until = RunState.CLAIMED, NOW
    row.save()
