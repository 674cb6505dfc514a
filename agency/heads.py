"""The daily heads: every chain's end is signed once a day and handed out of the database.

Signing a day is all or nothing and happens once; handing over is repeated until each place has
each day. What fails is loud: the log, the platform's own chain, and an error to the caller. A chain
that no longer contains what was signed before is not signed again.
"""

from __future__ import annotations

import base64
import datetime as dt
import logging
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from agency import audit, chain, places
from agency.choices import Action
from agency.models import PLATFORM, Agency, AuditEntry, HeadHandOver, SignedHead
from agency.scope import agency_scope
from agency.signing import SigningKey, key_id

log = logging.getLogger(__name__)


class HeadsFailed(Exception):
    """Something of today's work is not done; the text says what."""


@lru_cache(maxsize=4)
def _parsed(text: str) -> SigningKey:
    return SigningKey.parse(text)


def signing_key() -> SigningKey | None:
    """The server's key, or None where none is set (practice only)."""
    return _parsed(settings.AUDIT_KEY) if settings.AUDIT_KEY else None


def public_keys() -> list[str]:
    """The public keys under which heads were signed, the present one first."""
    key = signing_key()
    return [*([key.public] if key is not None else []), *settings.AUDIT_FORMER_KEYS]


def unknown_keys() -> list[str]:
    """The names of keys that signed heads and whose public half nobody has told us: every export
    would look forged."""
    used = set(SignedHead.objects.order_by().values_list("key", flat=True).distinct())
    return sorted(used - {key_id(public) for public in public_keys()})


def chain_name(agency_id: int) -> str:
    return "platform" if agency_id == PLATFORM else f"agency:{agency_id}"


def fields_of(head: SignedHead) -> dict[str, Any]:
    """The head as it is signed and handed out."""
    return {
        "chain": chain_name(head.agency_id),
        "day": head.day.isoformat(),
        "sequence": head.sequence,
        "hash": bytes(head.hash).hex(),
        "at": head.at.astimezone(dt.UTC).isoformat(timespec="microseconds"),
        "key": head.key,
    }


def line_of(head: SignedHead) -> bytes:
    """One line of a sheet of heads, and of an export."""
    signature = base64.b64encode(bytes(head.signature)).decode()
    return chain.canonical({"type": "head", **fields_of(head), "signature": signature}) + b"\n"


def signed_end(key: SigningKey, agency_id: int, *, day: dt.date, at: dt.datetime) -> SignedHead:
    """Inside the agency's scope: its present end, signed and not saved."""
    end = audit.stored_end()
    head = SignedHead(
        agency_id=agency_id, day=day, sequence=end.sequence, hash=end.hash, at=at, key=key.key_id
    )
    head.signature = key.sign(fields_of(head))
    return head


def sign_day(key: SigningKey, *, day: dt.date, at: dt.datetime) -> list[str]:
    """Sign all chains for the day, unless that is done; the chains that must not be signed."""
    if SignedHead.objects.filter(day=day).exists():
        return []
    made, broken = [], []
    for agency_id in [PLATFORM, *Agency.objects.order_by("pk").values_list("pk", flat=True)]:
        with agency_scope(agency_id):
            head = signed_end(key, agency_id, day=day, at=at)
            if not _goes_on(agency_id, head):
                broken.append(chain_name(agency_id))
            elif head.sequence:
                made.append(head)
    try:
        with transaction.atomic():
            SignedHead.objects.bulk_create(made)
    except IntegrityError:  # another process signed the day meanwhile
        return []
    return broken


def _goes_on(agency_id: int, head: SignedHead) -> bool:
    """The chain ends with its head, and contains what was signed last."""
    marks = [(head.sequence, bytes(head.hash))] if head.sequence else []
    last = SignedHead.objects.filter(agency_id=agency_id).order_by("-day").first()
    if last is not None:
        marks.append((last.sequence, bytes(last.hash)))
    found = {
        sequence: bytes(digest)
        for sequence, digest in AuditEntry.objects.filter(
            sequence__in=[sequence for sequence, _ in marks]
        ).values_list("sequence", "hash")
    }
    return all(found.get(sequence) == digest for sequence, digest in marks)


def sheet_of(day: dt.date) -> bytes:
    """All chains' heads of a day, as they are handed out."""
    return b"".join(line_of(head) for head in SignedHead.objects.filter(day=day).order_by("agency"))


def hand_over(*, now: dt.datetime) -> list[str]:
    """Bring every signed day to every place that lacks it; what went wrong."""
    failures = []
    days = SignedHead.objects.order_by("day").values_list("day", flat=True).distinct()
    for place in places.parse(settings.AUDIT_PLACES):
        done = set(HeadHandOver.objects.filter(place=place.name).values_list("day", flat=True))
        for day in (day for day in days if day not in done):
            try:
                place.put(f"heads-{day.isoformat()}.jsonl", sheet_of(day))
            except Exception as error:  # whatever a place raises must not stop the others
                log.exception("the heads of %s did not reach %s", day, place.name)
                failures.append(f"{day} {place.name}: {type(error).__name__}: {error}"[:300])
                break
            HeadHandOver.objects.get_or_create(
                day=day, place=place.name[:200], defaults={"at": now}
            )
            _note(Action.HEADS_HANDED_OVER, {"day": day.isoformat(), "place": place.name})
    return failures


def daily(*, now: dt.datetime) -> None:
    """The day's work; may be called as often as one likes. Raises HeadsFailed at its end."""
    key = signing_key()
    if key is None:
        raise HeadsFailed("QINGKA_AUDIT_KEY 未设置, 操作留痕没有签名 (no key, nothing signed)")
    failures = []
    for name in sign_day(key, day=now.date(), at=now):
        log.error("chain %s does not contain what was signed before", name)
        _note(Action.CHAIN_BROKEN, {"chain": name})
        failures.append(f"{name}: 与已签名的记录不符, 未再签名 (verify_audit)")
    failures += [
        f"{name}: 以前的公钥未知, 请写入 QINGKA_AUDIT_FORMER_KEYS (a former public key is missing)"
        for name in unknown_keys()
    ]
    failures += hand_over(now=now)
    if failures:
        _note(Action.HEADS_FAILED, {"what": failures[:20]})
        raise HeadsFailed("; ".join(failures))


def _note(action: Action, data: dict[str, Any]) -> None:
    with agency_scope(PLATFORM):
        audit.record(action, data=data)
