"""The audit trail (操作留痕): ``record`` is the one way to write it.

Entries are collected inside an :func:`agency.scope.agency_scope` and appended when it ends, in the
transaction of what they record, under the lock of the agency's head. Each entry's hash covers its
sequence, the previous hash and the hash of its salted content, so that a change, a gap or a swap
is found; the salt lets one company's entries be shown while all others stay hidden behind their
content hashes. Never puts a password, a PIN or a package into ``data``.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Model

from agency.choices import Action, ActorKind


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts. ``name`` is kept in the entry, also after the person or machine is gone."""

    kind: ActorKind
    name: str
    id: int | None = None


SYSTEM = Actor(ActorKind.SYSTEM, "系统")


@dataclass(slots=True)
class _Pending:
    agency_id: int
    entries: list[dict[str, Any]] = field(default_factory=list)


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

    ``data`` must be plain JSON and free of secrets.
    """
    pending = _pending.get()
    if pending is None:
        raise RuntimeError("audit.record outside of agency_scope")
    actor = _actor.get()
    pending.entries.append(
        {
            "at": dt.datetime.now(dt.UTC),
            "actor_kind": str(actor.kind),
            "actor_id": actor.id,
            "actor_name": actor.name[:100],
            "action": str(action),
            "company_id": company_id,
            "object_type": obj._meta.label_lower if obj is not None else "",
            "object_id": obj.pk if obj is not None else None,
            "object_name": str(obj)[:120] if obj is not None else "",
            "data": data or {},
            "request_id": _request_id.get(),
        }
    )


@contextmanager
def collecting(agency_id: int) -> Iterator[Callable[[], None]]:
    """Used by ``agency_scope`` only: collects, and hands out the call that appends.

    A nested scope of the same agency adds to the outer collection, so that the head is locked once
    and last; when it fails, its entries vanish with its savepoint.
    """
    outer = _pending.get()
    if outer is not None and outer.agency_id == agency_id:
        mark = len(outer.entries)
        try:
            yield lambda: None
        except BaseException:
            del outer.entries[mark:]
            raise
        return
    pending = _Pending(agency_id)
    token = _pending.set(pending)
    try:
        yield lambda: _append(agency_id, pending.entries)
    finally:
        _pending.reset(token)


def canonical(entry: dict[str, Any]) -> bytes:
    """The content of an entry as canonical JSON (UTF-8, sorted keys, no spaces, UTC times)."""
    content = {**entry, "at": entry["at"].astimezone(dt.UTC).isoformat(timespec="microseconds")}
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def content_hash(salt: bytes, entry: dict[str, Any]) -> bytes:
    return hashlib.sha256(salt + canonical(entry)).digest()


def entry_hash(sequence: int, previous: bytes, content: bytes) -> bytes:
    return hashlib.sha256(sequence.to_bytes(8, "big") + previous + content).digest()


def _append(agency_id: int, entries: list[dict[str, Any]]) -> None:
    from agency.models import AuditEntry, AuditHead

    if not entries:
        return
    AuditHead.objects.get_or_create(agency_id=agency_id)
    head = AuditHead.objects.select_for_update().get()
    sequence, previous = head.sequence, bytes(head.hash)
    rows = []
    for entry in entries:
        sequence += 1
        salt = secrets.token_bytes(16)
        content = content_hash(salt, entry)
        digest = entry_hash(sequence, previous, content)
        rows.append(
            AuditEntry(
                agency_id=agency_id,
                sequence=sequence,
                salt=salt,
                content_hash=content,
                previous_hash=previous,
                hash=digest,
                **entry,
            )
        )
        previous = digest
    AuditEntry.objects.bulk_create(rows, batch_size=1000)
    AuditHead.objects.filter(pk=head.pk).update(sequence=sequence, hash=previous)


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


def first_bad_sequence() -> int | None:
    """Walk the running scope's chain; the first sequence that does not fit, or None."""
    from agency.models import AuditEntry, AuditHead

    expected, previous = 0, bytes(32)
    for entry in AuditEntry.objects.order_by("sequence").iterator(chunk_size=2000):
        expected += 1
        content = content_hash(
            bytes(entry.salt), {name: getattr(entry, name) for name in CONTENT_FIELDS}
        )
        if (
            entry.sequence != expected
            or bytes(entry.previous_hash) != previous
            or bytes(entry.content_hash) != content
            or bytes(entry.hash) != entry_hash(expected, previous, content)
        ):
            return expected
        previous = bytes(entry.hash)
    head = AuditHead.objects.first()
    if (head.sequence if head else 0) != expected or (
        head is not None and bytes(head.hash) != previous
    ):
        return expected + 1
    return None


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
