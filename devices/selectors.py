"""Reading in the device layer: which disk is where, right now."""

from __future__ import annotations

import datetime as dt

from django.db.models import Exists, OuterRef, QuerySet

from devices.models import Slot

# How old a presence report may be and still say where a disk is; real seconds.
PRESENCE_AGE = dt.timedelta(seconds=45)


def present_slots(now: dt.datetime) -> QuerySet[Slot]:
    """Slots of fresh reports that hold an identified disk, of machines that are not revoked.

    ``now`` is real time. A disk that two machines claim to hold is with neither."""
    fresh = Slot.objects.filter(
        seen_at__gte=now - PRESENCE_AGE, machine__revoked_at__isnull=True
    ).exclude(device_no="")
    elsewhere = Slot.objects.filter(
        seen_at__gte=now - PRESENCE_AGE, device_no=OuterRef("device_no")
    ).exclude(machine=OuterRef("machine"))
    return fresh.filter(~Exists(elsewhere), problem="")
