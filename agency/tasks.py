"""Periodic tasks of the agency layer: thin; the work is in the services."""

from __future__ import annotations

import datetime as dt
import logging

from celery import shared_task
from django.db import DatabaseError

from agency import heads, refusals
from agency.clock import BEIJING, real_now
from agency.scope import agency_scope

log = logging.getLogger(__name__)


@shared_task(name="agency.settle_refusals", ignore_result=True)
def settle_refusals() -> None:
    """Record the counted refusals of the minutes that are over, agency by agency."""
    before = real_now().replace(second=0, microsecond=0) - dt.timedelta(minutes=1)
    for agency_id in refusals.agencies_to_settle(before=before):
        try:
            with agency_scope(agency_id):
                refusals.settle(before=before)
        except DatabaseError:
            # One agency's trouble is not the others'; the next round tries again.
            log.exception("refusals of agency %s stay uncounted for now", agency_id)


@shared_task(name="agency.sign_heads", ignore_result=True, soft_time_limit=1800, time_limit=2000)
def sign_heads() -> None:
    """Sign the day's heads and hand them over; done already, it does nothing. Fails loudly."""
    if heads.signing_key() is None:  # a practice site; a production site does not start like this
        return
    heads.daily(now=real_now().astimezone(BEIJING))
