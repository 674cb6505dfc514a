"""What machines see: their slots, disks recognised at first sight, alarms noted once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from agency import audit
from agency.choices import Action
from devices.alarms import Alarm, alarms_among
from devices.choices import AlarmKind
from devices.models import Machine, Slot, TaxDisk
from devices.selectors import PRESENCE_AGE, fresh_slots

_ALARM_ACTIONS = {
    AlarmKind.TAX_ID: Action.DISK_ALARM_TAX_ID,
    AlarmKind.TWO_MACHINES: Action.DISK_ALARM_TWO_MACHINES,
}


@dataclass(frozen=True, slots=True)
class SlotReport:
    """One slot of a presence report."""

    name: str
    device_no: str = ""
    tax_id: str = ""
    kind: str = ""
    terminal_no: int | None = None
    problem: str = ""


@transaction.atomic
def presence_note(
    *, machine: Machine, slots: Sequence[SlotReport], version: str, now: dt.datetime
) -> bool:
    """Replace what is known of the machine's slots by its report; ``now`` is real time. Returns
    whether it tells anything new: another disk somewhere, or a machine that was away.

    A disk without a known number is bound when its tax id leaves no choice (:func:`_bind`). An
    alarm enters the trail when it first appears, not with every report."""
    old = {slot.name: slot for slot in Slot.objects.filter(machine=machine)}
    rows = []
    for report in slots:
        before = old.get(report.name)
        same = before is not None and before.device_no == report.device_no
        rows.append(
            Slot(
                agency_id=machine.agency_id,
                machine=machine,
                name=report.name,
                device_no=report.device_no,
                tax_id=report.tax_id,
                kind=report.kind,
                terminal_no=report.terminal_no,
                problem=report.problem,
                alarms=before.alarms if before is not None and same else "",
                seen_at=now,
                since=before.since if before is not None and same else now,
            )
        )
    Slot.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["agency", "machine", "name"],
        update_fields=[
            "device_no",
            "tax_id",
            "kind",
            "terminal_no",
            "problem",
            "alarms",
            "seen_at",
            "since",
        ],
    )
    Slot.objects.filter(machine=machine).exclude(name__in=[s.name for s in slots]).delete()
    Machine.objects.filter(pk=machine.pk).update(seen_at=now, version=version[:20])
    _bind([report for report in slots if report.device_no and report.tax_id])
    _note_alarms(machine, now)
    away = machine.seen_at is None or machine.seen_at < now - PRESENCE_AGE
    return away or {_told(slot) for slot in old.values()} != {_told(report) for report in slots}


def _told(slot: Slot | SlotReport) -> tuple[str, str, str]:
    return slot.name, slot.device_no, slot.problem


def _bind(reports: Sequence[SlotReport]) -> None:
    """Give a disk its number at first sight: its kind and tax id match exactly one unbound disk
    (and the machine number, where the disk says it)."""
    known = set(
        TaxDisk.objects.filter(device_no__in=[r.device_no for r in reports]).values_list(
            "device_no", flat=True
        )
    )
    for report in reports:
        if report.device_no in known:
            continue
        unbound = TaxDisk.objects.filter(
            device_no__isnull=True, company__tax_id=report.tax_id, kind=report.kind
        )
        if report.terminal_no is not None:
            unbound = unbound.filter(terminal_no=report.terminal_no)
        candidates = list(unbound[:2])
        if len(candidates) == 1:
            disk = candidates[0]
            TaxDisk.objects.filter(pk=disk.pk, device_no__isnull=True).update(
                device_no=report.device_no
            )
            disk.device_no = report.device_no
            audit.record(Action.DISK_BOUND, disk, company_id=disk.company_id)


def _note_alarms(machine: Machine, now: dt.datetime) -> None:
    """Write alarms of this machine's slots into the trail, each once per insertion.

    Of two machines that show the same disk, the one that saw it later writes the entry; no row of
    another machine is touched (two reports at once must not wait for each other)."""
    mine = Slot.objects.filter(machine=machine).exclude(device_no="")
    slots = list(
        fresh_slots(now).filter(device_no__in=mine.values("device_no")).select_related("machine")
    )
    found = alarms_among(slots)
    for slot in slots:
        if slot.machine_id != machine.pk:
            continue
        mine_now = {alarm.kind: alarm for alarm in found if alarm.newest.pk == slot.pk}
        noted = set(slot.alarms.split())
        if fresh := mine_now.keys() - noted:
            for kind in sorted(fresh):
                _note(mine_now[kind])
            slot.alarms = " ".join(sorted(noted | fresh))
            slot.save(update_fields=["alarms"])


def _note(alarm: Alarm) -> None:
    audit.record(
        _ALARM_ACTIONS[alarm.kind],
        alarm.disk,
        company_id=alarm.company.pk if alarm.company else None,
        data={
            "device_no": alarm.device_no,
            "places": list(alarm.places),
            "tax_id_on_disk": alarm.tax_id,
        },
    )
