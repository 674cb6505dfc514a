"""The hash chain of the audit trail, as bytes: what is hashed, and where a chain does not hold.

The format, version 1 (``agency/qingka_verify.py`` states it too and holds it by itself; a test
holds both against each other):

- content: a JSON object of strings, whole numbers, true, false, null, lists and objects; as bytes:
  UTF-8, keys sorted, no spaces, nothing escaped but what JSON demands.
- content hash = SHA-256(salt ‖ content), the salt 16 random bytes, so that a hidden content cannot
  be guessed from its hash.
- hash = SHA-256(sequence as 8 bytes, most significant first ‖ previous hash ‖ content hash); the
  hash before the first is 32 zero bytes.

Knows neither Django nor a database and never reads or writes anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

FORMAT = 1
BEFORE_FIRST = bytes(32)
_UNWRITABLE = dict.fromkeys((0, *range(55296, 57344)), "�")


class Fault(StrEnum):
    """What is wrong at the first bad sequence."""

    CHANGED = "changed"
    MISSING = "missing"
    DOUBLED = "doubled"
    OUT_OF_PLACE = "out_of_place"
    CUT_OFF = "cut_off"
    BEYOND_END = "beyond_end"
    REWRITTEN = "rewritten"


@dataclass(frozen=True, slots=True)
class Link:
    """An entry as it was stored; ``content`` and ``salt`` are None where they are not shown."""

    sequence: int
    hash: bytes
    content_hash: bytes
    previous: bytes
    salt: bytes | None = None
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class End:
    """Where a chain ended at some time: the number of its entries and the hash of the last."""

    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """The first bad sequence. For REWRITTEN: somewhere from ``since`` up to it, not earlier."""

    sequence: int
    fault: Fault
    since: int


@dataclass(frozen=True, slots=True)
class Walk:
    """A chain that was walked: its length, the first fault, and up to where heads prove it."""

    length: int
    finding: Finding | None
    proven: int


def plain(value: Any) -> Any:
    """``value`` as content may hold it: what a database cannot store in a text is replaced.

    Raises TypeError for anything that does not come back from a database as it was, such as a
    number with a fraction."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str(value).translate(_UNWRITABLE)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {plain(key): plain(item) for key, item in value.items()}
    raise TypeError(f"not for the audit trail: {type(value).__name__}")


def canonical(content: Mapping[str, Any]) -> bytes:
    """The content as the bytes that are hashed."""
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def content_hash(salt: bytes, content: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(salt + canonical(content)).digest()


def entry_hash(sequence: int, previous: bytes, content: bytes) -> bytes:
    return hashlib.sha256(sequence.to_bytes(8, "big") + previous + content).digest()


def walk(links: Iterable[Link], *, end: End | None = None, heads: Iterable[End] = ()) -> Walk:
    """Walk a chain from its first entry; ``end`` is where it says that it ends, ``heads`` are ends
    that were signed (their signatures are the caller's to check): each must agree with the chain,
    also where several were signed at one sequence. Stops at the first fault."""
    signed: dict[int, set[bytes]] = {}
    for head in heads:
        if head.sequence:
            signed.setdefault(head.sequence, set()).add(head.hash)
    length, previous, proven = 0, BEFORE_FIRST, 0

    def bad(sequence: int, fault: Fault) -> Walk:
        since = proven + 1 if fault is Fault.REWRITTEN else sequence
        return Walk(length, Finding(sequence, fault, since), proven)

    for link in links:
        expected = length + 1
        fault = _fault(link, expected, previous)
        if fault is not None:
            return bad(expected, fault)
        length, previous = expected, link.hash
        if expected in signed:
            if signed[expected] != {link.hash}:
                return bad(expected, Fault.REWRITTEN)
            proven = expected
    if max([*signed, end.sequence if end else 0]) > length:
        return bad(length + 1, Fault.CUT_OFF)
    if end is not None and end.sequence < length:
        return bad(end.sequence + 1, Fault.BEYOND_END)
    if end is not None and end.hash != previous:
        return bad(max(length, 1), Fault.CHANGED)
    return Walk(length, None, proven)


def _fault(link: Link, expected: int, previous: bytes) -> Fault | None:
    if link.sequence > expected:
        return Fault.MISSING
    if link.sequence < expected:
        return Fault.DOUBLED
    if (
        link.content is not None
        and content_hash(link.salt or b"", link.content) != link.content_hash
    ):
        return Fault.CHANGED
    if link.previous != previous:
        return Fault.OUT_OF_PLACE
    if link.hash != entry_hash(expected, previous, link.content_hash):
        return Fault.CHANGED
    return None
