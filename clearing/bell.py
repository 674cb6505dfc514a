"""Rings reader machines after commit. A message is a bell: the database holds the work.

Losing a bell costs the seconds until the machine's next presence report, never a run.
"""

from __future__ import annotations

import logging
from functools import partial

from celery import Celery
from django.conf import settings
from django.db import transaction
from kombu import Connection
from kombu.exceptions import OperationalError

from agency.clock import real_now
from agency.scope import agency_scope
from clearing.broker_tls import tls_options
from clearing.selectors.runnable import runnable_of
from devices.broker import prefix_of
from devices.models import Machine
from devices.selectors import PRESENCE_AGE

log = logging.getLogger(__name__)

BELL_TASK = "qingka.bell"
BELL_QUEUE = "bell"


def ring(agency_id: int) -> None:
    """After this transaction, wake the agency's machines that have something to do."""
    transaction.on_commit(partial(_ring_machines, agency_id), robust=True)


def _ring_machines(agency_id: int) -> None:
    moment = real_now()
    with agency_scope(agency_id):
        machines = list(
            # One without a broker account has no bell, and nobody would empty its queue.
            Machine.objects.filter(
                revoked_at__isnull=True, seen_at__gte=moment - PRESENCE_AGE
            ).exclude(broker_account="")
        )
        bells = {
            machine.broker_account: min(runnable_of(machine, moment).count(), machine.parallel)
            for machine in machines
        }
    for account, count in bells.items():
        if count:
            send_bells(account, count)


def send_bells(account: str, count: int) -> None:
    """Put ``count`` bells into the machine's own queue; an absent broker is only noted."""
    app = Celery(set_as_current=False)
    try:
        with Connection(
            transport_url(settings.REDIS_URL),
            ssl=tls_options(settings.REDIS_URL),
            transport_options={"global_keyprefix": prefix_of(account), "max_retries": 1},
            connect_timeout=2,
        ) as connection:
            for _ in range(count):
                app.send_task(
                    BELL_TASK,
                    queue=BELL_QUEUE,
                    connection=connection,
                    expires=60,
                    retry=False,
                    ignore_result=True,
                )
    except (OperationalError, OSError) as error:
        # The presence answer is the second bell.
        log.warning("bell for %s not delivered: %s", account, type(error).__name__)


def transport_url(url: str) -> str:
    """The broker's address as kombu spells it (a unix socket is ``redis+socket``)."""
    return "redis+socket" + url.removeprefix("unix") if url.startswith("unix:") else url
