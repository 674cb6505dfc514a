"""The audit trail (操作留痕): ``record`` is the one way to write it.

Entries are collected inside an :func:`agency.scope.agency_scope` and appended when it ends, in the
transaction of what they record, under the lock of the agency's head; those of a savepoint that was
rolled back are gone, like what they record. Each entry's hash covers its
sequence, the previous hash and the hash of its salted content, so that a change, a gap or a swap
is found (:mod:`agency.chain`); the salt lets one company's entries be shown while all others stay
hidden behind their content hashes. Never puts a password, a PIN or a package into ``data``.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction
from django.db.models import Model

from agency import chain
from agency.choices import Action, ActorKind

if TYPE_CHECKING:
    from agency.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. ``name`` is kept in the entry, also after the person or machine is gone.

    What happens by itself names its ``plan`` and who changed that plan last."""

    kind: ActorKind
    name: str
    id: int | None = None
    plan: str = ""
    plan_changed_by: str = ""


SYSTEM = Actor(ActorKind.SYSTEM, "系统")


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    agency_id: int


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """An entry that waits for the end of its scope, among the connection's commit hooks: Django
    drops the hooks of a savepoint that it rolls back, whoever opened it."""

    pending: _Pending
    values: dict[str, Any]

    def __call__(self) -> None:
        """Appended before the commit; nothing is left to do after it."""


_actor: ContextVar[Actor] = ContextVar("audit_actor", default=SYSTEM)
_request_id: ContextVar[str] = ContextVar("audit_request_id", default="")
_pending: ContextVar[_Pending | None] = ContextVar("audit_pending", default=None)


@contextmanager
def acting(actor: Actor, *, request_id: str = "") -> Iterator[None]:
    """Name the actor of everything recorded inside."""
    actor_token, request_token = _actor.set(actor), _request_id.set(request_id)
    try:
        yield
    finally:
        _actor.reset(actor_token)
        _request_id.reset(request_token)


def record(
    action: Action,
    obj: Model | None = None,
    *,
    company_id: int | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Add an entry to the running scope's agency. Raises RuntimeError outside of a scope.

    ``data`` must be plain JSON without fractions, and free of secrets; TypeError otherwise.
    """
    record_again(entry(action, obj, company_id=company_id, data=data))


def entry(
    action: Action,
    obj: Model | None = None,
    *,
    company_id: int | None = None,
    data: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What :func:`record` would add, without its time."""
    actor = _actor.get()
    made: dict[str, Any] = chain.plain(
        {
            "actor_kind": str(actor.kind),
            "actor_id": actor.id,
            "actor_name": actor.name[:100],
            "plan": actor.plan[:100],
            "plan_changed_by": actor.plan_changed_by[:100],
            "action": str(action),
            "company_id": company_id,
            "object_type": obj._meta.label_lower if obj is not None else "",
            "object_id": obj.pk if obj is not None else None,
            "object_name": str(obj)[:120] if obj is not None else "",
            "data": data or {},
            "request_id": _request_id.get(),
        }
    )
    return made


def record_again(made: dict[str, Any]) -> None:
    """Add what :func:`entry` made, now. Raises RuntimeError outside of a scope."""
    pending = _pending.get()
    if pending is None:
        raise RuntimeError("audit.record outside of agency_scope")
    transaction.on_commit(_Waiting(pending, {**made, "at": dt.datetime.now(dt.UTC)}))


@contextmanager
def collecting(agency_id: int) -> Iterator[Callable[[], None]]:
    """Used by ``agency_scope`` only: collects, and hands out the call that appends.

    A nested scope of the same agency adds to the outer collection, so that the head is locked once
    and last.
    """
    outer = _pending.get()
    if outer is not None and outer.agency_id == agency_id:
        yield lambda: None
        return
    pending = _Pending(agency_id)
    token = _pending.set(pending)
    try:
        yield lambda: _append(agency_id, _waiting(pending))
    finally:
        _pending.reset(token)


def _waiting(pending: _Pending) -> list[dict[str, Any]]:
    """What was recorded in a scope and not rolled back, in its order."""
    hooks = (hook[1] for hook in connection.run_on_commit)
    return [hook.values for hook in hooks if isinstance(hook, _Waiting) and hook.pending is pending]


CONTENT_FIELDS = (
    "at",
    "actor_kind",
    "actor_id",
    "actor_name",
    "action",
    "company_id",
    "object_type",
    "object_id",
    "object_name",
    "data",
    "request_id",
)
# Named in the content only where they say something: they came later than the first entries.
ADDED_FIELDS = ("plan", "plan_changed_by")


def content_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The content of an entry, as it is hashed and exported."""
    content = {name: values[name] for name in CONTENT_FIELDS}
    content["at"] = values["at"].astimezone(dt.UTC).isoformat(timespec="microseconds")
    return content | {name: values[name] for name in ADDED_FIELDS if values[name]}


def _append(agency_id: int, entries: list[dict[str, Any]]) -> None:
    from agency.models import AuditEntry, AuditHead

    if not entries:
        return
    head = AuditHead.objects.select_for_update().first()
    if head is None:  # the agency's first entry
        AuditHead.objects.get_or_create(agency_id=agency_id)
        head = AuditHead.objects.select_for_update().get()
    sequence, previous = head.sequence, bytes(head.hash)
    rows = []
    for values in entries:
        sequence += 1
        salt = secrets.token_bytes(16)
        content = chain.content_hash(salt, content_of(values))
        digest = chain.entry_hash(sequence, previous, content)
        rows.append(
            AuditEntry(
                agency_id=agency_id,
                sequence=sequence,
                salt=salt,
                content_hash=content,
                previous_hash=previous,
                hash=digest,
                **values,
            )
        )
        previous = digest
    AuditEntry.objects.bulk_create(rows, batch_size=1000)
    AuditHead.objects.filter(pk=head.pk).update(sequence=sequence, hash=previous)


def links(rows: Iterable[AuditEntry]) -> Iterator[chain.Link]:
    """Rows of the trail as links of its chain."""
    for row in rows:
        yield chain.Link(
            row.sequence,
            bytes(row.hash),
            bytes(row.content_hash),
            bytes(row.previous_hash),
            bytes(row.salt),
            content_of(vars(row)),
        )


def stored_end() -> chain.End:
    """Where the running scope's chain says that it ends."""
    from agency.models import AuditHead

    head = AuditHead.objects.first()
    return chain.End(head.sequence, bytes(head.hash)) if head else chain.End(0, chain.BEFORE_FIRST)


def walk(heads: Iterable[chain.End] = ()) -> chain.Walk:
    """Walk the running scope's chain, against signed heads where there are any."""
    from agency.models import AuditEntry

    rows = AuditEntry.objects.order_by("sequence").iterator(chunk_size=2000)
    return chain.walk(links(rows), end=stored_end(), heads=heads)


def first_bad_sequence() -> int | None:
    """The first sequence of the running scope's chain that does not fit, or None."""
    finding = walk().finding
    return finding.sequence if finding else None


# Append-only for every role of the application: by grant and, for the owner too, by trigger.
APPEND_ONLY_SQL = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agency_auditentry
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON agency_auditentry
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON agency_auditentry FROM qingka_app;
REVOKE DELETE, TRUNCATE ON agency_audithead FROM qingka_app;
"""

# The same for the signed heads, and no place forgets what it was handed.
HEADS_APPEND_ONLY_SQL = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON agency_signedhead
  FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER never_truncated BEFORE TRUNCATE ON agency_signedhead
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON agency_signedhead FROM qingka_app;
REVOKE UPDATE, DELETE, TRUNCATE ON agency_headhandover FROM qingka_app;
"""
