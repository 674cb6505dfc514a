"""Broker accounts that have to go: noted in the transaction that ends them, removed right after its
commit, and again by the sweeper until the broker has said that they are gone.
"""

from __future__ import annotations

import logging
from functools import partial

import redis
from django.db import connection, transaction

from agency.scope import agency_scope
from devices import broker
from devices.models import Machine

log = logging.getLogger(__name__)


def retire_account(machine: Machine) -> None:
    """Inside the transaction that takes the machine's credentials away."""
    if not machine.broker_account:
        return
    old = [*machine.old_accounts, machine.broker_account]
    Machine.objects.filter(pk=machine.pk).update(old_accounts=old)
    transaction.on_commit(partial(_drop_in, machine.agency_id), robust=True)


def agencies_with_old_accounts() -> list[int]:
    """The agencies in which a broker account waits for its end; outside of a scope."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM agencies_with_old_accounts()")
        return [row[0] for row in cursor.fetchall()]


def drop_old_accounts() -> int:
    """In the running scope: have the broker forget what has to go; how many accounts it forgot.

    With the broker away they stay noted. Nobody can sign in with a token or a code meanwhile, and
    such an account reaches nothing but the machine's own bells."""
    gone = 0
    for machine in Machine.objects.select_for_update(skip_locked=True).exclude(old_accounts=[]):
        try:
            for account in machine.old_accounts:
                broker.drop_account(account)
        except redis.RedisError as error:
            log.warning("broker accounts of machine %s stay: %s", machine.pk, type(error).__name__)
            break
        gone += len(machine.old_accounts)
        Machine.objects.filter(pk=machine.pk).update(old_accounts=[])
    return gone


def _drop_in(agency_id: int) -> None:
    with agency_scope(agency_id):
        drop_old_accounts()
