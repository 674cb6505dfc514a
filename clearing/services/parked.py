"""The sweeper's part in pauses and holds: who is kept back, who probes, who goes on.

Runs are taken by skipping what others hold; a pause likewise. Nothing here touches a claimed run:
that ends at its next request for permission.
"""

from __future__ import annotations

import datetime as dt

from django.db.models import Q

from clearing.models import BureauPause, Run
from clearing.selectors.stops import (
    WRITES,
    able_to_probe,
    at_paused,
    is_held,
    paused_addresses,
)
from clearing.services.claims import limits_now
from clearing.services.moves import move
from clearing.services.pauses import close_pause, give_probe_back, note_outages, take_probe
from clearing.states import OPEN, Reason, RunState
from clearing.stops import PauseCause

#: So many runs of one kind are moved in one round: the round of an agency stays short.
AT_ONCE = 500


def sweep_parked(*, now: dt.datetime) -> None:
    """One round for the agency of the running scope. ``now`` is real time."""
    note_outages(now=now)
    _probe(now)
    addresses = paused_addresses()
    _park(addresses, now)
    at = at_paused(addresses) if addresses else Q(pk__in=[])
    over = Q(next_try_at__isnull=True) | Q(next_try_at__lte=now)
    for run in locked_runs(~at & over, state=RunState.WAITING, reason=Reason.BUREAU):
        move(run, RunState.QUEUED, now=now, code=run.code)
    for run in locked_runs(WRITES & Q(is_held()), state=RunState.QUEUED):
        move(run, RunState.WAITING, now=now, reason=Reason.HOLD)
    for run in locked_runs(~Q(is_held()), state=RunState.WAITING, reason=Reason.HOLD):
        move(run, RunState.QUEUED, now=now)


def locked_runs(condition: Q, **which: object) -> list[Run]:
    """Runs that nobody else holds, locked: at most :data:`AT_ONCE`. The order disk → run is kept
    by skipping.

    Ask only for runs that are then changed so that they are not found again: the rest come with
    the next round, and none is kept from its turn by those before it."""
    return list(
        Run.objects.select_for_update(skip_locked=True, of=("self",))
        .select_related("disk")
        .filter(condition, **which)
        .order_by("pk")[:AT_ONCE]
    )


def _park(addresses: list[str], now: dt.datetime) -> None:
    """Runs at a paused address say that they wait for it, and until when at least."""
    nexts = dict(
        BureauPause.objects.filter(opened_at__isnull=False).values_list("address", "next_probe_at")
    )
    for address in addresses:
        at, until = at_paused([address]), nexts.get(address)
        for run in locked_runs(WRITES & at, state=RunState.QUEUED):
            move(run, RunState.WAITING, now=now, reason=Reason.BUREAU, next_try_at=until)
        other = ~Q(next_try_at=until) if until is not None else Q(next_try_at__isnull=False)
        for run in locked_runs(at & other, state=RunState.WAITING, reason=Reason.BUREAU):
            run.next_try_at = until
            run.save(update_fields=["next_try_at"])


def _probe(now: dt.datetime) -> None:
    """Let exactly one run through where a pause is due for it."""
    limits = limits_now()
    within = dt.timedelta(seconds=limits.run + limits.lease)
    rows = BureauPause.objects.select_for_update(skip_locked=True, of=("self",)).filter(
        opened_at__isnull=False, next_probe_at__lte=now
    )
    for row in rows.exclude(cause=PauseCause.BY_HAND).order_by("pk"):
        if _probing(row, now):
            continue
        if row.probe_run_id is not None:
            give_probe_back(row)
        run = _candidate(row.address, now)
        if run is None and not _asked(row.address):
            # Nobody is left who could find out, and nobody who waits: the next work will.
            close_pause(row, now=now, idle=True)
        if run is None or not take_probe(row, now=now, within=within):
            continue
        row.probe_run, row.probe_until = run, now + within
        row.save(update_fields=["probe_run", "probe_until"])
        if run.state == RunState.WAITING:
            move(run, RunState.QUEUED, now=now, code=run.code)


def _probing(row: BureauPause, now: dt.datetime) -> bool:
    return (
        row.probe_run is not None
        and row.probe_run.state in {RunState.QUEUED, RunState.CLAIMED}
        and row.probe_until is not None
        and row.probe_until > now
    )


def _candidate(address: str, now: dt.datetime) -> Run | None:
    """A run that would call the bureau and whose disk is there: the longest tried go last."""
    return (
        able_to_probe(now)
        .select_for_update(skip_locked=True, of=("self",))
        .filter(disk__company__bureau__address=address)
        .order_by("retries", "pk")
        .first()
    )


def _asked(address: str) -> bool:
    """Whether any open run would ask this bureau some day."""
    return Run.objects.filter(
        WRITES, state__in=OPEN, disk__company__bureau__address=address
    ).exists()
