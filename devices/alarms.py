"""Alarms: what must not be, derived from what the reader machines see now; nothing is stored.

A disk whose own tax id is not the one of the company it is registered for, and a disk that two
machines show at once. (The trail notes each once, ``devices.services.presence``.)
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from agency.models import Company
from devices.choices import AlarmKind
from devices.models import Slot, TaxDisk
from devices.selectors import fresh_slots


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm. ``disk`` and ``company``: the record of that number, where there is one.

    ``tax_id``: what the disk says of itself; ``owner``: the agency's company of that tax id.
    ``newest``: the slot that brought it about."""

    kind: AlarmKind
    newest: Slot
    places: tuple[str, ...]
    disk: TaxDisk | None = None
    tax_id: str = ""
    owner: Company | None = None

    @property
    def device_no(self) -> str:
        return self.newest.device_no

    @property
    def company(self) -> Company | None:
        return self.disk.company if self.disk is not None else None

    @property
    def title(self) -> str:
        return str(self.kind.label)

    @property
    def text(self) -> str:
        """What happened and what to do, in one or two sentences."""
        if self.kind == AlarmKind.TWO_MACHINES:
            return _("一只税盘不可能同时插在两处。在查清之前两台读盘机都不会办理它；请检查读盘机。")
        words = {
            "tax_id": self.tax_id,
            "company": self.company.short_name if self.company else "",
            "owner": self.owner.short_name if self.owner else "",
        }
        if self.owner is None:
            return (
                _("盘上税号 %(tax_id)s 与登记客户“%(company)s”不符。系统不会写这只盘；请核对登记。")
                % words
            )
        return (
            _(
                "盘上税号 %(tax_id)s 属于客户“%(owner)s”，却登记在“%(company)s”名下。"
                "系统不会写这只盘；请核对登记。"
            )
            % words
        )


def alarms(now: dt.datetime) -> list[Alarm]:
    """All alarms of the agency (at most three queries); ``now`` is real time."""
    return alarms_among(list(fresh_slots(now).exclude(device_no="").select_related("machine")))


def alarms_for(companies: QuerySet[Company], now: dt.datetime, *, everything: bool) -> list[Alarm]:
    """Those that concern ``companies``: as the one on record, or as the one whose tax id it is.

    ``everything``: for those who see all companies; then a disk of nobody is theirs too."""
    found = alarms(now)
    if everything or not found:
        return found
    concerned = {
        company.pk for alarm in found for company in (alarm.company, alarm.owner) if company
    }
    mine = set(companies.filter(pk__in=concerned).values_list("pk", flat=True))
    return [
        alarm
        for alarm in found
        if any(company and company.pk in mine for company in (alarm.company, alarm.owner))
    ]


def alarms_among(slots: Sequence[Slot]) -> list[Alarm]:
    """Alarms among fresh slots that hold a disk; each slot with its machine loaded."""
    by_number: dict[str, list[Slot]] = defaultdict(list)
    for slot in slots:
        by_number[slot.device_no].append(slot)
    disks = {
        disk.device_no: disk
        for disk in TaxDisk.objects.select_related("company").filter(device_no__in=list(by_number))
    }
    strangers = [
        (slot, disk)
        for slot in slots
        if slot.tax_id
        and (disk := disks.get(slot.device_no)) is not None
        and disk.company.tax_id != slot.tax_id
    ]
    owners = {}
    if strangers:
        tax_ids = {slot.tax_id for slot, _disk in strangers}
        owners = {c.tax_id: c for c in Company.objects.filter(tax_id__in=tax_ids)}
    found = [
        Alarm(AlarmKind.TAX_ID, slot, (place_of(slot),), disk, slot.tax_id, owners.get(slot.tax_id))
        for slot, disk in strangers
    ]
    for number, places in by_number.items():
        if len({slot.machine_id for slot in places}) > 1:
            ordered = sorted(places, key=lambda slot: (slot.since, slot.pk))
            found.append(
                Alarm(
                    AlarmKind.TWO_MACHINES,
                    ordered[-1],
                    tuple(place_of(slot) for slot in ordered),
                    disks.get(number),
                )
            )
    return found


def place_of(slot: Slot) -> str:
    """Where a slot is, in words: machine and slot."""
    return f"{slot.machine.name} {slot.name}"
