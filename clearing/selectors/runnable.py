"""Which runs a machine may start now: one rule for the claim, the bell and the presence answer."""

from __future__ import annotations

import datetime as dt

from django.db.models import F, Q, QuerySet

from clearing.models import Run
from clearing.states import RunState
from devices.models import Machine
from devices.selectors import present_slots

# At most so many runs at once at one bureau address.
BUREAU_PARALLEL = 8


def runnable_of(machine: Machine, now: dt.datetime) -> QuerySet[Run]:
    """Runs that ``machine`` may claim, in the order of claims; ``now`` is real time.

    A run whose outcome is unknown may be claimed like a queued one: its claim reads first."""
    here = present_slots(now).filter(machine=machine).values("device_no")
    busy = (
        Run.objects.filter(state=RunState.CLAIMED)
        .values_list("disk__company__bureau_id", flat=True)
        .order_by()
    )
    counts: dict[int | None, int] = {}
    for bureau_id in busy:
        counts[bureau_id] = counts.get(bureau_id, 0) + 1
    full = [key for key, count in counts.items() if key is not None and count >= BUREAU_PARALLEL]
    runs = (
        Run.objects.filter(state__in=[RunState.QUEUED, RunState.UNKNOWN])
        .filter(disk__device_no__in=here)
        .filter(Q(disk__pin_intent_machine__isnull=True) | Q(disk__pin_intent_machine=machine))
        .exclude(disk__company__bureau_id__in=full)
    )
    if not machine.agency.practice:
        # Nothing simulated outside a practice agency.
        runs = runs.filter(disk__company__bureau__simulated=False)
        if machine.simulated:
            return runs.none()
    return runs.order_by("priority", F("disk__issue_deadline").asc(nulls_last=True), "turn", "pk")
