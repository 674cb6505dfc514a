"""Rings reader machines and the sweeper after commit. A message is a bell: the database holds the
work.

Losing a bell costs the seconds until the machine's next presence report or the sweeper's next
round, never a run. No bell waits longer than seconds for a broker that is away.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import redis
from celery import Celery
from django.conf import settings
from django.db import transaction
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.transport import virtual

from agency.clock import real_now
from agency.scope import agency_scope
from clearing.broker_tls import tls_options
from clearing.models import Run
from clearing.selectors.runnable import CLAIMABLE, runnable_of
from devices.broker import prefix_of
from devices.selectors import machines_online

log = logging.getLogger(__name__)

BELL_TASK = "qingka.bell"
BELL_QUEUE = "bell"
SWEEP_TASK = "clearing.sweep_agency"
#: What happens in an agency within so many seconds is swept together, after the last of it.
SWEEP_PAUSE = 0.5
_BROKER_SECONDS = 2.0
_EXPIRES = 10.0


def ring(agency_id: int) -> None:
    """After this transaction, wake the agency's machines that have something to do."""
    transaction.on_commit(partial(_ring_machines, agency_id), robust=True)


def ring_last() -> None:
    """The same as the last act of a scope: it looks now, and only the messages wait for the commit.

    What the scope still changes after this is not heard of."""
    for account, count in _bells(real_now()).items():
        transaction.on_commit(partial(send_bells, account, count), robust=True)


def _ring_machines(agency_id: int) -> None:
    with agency_scope(agency_id):
        bells = _bells(real_now())
    for account, count in bells.items():
        send_bells(account, count)


def _bells(moment: dt.datetime) -> dict[str, int]:
    """How many runs each machine that can be rung may start now, where there are any."""
    if not Run.objects.filter(state__in=CLAIMABLE).exists():
        return {}
    # One without a broker account has no bell, and nobody would empty its queue.
    machines = machines_online(moment).exclude(broker_account="")
    counts = {
        machine.broker_account: min(runnable_of(machine, moment).count(), machine.parallel)
        for machine in machines
    }
    return {account: count for account, count in counts.items() if count}


def send_bells(account: str, count: int) -> None:
    """See that ``count`` bells lie in the machine's own queue; an absent broker is only noted.

    Those that nobody has taken yet are counted, so that the queue of a deaf machine stays short."""
    app = Celery(set_as_current=False)
    try:
        with _broker(prefix_of(account)) as connection:
            channel = cast(virtual.Channel, connection.default_channel)
            for _ in range(count - channel.queue_declare(BELL_QUEUE).message_count):
                app.send_task(
                    BELL_TASK,
                    queue=BELL_QUEUE,
                    connection=connection,
                    expires=60,
                    retry=False,
                    ignore_result=True,
                )
    except (redis.RedisError, OperationalError, OSError) as error:
        # The presence answer is the second bell.
        log.warning("bell for %s not delivered: %s", account, type(error).__name__)


def wake_sweeper(agency_id: int) -> None:
    """After this transaction, have the agency swept soon: something happened that may move runs
    which wait, end a batch, or change what a run waits for."""
    transaction.on_commit(partial(send_sweep, agency_id), robust=True)


def send_sweep(agency_id: int) -> None:
    """One message for all that happens within the pause, which is over when it is heard; an absent
    broker is only noted."""
    key = f"{settings.SERVER_KEY_PREFIX}sweep:{agency_id}"
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL,
            socket_connect_timeout=_BROKER_SECONDS,
            socket_timeout=_BROKER_SECONDS,
            retry=None,
        ) as client:
            if not client.set(key, 1, nx=True, px=int(1000 * SWEEP_PAUSE)):
                return
        with _broker(settings.SERVER_KEY_PREFIX) as connection:
            Celery(set_as_current=False).send_task(
                SWEEP_TASK,
                args=[agency_id],
                connection=connection,
                countdown=SWEEP_PAUSE,
                expires=_EXPIRES,
                retry=False,
                ignore_result=True,
            )
    except (redis.RedisError, OperationalError, OSError) as error:
        # The sweeper's next round is the second bell.
        log.warning("sweep of agency %s not asked for: %s", agency_id, type(error).__name__)


@contextmanager
def _broker(prefix: str) -> Iterator[Connection]:
    with Connection(
        transport_url(settings.REDIS_URL),
        ssl=tls_options(settings.REDIS_URL),
        transport_options={
            "global_keyprefix": prefix,
            "max_retries": 1,
            "socket_connect_timeout": _BROKER_SECONDS,
            "socket_timeout": _BROKER_SECONDS,
        },
        connect_timeout=_BROKER_SECONDS,
    ) as connection:
        yield connection


def transport_url(url: str) -> str:
    """The broker's address as kombu spells it (a unix socket is ``redis+socket``)."""
    return "redis+socket" + url.removeprefix("unix") if url.startswith("unix:") else url
