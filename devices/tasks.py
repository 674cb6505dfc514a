"""Periodic tasks of the device layer: thin; the work is in the services."""

from __future__ import annotations

import logging

from celery import shared_task
from django.db import DatabaseError

from agency.scope import agency_scope
from devices.services.accounts import agencies_with_old_accounts, drop_old_accounts

log = logging.getLogger(__name__)


@shared_task(name="devices.drop_old_accounts", ignore_result=True)
def drop_accounts() -> None:
    """Broker accounts that outlived their machine's credentials because the broker was away."""
    for agency_id in agencies_with_old_accounts():
        try:
            with agency_scope(agency_id):
                drop_old_accounts()
        except DatabaseError:
            # One agency's trouble is not the others'; the next round tries again.
            log.exception("old broker accounts of agency %s stay for now", agency_id)
