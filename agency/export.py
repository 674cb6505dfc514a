"""The export of the trail: JSON Lines as ``qingka_verify.py`` states them, streamed.

Runs after the request's scope has ended and opens its own for each piece; what it reads cannot
change meanwhile. For one company, its own entries are shown and all others are hashes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from agency import audit, chain, heads
from agency.models import AuditEntry, SignedHead
from agency.scope import agency_scope
from agency.signing import key_id

_PIECE = 1000


def lines(agency_id: int, *, company_id: int | None, now: dt.datetime) -> Iterator[bytes]:
    """The lines of an export; all entries are shown when ``company_id`` is None."""
    key, former = heads.signing_key(), settings.AUDIT_FORMER_KEYS
    with agency_scope(agency_id):
        end = audit.stored_end()
        signed = list(SignedHead.objects.filter(agency_id=agency_id).order_by("day"))
        if key is not None:
            signed.append(heads.signed_end(key, agency_id, day=now.date(), at=now))
    used = {head.key for head in signed}
    yield _line(
        {
            "type": "trail",
            "format": chain.FORMAT,
            "chain": heads.chain_name(agency_id),
            "company": company_id,
            "made": now.astimezone(dt.UTC).isoformat(timespec="seconds"),
            "public_key": key.public if key is not None else "",
            "former_keys": [public for public in former if key_id(public) in used],
        }
    )
    yield from (heads.line_of(head) for head in signed)
    for start in range(0, end.sequence, _PIECE):
        with agency_scope(agency_id):
            rows = AuditEntry.objects.filter(
                sequence__gt=start, sequence__lte=min(start + _PIECE, end.sequence)
            )
            piece = b"".join(
                _line(_entry(row, shown=company_id is None or row.company_id == company_id))
                for row in rows.order_by("sequence")
            )
        yield piece


def _entry(row: AuditEntry, *, shown: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "type": "entry",
        "sequence": row.sequence,
        "previous": bytes(row.previous_hash).hex(),
        "content_hash": bytes(row.content_hash).hex(),
        "hash": bytes(row.hash).hex(),
    }
    if shown:
        line |= {"salt": bytes(row.salt).hex(), "content": audit.content_of(vars(row))}
    return line


def _line(values: dict[str, Any]) -> bytes:
    return chain.canonical(values) + b"\n"
