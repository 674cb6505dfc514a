"""Which runs a machine may start now: one rule for the claim, the bell and the presence answer."""

from __future__ import annotations

import datetime as dt

from django.db.models import Count, F, Q, QuerySet

from clearing.models import Run
from clearing.selectors.stops import stopped_runs
from clearing.states import RunState
from devices.models import Machine
from devices.selectors import present_numbers

#: In doubt, a run is claimed for the read that settles it.
CLAIMABLE = (RunState.QUEUED, RunState.UNKNOWN)
# At most so many runs of an agency at once at one bureau address.
BUREAU_PARALLEL = 8


def full_addresses() -> list[str]:
    """Bureau addresses at which as many runs are claimed as may be."""
    claimed = Run.objects.filter(
        state=RunState.CLAIMED, disk__company__bureau__isnull=False
    ).values("disk__company__bureau__address")
    counts = claimed.annotate(n=Count("pk")).order_by().filter(n__gte=BUREAU_PARALLEL)
    return [row["disk__company__bureau__address"] for row in counts]


def runnable_of(machine: Machine, now: dt.datetime) -> QuerySet[Run]:
    """Runs that ``machine`` may claim, in the order of claims; ``now`` is real time.

    A run whose outcome is unknown may be claimed like a queued one: its claim reads first."""
    here = present_numbers(now, machine)
    runs = (
        Run.objects.filter(state__in=CLAIMABLE)
        .filter(disk__device_no__in=here)
        .filter(Q(disk__pin_intent_machine__isnull=True) | Q(disk__pin_intent_machine=machine))
        .exclude(disk__company__bureau__address__in=full_addresses())
        .exclude(Q(state=RunState.QUEUED) & Q(pk__in=stopped_runs().values("pk")))
    )
    if not machine.agency.practice:
        # Nothing simulated outside a practice agency; a read needs no bureau.
        bureau = Q(disk__company__bureau__isnull=True) | Q(disk__company__bureau__simulated=False)
        runs = runs.filter(bureau)
        if machine.simulated:
            return runs.none()
    return runs.order_by("priority", F("disk__issue_deadline").asc(nulls_last=True), "turn", "pk")
