"""Bytes that no device should send: random ones, and real answers with something done to them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

_WORDS = [b"\x90\x00", b"\x61\x08", b"\x6c\x17", b"\x6a\x83", b"\x63\xc1", b"\x69\x83", b"\x6f\x00"]
_HEAD = b'<?xml version="1.0" encoding="gbk"?>\n'
_TEXTS = [
    b"", b"0", b"00000000", b"-1", b"99991231", b"00010101", b"20260230", b"2026020100000020260228",
    b"99999999999999999999", b"1e9", b"nan", b"<a>", b"&a;", b"&#0;", b"&#xD800;", b"\xff\xfe",
    b"]]>", b"<!--", b"\x00", b"004007", b"0040", b"\xa3\xb0\xa3\xb1", b" ", b"9" * 3000,
    b"09d1c1", b"202", b"195", b"09d118", b"250", b"4001", b"3065", b"-960011199", b"zzz",
]  # fmt: skip
_DOCUMENTS = [
    b"<business/>",
    _HEAD + b"<business/>",
    _HEAD + b'<!DOCTYPE a [<!ENTITY b "c">]><business id="SJCB"><body>&b;</body></business>',
    _HEAD + b"<business>" + b"<a>" * 300 + b"</a>" * 300 + b"</business>",
    _HEAD + b'<business id="JKHC"><body><output/></body></business>',
    b"<html><title>502</title></html>",
    "<?xml version='1.0' encoding='UTF-8'?><business/>".encode("utf-16"),
]
_ELEMENT = re.compile(rb">([^<>]+)<")


def random_bytes(draw: random.Random) -> bytes:
    """Noise, noise with a status word, noise in an envelope, or a document of another kind."""
    noise = draw.randbytes(draw.choice((0, 1, 2, 3, 8, 40, 200)))
    return draw.choice((noise, noise + draw.choice(_WORDS), _HEAD + noise, draw.choice(_DOCUMENTS)))


def mutated(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    """``real`` with one to three things done to it; ``earlier``: answers to splice in."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        real = draw.choice(_MUTATIONS)(draw, real, earlier)
    return real


def _flip(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    if not real:
        return b"\x00"
    at = draw.randrange(len(real))
    return real[:at] + bytes([real[at] ^ (1 << draw.randrange(8))]) + real[at + 1 :]


def _cut(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    return real[: draw.randrange(len(real) + 1)]


def _drop(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    start = draw.randrange(len(real) + 1)
    return real[:start] + real[start + draw.randrange(40) :]


def _double(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    start = draw.randrange(len(real) + 1)
    end = start + draw.randrange(60)
    return real[:end] + real[start:]


def _insert(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    at = draw.randrange(len(real) + 1)
    return real[:at] + draw.choice((draw.randbytes(4), draw.choice(_TEXTS))) + real[at:]


def _exchange(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    return draw.choice(earlier) if earlier else b""


def _word(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    return real[:-2] + draw.choice((*_WORDS, draw.randbytes(2)))


def _text(draw: random.Random, real: bytes, earlier: list[bytes]) -> bytes:
    """Another text in one element; elsewhere a run of bytes is overwritten."""
    found = list(_ELEMENT.finditer(real))
    if not found:
        return _insert(draw, real, earlier)
    place = draw.choice(found)
    return real[: place.start(1)] + draw.choice(_TEXTS) + real[place.end(1) :]


_MUTATIONS: list[Callable[[random.Random, bytes, list[bytes]], bytes]] = [
    _flip, _cut, _drop, _double, _insert, _exchange, _word, _text, _text, _text,
]  # fmt: skip
