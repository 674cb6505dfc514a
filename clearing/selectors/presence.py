"""Which disk is plugged in where, right now, and what one that is nowhere waits for."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db.models import Q

from agency.clock import real_now
from devices.models import Slot
from devices.selectors import fresh_slots, machines_online, present_slots


def places_of(device_numbers: Iterable[str]) -> dict[str, str]:
    """Device number → "machine slot", for those of fresh presence reports (one query)."""
    slots = present_slots(real_now()).filter(device_no__in=[no for no in device_numbers if no])
    return {
        slot.device_no: f"{slot.machine.name} {slot.name}"
        for slot in slots.select_related("machine")
    }


def machine_off(now: dt.datetime, device_no: str = "disk__device_no") -> Q:
    """For a query over disks that are not here: whether each waits for a machine (``machine``) and
    not for somebody to plug it in (``disk``). ``now`` is real time.

    That is so where the machine that held it last is off, and for all while no machine is on."""
    if not machines_online(now).exists():
        return Q(pk__isnull=False)
    seen = Slot.objects.filter(machine__revoked_at__isnull=True).exclude(device_no="")
    off = set(seen.values_list("device_no", flat=True))
    off -= set(fresh_slots(now).values_list("device_no", flat=True))
    return Q(**{f"{device_no}__in": off})
