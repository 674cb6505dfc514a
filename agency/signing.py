"""Signed heads: where a chain ended on a day, under an Ed25519 key that no database holds.

The signature is over ``qingka head 1`` and a line feed, followed by the canonical JSON of chain,
day, sequence, hash, at and key; the key is named by the first 16 hex digits of the SHA-256 of its
32 public bytes. Knows neither Django nor a database.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agency.chain import canonical

FIELDS = ("chain", "day", "sequence", "hash", "at", "key")
_PREFIX = b"qingka head 1\n"


class SigningKeyError(ValueError):
    """A key that cannot be used; the text never holds it."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half; ``key_id`` and ``public`` (base64) may be shown to anybody."""

    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """From base64 of 32 bytes, or ``file:/path`` of a file that holds it."""
        if text.startswith("file:"):
            try:
                text = Path(text.removeprefix("file:")).read_text(encoding="ascii")
            except (OSError, UnicodeError) as error:
                raise SigningKeyError(f"签名密钥文件读不出: {type(error).__name__}") from None
        return cls(Ed25519PrivateKey.from_private_bytes(_key_bytes(text)))

    @classmethod
    def generate(cls) -> str:
        """A new key, in the form that :meth:`parse` reads."""
        return base64.b64encode(Ed25519PrivateKey.generate().private_bytes_raw()).decode()

    @property
    def public(self) -> str:
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()

    @property
    def key_id(self) -> str:
        return key_id(self.public)

    def sign(self, head: Mapping[str, Any]) -> bytes:
        return self.private.sign(signed_bytes(head))


def _key_bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise SigningKeyError("密钥不是 base64") from None
    if len(raw) != 32:
        raise SigningKeyError("密钥应为 32 字节 (base64)")
    return raw


def key_id(public: str) -> str:
    """The name of a public key. Raises SigningKeyError for what is none."""
    return hashlib.sha256(_key_bytes(public)).hexdigest()[:16]


def signed_bytes(head: Mapping[str, Any]) -> bytes:
    return _PREFIX + canonical({name: head[name] for name in FIELDS})


def is_genuine(head: Mapping[str, Any], public_keys: Iterable[str]) -> bool:
    """Whether one of the keys has signed the head, as it is."""
    for public in public_keys:
        try:
            if key_id(public) != head["key"]:
                continue
            signature = base64.b64decode(head["signature"], validate=True)
            Ed25519PublicKey.from_public_bytes(_key_bytes(public)).verify(
                signature, signed_bytes(head)
            )
        except (InvalidSignature, KeyError, TypeError, ValueError):
            return False
        return True
    return False
