"""The circuit breaker of a bureau address: opened by failures in a row or by hand, probed, closed.

The rows settle it, under their locks and by conditional updates; two at once do no harm. Lock
order: disk → run → pause → outage; whoever holds a pause takes runs by skipping. One entry in the
trail for each opening and closing, whatever the number of clients.
"""

from __future__ import annotations

import datetime as dt

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from agency import audit
from agency.access import agencies_pausing
from agency.choices import Action
from agency.errors import ServiceError
from agency.models import Bureau
from agency.scope import current_agency_id
from clearing import bell
from clearing.models import BureauOutage, BureauPause, Run
from clearing.selectors.stops import address_of
from clearing.states import Reason, RunState
from clearing.stops import PauseCause
from devices.protocol.catalogue.retries import BUREAU_DOWN, BUREAU_DOWN_LIMIT, PROBE

#: So many agencies that found an address down by themselves pause it for all.
AGENCIES_FOR_ALL = 3


def lock_address(agency_id: int, address: str) -> BureauPause:
    """The agency's row of an address, locked; made when it is not there."""
    row, _created = BureauPause.objects.get_or_create(agency_id=agency_id, address=address)
    return BureauPause.objects.select_for_update().get(pk=row.pk)


def note_call(run: Run, code: str, *, now: dt.datetime) -> None:
    """Take how a call to the bureau ended (``code`` "" for an answer) into the breaker.

    A refusal is an answer. While the breaker is open only the probe's word counts."""
    address = address_of(run)
    down = code in BUREAU_DOWN
    if not address or (not down and _quiet(address)):
        return
    row = lock_address(run.agency_id, address)
    if row.opened_at is not None:
        if row.probe_run_id == run.pk:
            _probed(row, down=down, now=now)
    elif not down:
        row.failures, row.last_failed = 0, None
        row.save(update_fields=["failures", "last_failed"])
    elif row.last_failed != run.pk:  # one client's trouble alone is not the bureau's
        row.failures, row.last_failed = row.failures + 1, run.pk
        row.save(update_fields=["failures", "last_failed"])
        if row.failures >= BUREAU_DOWN_LIMIT:
            open_pause(row, PauseCause.OWN, now=now, next_probe_at=_next(0, now))


def _quiet(address: str) -> bool:
    return not BureauPause.objects.filter(
        Q(failures__gt=0) | Q(opened_at__isnull=False), address=address
    ).exists()


def _next(probes: int, now: dt.datetime) -> dt.datetime:
    """When to let one run through: later after each probe that failed, and never for all at once.

    The factor of the environment's limits shortens it."""
    seconds = PROBE.pause(probes + 1, scale=settings.LIMITS_SCALE)
    return now + dt.timedelta(seconds=seconds)


def open_pause(
    row: BureauPause,
    cause: PauseCause,
    *,
    now: dt.datetime,
    next_probe_at: dt.datetime | None,
    by: str = "",
    note: str = "",
) -> None:
    """Open the locked breaker, with its one entry."""
    row.opened_at, row.cause, row.next_probe_at = now, cause, next_probe_at
    row.probes, row.probe_until, row.probe_run = 0, None, None
    row.paused_by, row.note = by[:100], note[:200]
    row.save()
    audit.record(
        Action.BUREAU_PAUSED,
        row,
        data={"cause": cause.value, "failures": row.failures, "note": row.note},
    )
    bell.wake_sweeper(row.agency_id)


def _probed(row: BureauPause, *, down: bool, now: dt.datetime) -> None:
    """What the probe found: closed, or open for longer. The outage follows it."""
    outage = BureauOutage.objects.filter(address=row.address, opened_at__isnull=False)
    if not down:
        outage.update(opened_at=None, next_probe_at=None, probe_until=None, closed_at=now)
        close_pause(row, now=now)
        return
    row.probes += 1
    row.probe_run, row.probe_until = None, None
    row.next_probe_at = _next(row.probes, now)
    row.save()
    outage.update(probes=row.probes, probe_until=None, next_probe_at=row.next_probe_at)


def close_pause(
    row: BureauPause, *, now: dt.datetime, by: str = "", note: str = "", idle: bool = False
) -> None:
    """Close the locked breaker, with its one entry; what waited for it may go on at once.

    ``idle``: not because the bureau answered, but because nothing is left that asks it."""
    cause = row.cause
    row.opened_at, row.next_probe_at, row.probe_until, row.probe_run = None, None, None, None
    row.failures, row.last_failed, row.probes, row.cause = 0, None, 0, ""
    row.paused_by, row.note = "", ""
    row.save()
    waiting = (
        Run.objects.select_for_update(skip_locked=True, of=("self",))
        .filter(disk__company__bureau__address=row.address)
        .filter(state=RunState.WAITING, reason=Reason.BUREAU)
        .values_list("pk", flat=True)
    )
    Run.objects.filter(pk__in=list(waiting)).update(next_try_at=now)
    data = {"cause": cause, "by": by, "note": note[:200], **({"idle": True} if idle else {})}
    audit.record(Action.BUREAU_RESUMED, row, data=data)
    bell.wake_sweeper(row.agency_id)


# -- by hand ------------------------------------------------------------------------------------


@transaction.atomic
def bureau_pause(*, address: str, note: str, by: str, now: dt.datetime) -> BureauPause:
    """Pause an address for this agency until somebody resumes it. ``now`` is real time.

    Raises ServiceError without a reason, and for an address of no bureau."""
    agency_id = current_agency_id()
    if not note.strip():
        raise ServiceError(_("请写明原因"))
    if agency_id is None or not address or not Bureau.objects.filter(address=address).exists():
        raise ServiceError(_("没有这个税局地址"))
    row = lock_address(agency_id, address)
    if row.opened_at is not None and row.cause == PauseCause.BY_HAND:
        raise ServiceError(_("这个税局已经人工暂停"))
    open_pause(row, PauseCause.BY_HAND, now=now, next_probe_at=None, by=by, note=note.strip())
    return row


@transaction.atomic
def bureau_resume(*, address: str, note: str, by: str, now: dt.datetime) -> bool:
    """End a pause by hand; whether work goes on. Where several agencies found the bureau down, one
    run tries at once instead of all. Raises ServiceError without a reason or a pause."""
    if not note.strip():
        raise ServiceError(_("请写明原因"))
    row = (
        BureauPause.objects.select_for_update()
        .filter(address=address, opened_at__isnull=False)
        .first()
    )
    if row is None:
        raise ServiceError(_("这个税局没有暂停"))
    outage = BureauOutage.objects.filter(address=address, opened_at__isnull=False)
    if outage.update(next_probe_at=now):
        row.cause = PauseCause.OTHERS
        row.paused_by, row.note, row.next_probe_at = "", "", now
        row.save()
        audit.record(Action.BUREAU_RESUMED, row, data={"cause": "", "by": by, "probe": True})
        bell.wake_sweeper(row.agency_id)
        return False
    close_pause(row, now=now, by=by, note=note.strip())
    return True


# -- seen by several agencies -------------------------------------------------------------------


def note_outages(*, now: dt.datetime) -> None:
    """Open an outage that this agency is one of three to see; end pauses that an outage's end has
    answered; take a running outage over, so that this agency has its one notice."""
    outages = {outage.address: outage for outage in BureauOutage.objects.all()}
    rows = BureauPause.objects.select_for_update(skip_locked=True).order_by("pk")
    for row in rows.filter(opened_at__isnull=False).exclude(cause=PauseCause.BY_HAND):
        outage = outages.get(row.address)
        opened = row.opened_at or now
        if outage is not None and outage.opened_at is not None:
            continue
        closed = outage.closed_at if outage is not None else None
        if (closed is not None and opened < closed) or row.cause == PauseCause.OTHERS:
            close_pause(row, now=now)
        elif agencies_pausing(row.address, closed or dt.datetime.min.replace(tzinfo=dt.UTC)) >= (
            AGENCIES_FOR_ALL
        ):
            _open_outage(row, now)
    _follow_outages([each for each in outages.values() if each.opened_at is not None], now)


def _open_outage(row: BureauPause, now: dt.datetime) -> None:
    BureauOutage.objects.get_or_create(address=row.address)
    BureauOutage.objects.filter(address=row.address, opened_at__isnull=True).update(
        opened_at=now,
        next_probe_at=row.next_probe_at,
        probe_until=row.probe_until,
        probes=row.probes,
        closed_at=None,
    )


def _follow_outages(outages: list[BureauOutage], now: dt.datetime) -> None:
    """Where this agency has work at an address that others found down, it is paused here too."""
    for outage in outages:
        work = Run.objects.filter(
            state__in=[RunState.QUEUED, RunState.WAITING],
            disk__company__bureau__address=outage.address,
        )
        agency_id = work.values_list("agency_id", flat=True).first()
        if agency_id is None:
            continue
        row = BureauPause.objects.filter(address=outage.address).first()
        if row is not None and row.opened_at is not None:
            if row.cause != PauseCause.BY_HAND and row.next_probe_at != outage.next_probe_at:
                BureauPause.objects.filter(pk=row.pk, opened_at=row.opened_at).update(
                    next_probe_at=outage.next_probe_at
                )
            continue
        row = lock_address(agency_id, outage.address)
        if row.opened_at is None:
            open_pause(row, PauseCause.OTHERS, now=now, next_probe_at=outage.next_probe_at)


def take_probe(row: BureauPause, *, now: dt.datetime, within: dt.timedelta) -> bool:
    """Whether this agency may let one run through: of all agencies only one at a time, where the
    address is down for all."""
    outage = BureauOutage.objects.filter(address=row.address, opened_at__isnull=False)
    if not outage.exists():
        return True
    free = Q(probe_until__isnull=True) | Q(probe_until__lt=now)
    return outage.filter(free, next_probe_at__lte=now).update(probe_until=now + within) == 1


def give_probe_back(row: BureauPause) -> None:
    """The probe ended without a word of the bureau: another run may be let through."""
    BureauOutage.objects.filter(
        address=row.address, opened_at__isnull=False, probe_until=row.probe_until
    ).update(probe_until=None)
    row.probe_run, row.probe_until = None, None
    row.save(update_fields=["probe_run", "probe_until"])
