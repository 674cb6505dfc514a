"""Batches (批次): how far one click has come, restricted to what the viewer may see."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from agency.models import Company
from clearing.models import Batch, BatchRun, Run
from clearing.states import BUSY, COLOURS, ENDED, RunState

#: Fewer ended runs than this say nothing about how long the rest will take.
ENOUGH = 3
#: A longer rest than this is no estimate: the work has stalled.
TOO_LONG = dt.timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How many runs of a batch are in one state."""

    state: RunState
    count: int

    @property
    def label(self) -> str:
        return str(self.state.label)

    @property
    def colour(self) -> str:
        return COLOURS[self.state]


@dataclass(frozen=True, slots=True)
class Progress:
    """A batch in numbers: ``total`` = ``ended`` + ``busy`` + ``waiting`` (+ unknown)."""

    batch: Batch
    outcomes: list[Outcome]
    total: int
    ended: int
    busy: int
    waiting: int
    remaining: dt.timedelta | None
    to_verify: int = 0

    @property
    def running(self) -> bool:
        return self.busy > 0

    @property
    def remaining_text(self) -> str:
        """An honest word about the time left: none, not yet known, or whole minutes, rounded up.

        Waiting runs are not in it: nobody knows when a disk is plugged in."""
        if not self.busy:
            return ""
        if self.remaining is None:
            return _("办过几户后才能估算剩余时间")
        if self.remaining > TOO_LONG:
            return _("进展很慢，暂时无法估算剩余时间")
        minutes = max(1, -int(-self.remaining.total_seconds() // 60))
        return ngettext("约还需 %(n)s 分钟", "约还需 %(n)s 分钟", minutes) % {"n": minutes}


def visible_batches(companies: QuerySet[Company]) -> QuerySet[Batch]:
    """Batches with at least one run of ``companies``, newest first."""
    entries = BatchRun.objects.filter(batch=OuterRef("pk"), run__disk__company__in=companies)
    return Batch.objects.filter(Exists(entries)).order_by("-id")


def running_batch(companies: QuerySet[Company]) -> Batch | None:
    """The newest batch that still works on something visible."""
    busy = BatchRun.objects.filter(
        batch=OuterRef("pk"), run__disk__company__in=companies, run__state__in=sorted(BUSY)
    )
    return Batch.objects.filter(Exists(busy), ended_at__isnull=True).order_by("-id").first()


def progress(batch: Batch, companies: QuerySet[Company], now: dt.datetime) -> Progress:
    """Counts by state and the time left; ``now`` is real time, as the batch's own times are."""
    counts = Counter(
        {
            RunState(state): count
            for state, count in BatchRun.objects.filter(
                batch=batch, run__disk__company__in=companies
            )
            .values_list("run__state")
            .annotate(Count("id"))
        }
    )
    ended = sum(counts[state] for state in ENDED)
    busy = counts[RunState.QUEUED] + counts[RunState.CLAIMED]
    remaining = None
    if ended >= ENOUGH and busy:
        remaining = (now - batch.created_at) / ended * busy
    return Progress(
        batch=batch,
        outcomes=_outcomes(counts),
        total=sum(counts.values()),
        ended=ended,
        busy=busy,
        waiting=counts[RunState.WAITING] + counts[RunState.UNKNOWN],
        to_verify=counts[RunState.UNKNOWN],
        remaining=remaining,
    )


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A batch in the list."""

    batch: Batch
    outcomes: list[Outcome]
    total: int


def list_batches(batches: list[Batch], companies: QuerySet[Company]) -> list[BatchLine]:
    """The batches with their counts (one query for all)."""
    counts: dict[int, Counter[RunState]] = {batch.pk: Counter() for batch in batches}
    for batch_id, state, count in (
        BatchRun.objects.filter(batch__in=batches, run__disk__company__in=companies)
        .values_list("batch_id", "run__state")
        .annotate(Count("id"))
    ):
        counts[batch_id][RunState(state)] += count
    return [
        BatchLine(batch, _outcomes(counts[batch.pk]), sum(counts[batch.pk].values()))
        for batch in batches
    ]


def _outcomes(counts: Counter[RunState]) -> list[Outcome]:
    return [Outcome(state, counts[state]) for state in RunState if counts[state]]


def runs_of(batch: Batch, companies: QuerySet[Company]) -> QuerySet[Run]:
    """The visible runs of a batch: unended and failed ones first."""
    return (
        Run.objects.filter(entries__batch=batch, disk__company__in=companies)
        .select_related("disk", "disk__company")
        .order_by("ended_at", "id")
    )
