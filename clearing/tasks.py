"""Tasks of the server's worker: thin; the work is in services, the truth in the database."""

from __future__ import annotations

import logging

from celery import shared_task
from django.db import DatabaseError

from agency.access import due_agencies
from agency.clock import now, real_now
from agency.scope import agency_scope
from clearing.services import sweep as sweeping

log = logging.getLogger(__name__)

SWEEP_SECONDS = 2.0


@shared_task(name="clearing.sweep", ignore_result=True)
def sweep() -> None:
    """One round over all agencies that have something open, one transaction each."""
    leases = sweeping.tick(real_now=real_now(), every=SWEEP_SECONDS)
    for agency_id in due_agencies("sweep"):
        try:
            with agency_scope(agency_id):
                sweeping.sweep(agency_id=agency_id, now=now(), real_now=real_now(), leases=leases)
        except DatabaseError:
            # One agency's trouble is not the others'; the next round tries again.
            log.exception("sweep of agency %s failed", agency_id)
