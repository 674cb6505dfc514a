"""Tasks of the server's worker: thin; the work is in services, the truth in the database."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from functools import partial

from celery import shared_task
from celery.exceptions import SoftTimeLimitExceeded
from django.db import DatabaseError, connection

from agency.access import due_agencies
from agency.clock import now, real_now
from agency.models import Agency
from agency.scope import agency_scope
from agency.selectors import every_agency
from clearing.services import retention
from clearing.services import sweep as sweeping
from clearing.services.backup_check import check_agency

log = logging.getLogger(__name__)

SWEEP_SECONDS = 2.0
# What one agency may keep the sweeper waiting; the other agencies' turn comes then.
_LOCK_MS, _STATEMENT_MS = 2_000, 10_000
# Of each agency's backups, so many are looked at every night, those not seen for longest first.
CHECKED_A_NIGHT = 500


class RoundBroken(Exception):
    """A round went past these agencies because of a defect; which one stands in the log."""


def _round(agencies: Iterable[int], work: Callable[[int], None]) -> None:
    """``work`` for each agency: one agency's trouble is not the others', and the next round tries
    again. Raises RoundBroken at the end where it was none that passes by itself."""
    broken = []
    for agency_id in agencies:
        try:
            work(agency_id)
        except SoftTimeLimitExceeded:  # the round's own
            raise
        except (DatabaseError, OSError):
            log.exception("agency %s was passed over", agency_id)
        except Exception:
            log.exception("agency %s was passed over because of a defect", agency_id)
            broken.append(agency_id)
    if broken:
        raise RoundBroken(sorted(broken))


@shared_task(name="clearing.sweep", ignore_result=True)
def sweep() -> None:
    """One round over all agencies that have something open, one transaction each."""
    leases = sweeping.tick(real_now=real_now(), every=SWEEP_SECONDS)
    due = due_agencies("sweep")
    random.shuffle(due)  # nobody is always last
    _round(due, partial(_sweep, leases=leases))


@shared_task(name="clearing.sweep_agency", ignore_result=True)
def sweep_agency(agency_id: int) -> None:
    """One agency, because something happened there; the timer's round comes all the same."""
    leases = sweeping.may_take_leases(real_now=real_now(), every=SWEEP_SECONDS)
    _round([agency_id], partial(_sweep, leases=leases))


def _sweep(agency_id: int, *, leases: bool) -> None:
    with agency_scope(agency_id):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT set_config('lock_timeout', %s, true),"
                " set_config('statement_timeout', %s, true)",
                [str(_LOCK_MS), str(_STATEMENT_MS)],
            )
        sweeping.sweep(now=now(), real_now=real_now(), leases=leases)


@shared_task(
    name="clearing.keep_backups",
    ignore_result=True,
    soft_time_limit=3 * 3600,
    time_limit=3 * 3600 + 600,
)
def keep_backups() -> None:
    """Every night: delete what is past its time and not held, and look at some of the rest."""
    _round(every_agency(), _keep_backups)


def _keep_backups(agency_id: int) -> None:
    agency = Agency.objects.get(pk=agency_id)
    with agency_scope(agency_id):
        retention.close_expired(agency=agency, now=real_now())
    with agency_scope(agency_id):
        retention.remove_closed()
    result = check_agency(agency_id, now=real_now, most=CHECKED_A_NIGHT)
    if not result.ok:
        log.error("agency %s: %s backups are not whole", agency_id, len(result.bad))
