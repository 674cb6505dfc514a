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


def sweep_parked(*, now: dt.datetime) -> None:
    """One round for the agency of the running scope. ``now`` is real time."""
    note_outages(now=now)
    _probe(now)
    addresses = paused_addresses()
    at = at_paused(addresses) if addresses else Q(pk__in=[])
    _park(at, now)
    for run in _runs(~at, state=RunState.WAITING, reason=Reason.BUREAU):
        if run.next_try_at is None or run.next_try_at <= now:
            move(run, RunState.QUEUED, now=now, code=run.code)
    for run in _runs(WRITES & Q(is_held()), state=RunState.QUEUED):
        move(run, RunState.WAITING, now=now, reason=Reason.HOLD)
    for run in _runs(~Q(is_held()), state=RunState.WAITING, reason=Reason.HOLD):
        move(run, RunState.QUEUED, now=now)


def _runs(condition: Q, **which: object) -> list[Run]:
    return list(
        Run.objects.select_for_update(skip_locked=True, of=("self",))
        .filter(condition, **which)
        .order_by("pk")[:500]
    )


def _park(at: Q, now: dt.datetime) -> None:
    """Runs at a paused address say that they wait for it, and until when at least."""
    nexts = dict(
        BureauPause.objects.filter(opened_at__isnull=False).values_list("address", "next_probe_at")
    )
    for run in _runs(WRITES & at, state=RunState.QUEUED):
        address = run.disk.company.bureau.address if run.disk.company.bureau else ""
        next_try_at = nexts.get(address)
        move(run, RunState.WAITING, now=now, reason=Reason.BUREAU, next_try_at=next_try_at)
    for run in _runs(at, state=RunState.WAITING, reason=Reason.BUREAU):
        address = run.disk.company.bureau.address if run.disk.company.bureau else ""
        if run.next_try_at != nexts.get(address):
            run.next_try_at = nexts.get(address)
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
