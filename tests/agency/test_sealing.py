"""Sealed values: bound to their place, rotated by a ring, and never telling what they hold."""

from __future__ import annotations

import pytest

from agency.sealing import KeyRing, SealError, open_sealed, seal


def test_what_is_sealed_opens_for_the_same_context_only() -> None:
    sealed = seal("MARK-12345678", context="disk:1:2")
    assert b"MARK" not in sealed
    assert open_sealed(sealed, context="disk:1:2") == b"MARK-12345678"
    with pytest.raises(SealError):
        open_sealed(sealed, context="disk:1:3")


def test_two_seals_of_one_text_differ() -> None:
    assert seal("x", context="c") != seal("x", context="c")


@pytest.mark.parametrize("cut", range(0, 46, 5))
def test_a_shortened_or_changed_value_does_not_open(cut: int) -> None:
    sealed = seal("MARK-12345678", context="c")
    with pytest.raises(SealError):
        open_sealed(sealed[:cut], context="c")
    changed = bytearray(sealed)
    changed[cut % len(sealed)] ^= 1
    with pytest.raises(SealError):
        open_sealed(bytes(changed), context="c")


def test_an_older_key_of_the_ring_still_opens_and_the_newest_seals() -> None:
    old = KeyRing.generate("2025")
    sealed = KeyRing.parse(old).seal(b"x", context="c")
    ring = KeyRing.parse(KeyRing.generate("2026") + "," + old)
    assert ring.open(sealed, context="c") == b"x"
    with pytest.raises(SealError, match="不在密钥环"):
        KeyRing.parse(old).open(ring.seal(b"x", context="c"), context="c")


@pytest.mark.parametrize("text", ["", "k1", "k1:????", "k1:QUFB", ":" + "QUFB" * 11, "a:b,,"])
def test_a_ring_that_cannot_be_used_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(SealError) as refused:
        KeyRing.parse(text)
    assert "QUFB" not in str(refused.value)


def test_a_ring_hides_its_keys_when_printed() -> None:
    text = KeyRing.generate()
    assert text.partition(":")[2] not in repr(KeyRing.parse(text))
