"""``agency_scope``: the only entrance to an agency's data, for requests, tasks, commands and tests.

Inside it, one transaction is open, the application's scope (django-scopes) and the database's
(``qingka.agency``, read by the row-level policies) name the same agency, and audit entries are
collected; the entries are appended as the last statement, under the lock of the chain's head
(lock order: disk → run → batch → head).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction
from django_scopes import get_scope, scope

from agency import audit

#: The role of ``deploy/roles.sql`` that reads and is bound by the same policies.
READER = "qingka_reader"


def _set_agency(value: str) -> str:
    """Set the transaction's agency and return the previous value."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('qingka.agency', true), set_config('qingka.agency', %s, true)",
            [value],
        )
        row = cursor.fetchone()
    return row[0] or ""


def _set_role(value: str) -> str:
    """Set the transaction's role and return the previous one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('role'), set_config('role', %s, true)",
            [value],
        )
        row = cursor.fetchone()
    return str(row[0])


def current_agency_id() -> int | None:
    """The agency of the active scope, or None outside of one."""
    value = get_scope().get("agency")
    return value if isinstance(value, int) else None


@contextmanager
def agency_scope(agency_id: int) -> Iterator[None]:
    """Open the agency's data; a transaction that commits on a clean exit.

    Scopes nest: the inner one is a savepoint, and the previous agency is restored (a
    ``set_config`` inside a released savepoint would last until the outer transaction ends). The
    end of the transaction itself takes the setting away.
    """
    nested = connection.in_atomic_block
    with transaction.atomic(), scope(agency=agency_id), audit.collecting(agency_id) as finish:
        previous = _set_agency(str(agency_id))
        yield
        finish()
        if nested:
            _set_agency(previous)


@contextmanager
def reading_only() -> Iterator[None]:
    """Inside a scope: the database refuses every write, and shows no other table than those of the
    agency and what their pages name. What is recorded is appended when the scope itself ends."""
    with transaction.atomic():
        previous = _set_role(READER)
        yield
        _set_role(previous)
