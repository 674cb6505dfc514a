"""Reading in the device layer: which disk is where, right now; machines; disks nobody knows."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _

from agency.models import Company
from devices.choices import DiskKind
from devices.models import Machine, Slot, TaxDisk
from devices.protocol.catalogue import entry_of
from devices.protocol.failures import Code

# How old a presence report may be and still say where a disk is; real seconds.
PRESENCE_AGE = dt.timedelta(seconds=45)


def machines_online(now: dt.datetime) -> QuerySet[Machine]:
    """Machines that are not revoked and reported lately. ``now`` is real time."""
    return Machine.objects.filter(revoked_at__isnull=True, seen_at__gte=now - PRESENCE_AGE)


def fresh_slots(now: dt.datetime) -> QuerySet[Slot]:
    """Slots of fresh reports, of machines that are not revoked. ``now`` is real time."""
    return Slot.objects.filter(seen_at__gte=now - PRESENCE_AGE, machine__revoked_at__isnull=True)


def present_slots(now: dt.datetime) -> QuerySet[Slot]:
    """Slots of fresh reports that hold an identified disk, of machines that are not revoked.

    ``now`` is real time. A disk that two machines claim to hold is with neither."""
    elsewhere = Slot.objects.filter(
        seen_at__gte=now - PRESENCE_AGE, device_no=OuterRef("device_no")
    ).exclude(machine=OuterRef("machine"))
    return fresh_slots(now).exclude(device_no="").filter(~Exists(elsewhere), problem="")


def present_numbers(now: dt.datetime, machine: Machine | None = None) -> list[str]:
    """The device numbers of :func:`present_slots`, of one machine where it is given.

    For the conditions of larger queries: as a sub-query, a planner that knows little of the tables
    yet runs it once for each of their rows, and hundreds of disks take seconds."""
    slots = present_slots(now)
    if machine is not None:
        slots = slots.filter(machine=machine)
    return list(slots.values_list("device_no", flat=True))


@dataclass(frozen=True, slots=True)
class UnknownDisk:
    """A disk in a slot that no record of the agency has (未登记税盘).

    ``company``: the agency's company of the tax id that the disk tells, where it tells one;
    ``theirs``: there is one, but it is not shown to who asks."""

    slot: Slot
    company: Company | None
    theirs: bool = False

    @property
    def kind_text(self) -> str:
        known = self.slot.kind in DiskKind.values
        return str(DiskKind(self.slot.kind).label) if known else ""


def unknown_slots(now: dt.datetime) -> QuerySet[Slot]:
    """Slots with a readable disk whose number stands nowhere; a disk on two machines is an alarm
    and not offered."""
    known = TaxDisk.objects.filter(device_no=OuterRef("device_no"))
    return present_slots(now).filter(~Exists(known))


def unknown_disks(now: dt.datetime, companies: QuerySet[Company]) -> list[UnknownDisk]:
    """The disks to offer for adding, newest insertion first (three queries).

    ``companies``: those that who asks may see."""
    slots = list(unknown_slots(now).select_related("machine").order_by("-since", "pk"))
    tax_ids = {slot.tax_id for slot in slots if slot.tax_id}
    owners = {c.tax_id: c for c in companies.filter(tax_id__in=tax_ids)}
    taken = Company.objects.filter(tax_id__in=tax_ids - set(owners))
    theirs = set(taken.values_list("tax_id", flat=True))
    return [UnknownDisk(s, owners.get(s.tax_id), theirs=s.tax_id in theirs) for s in slots]


@dataclass(frozen=True, slots=True)
class SlotView:
    """A slot as the machine last told it, with the record of the disk in it."""

    slot: Slot
    disk: TaxDisk | None

    @property
    def problem_text(self) -> str:
        """Why what is plugged in cannot be used; the code itself where it is none of ours."""
        try:
            return _(entry_of(Code(self.slot.problem)).title)
        except ValueError:
            return self.slot.problem


@dataclass(frozen=True, slots=True)
class MachineView:
    """A machine with its slots; ``held``: disks whose new PIN it has not delivered yet."""

    machine: Machine
    online: bool
    slots: list[SlotView]
    held: list[TaxDisk]

    @property
    def occupied(self) -> int:
        return sum(bool(view.slot.device_no) for view in self.slots)


def machine_views(now: dt.datetime) -> list[MachineView]:
    """The agency's machines, those in use first; four queries whatever their number."""
    machines = list(Machine.objects.order_by("name", "pk"))
    slots = list(Slot.objects.order_by("machine_id", "name"))
    numbers = {slot.device_no for slot in slots if slot.device_no}
    disks = {
        disk.device_no: disk
        for disk in TaxDisk.objects.select_related("company").filter(device_no__in=numbers)
    }
    held: dict[int | None, list[TaxDisk]] = defaultdict(list)
    for disk in TaxDisk.objects.select_related("company").filter(pin_intent_machine__isnull=False):
        held[disk.pin_intent_machine_id].append(disk)
    seats: dict[int, list[SlotView]] = defaultdict(list)
    for slot in slots:
        seats[slot.machine_id].append(SlotView(slot, disks.get(slot.device_no)))
    views = [
        MachineView(
            machine,
            machine.revoked_at is None
            and machine.seen_at is not None
            and machine.seen_at >= now - PRESENCE_AGE,
            seats[machine.pk],
            held[machine.pk],
        )
        for machine in machines
    ]
    return sorted(views, key=lambda view: view.machine.revoked_at is not None)
