"""The state of a disk's period: derived here from control data read back, and nowhere set.

``note_read`` is called with every counted read; ``note_answer`` with every recorded answer of the
bureau. A cleared row is never turned back by later evidence.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from agency import audit
from agency.choices import Action, FilingFrequency
from agency.models import Company
from clearing.choices import By, PeriodState
from clearing.models import DiskPeriod, Evidence
from devices.models import TaxDisk
from devices.protocol.control import (
    ControlData,
    from_json,
    is_cleared,
    is_cleared_all,
    is_reported_all,
    open_period,
)
from devices.protocol.month import Month

# Quarterly filers file in these windows; in the other eight no return is due.
QUARTERLY_WINDOWS = frozenset({1, 4, 7, 10})


def current_period(now: dt.datetime) -> Month:
    """The period whose window is open: the month before ``now`` (Beijing time)."""
    return Month.of(now).plus(-1)


def is_due(company: Company, period: Month) -> bool:
    """Whether a return of this period is due in its window."""
    return (
        company.filing_frequency == FilingFrequency.MONTHLY
        or period.window.month in QUARTERLY_WINDOWS
    )


def period_row(disk: TaxDisk, period: Month) -> DiskPeriod:
    """The disk's row of a period, made when it is not there."""
    row, _created = DiskPeriod.objects.get_or_create(
        agency_id=disk.agency_id, disk=disk, period=str(period)
    )
    return row


def derived_state(controls: Mapping[str, ControlData], period: Month) -> PeriodState:
    """What the dates on the disk say of a period; the worst invoice type decides."""
    if is_cleared_all(controls, period):
        return PeriodState.CLEARED
    return PeriodState.TO_CLEAR if is_reported_all(controls, period) else PeriodState.TO_REPORT


def parse_controls(types: Mapping[str, Any]) -> dict[str, ControlData]:
    """Control data per invoice type from their JSON form. Raises Failure(device_garbled)."""
    return {kind: from_json(value) for kind, value in types.items()}


def note_read(
    disk: TaxDisk, types: Mapping[str, Any], *, read_at: dt.datetime, period: Month
) -> None:
    """Take a read of the disk (locked by the caller) into its rows: the ordered period's, the open
    one's and every other that is not cleared yet."""
    controls = parse_controls(types)
    disk.control, disk.control_read_at = dict(types), read_at
    disk.issue_deadline = min(control.issue_deadline for control in controls.values())
    disk.save(update_fields=["control", "control_read_at", "issue_deadline"])
    period_row(disk, min(period, open_period(controls)))
    period_row(disk, period)
    for row in DiskPeriod.objects.select_for_update().filter(disk=disk).order_by("period"):
        if row.state != PeriodState.CLEARED and row.period <= str(period):
            _derive(disk, row, controls, types, read_at)


def _derive(
    disk: TaxDisk,
    row: DiskPeriod,
    controls: Mapping[str, ControlData],
    types: Mapping[str, Any],
    read_at: dt.datetime,
) -> None:
    period = Month.parse(row.period)
    row.control, row.read_at, row.issue_deadline = dict(types), read_at, disk.issue_deadline
    state = derived_state(controls, period)
    if state in {PeriodState.TO_CLEAR, PeriodState.CLEARED} and row.reported_at is None:
        row.reported_at = read_at
        row.reported_by = row.reported_by or (By.US if handed_in(row) else By.ELSEWHERE)
        _record(Action.PERIOD_REPORTED, disk, row, {"by": row.reported_by})
    if state == PeriodState.CLEARED:
        row.cleared_at = read_at
        row.cleared_by = By.US if row.units_to_confirm else By.ELSEWHERE
        _record(
            Action.PERIOD_CLEARED,
            disk,
            row,
            {"by": row.cleared_by, "issue_deadline": str(disk.issue_deadline)},
        )
    # A manual entry stays until the disk itself proves the clear.
    if row.state != PeriodState.BY_HAND or state == PeriodState.CLEARED:
        row.state = state
    row.save()


def _record(action: Action, disk: TaxDisk, row: DiskPeriod, data: dict[str, Any]) -> None:
    audit.record(action, disk, company_id=disk.company_id, data={"period": row.period, **data})


def handed_in(row: DiskPeriod) -> bool:
    """Whether the bureau's answer to our report of this period is recorded."""
    return Evidence.objects.filter(
        disk_period=row, kind="bureau", data__op="WLCB", counted=True
    ).exists()


def note_answer(row: DiskPeriod, operation: str, unit: str) -> None:
    """Take a recorded answer of the bureau into the row (locked by the caller)."""
    if operation == "WLCB":
        row.reported_by = By.US
        row.save(update_fields=["reported_by"])
    elif operation == "QLJSJGQR":
        row.units_to_confirm = [key for key in row.units_to_confirm if key != unit]
        row.save(update_fields=["units_to_confirm"])


def forget_unwritten(row: DiskPeriod) -> None:
    """A run ended and the disk is read back as not cleared: nothing of ours is to be confirmed,
    but for units that did move."""
    if row.state == PeriodState.CLEARED or not row.units_to_confirm or not row.control:
        return
    controls = parse_controls(row.control)
    period = Month.parse(row.period)
    row.units_to_confirm = [
        unit
        for unit in row.units_to_confirm
        if all(kind in controls and is_cleared(controls[kind], period) for kind in unit.split("+"))
    ]
    row.save(update_fields=["units_to_confirm"])
