"""The one way to keep a password, a PIN, a report package or a backup.

AES-256-GCM with a key ring: the first key seals, every key of the ring opens, so that keys can be
rotated. The *context* (whose secret, e.g. ``disk:7:12``) is authenticated with it: a sealed value
moved to another row does not open. Knows neither Django nor the database, so that the reader
machine's journal can use it too. Never logs, never puts plain text into an error.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_MAGIC = b"Q1"
_NONCE = 12


class SealError(ValueError):
    """A sealed value or a key ring that cannot be used; the text never holds a secret."""


class UnknownKey(SealError):
    """Sealed with a key that the ring does not hold."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Named 32-byte keys, newest first."""

    keys: tuple[tuple[str, bytes], ...] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read ``name:base64,name:base64`` (32 bytes each). Raises SealError."""
        keys: list[tuple[str, bytes]] = []
        for part in filter(None, (entry.strip() for entry in text.split(","))):
            name, _, encoded = part.partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                raise SealError(f"密钥 {name!r} 不是 base64") from None
            if len(key) != 32 or not name or len(name.encode()) > 32:
                raise SealError(f"密钥 {name!r} 应为 32 字节 (base64), 并有名称")
            keys.append((name, key))
        if not keys or len({name for name, _ in keys}) != len(keys):
            raise SealError("密钥环为空, 或密钥名称重复")
        return cls(tuple(keys))

    @classmethod
    def generate(cls, name: str = "k1") -> str:
        """A new ring of one key, in the form that :meth:`parse` reads."""
        return f"{name}:{base64.b64encode(secrets.token_bytes(32)).decode()}"

    def weak(self) -> list[str]:
        """The names of keys that nobody drew by chance: nearly all bytes alike, as in samples."""
        return [name for name, key in self.keys if len(set(key)) < 8]

    def seal(self, plain: bytes, *, context: str) -> bytes:
        """``Q1`` · length and name of the key · nonce · ciphertext with tag."""
        name, key = self.keys[0]
        nonce = secrets.token_bytes(_NONCE)
        label = name.encode()
        return (
            _MAGIC
            + bytes([len(label)])
            + label
            + nonce
            + AESGCM(key).encrypt(nonce, plain, context.encode())
        )

    def open(self, sealed: bytes, *, context: str) -> bytes:
        """The plain bytes. Raises SealError: not sealed, unknown key, or not of this context."""
        sealed = bytes(sealed)
        if len(sealed) < 3 or sealed[:2] != _MAGIC or len(sealed) < 3 + sealed[2] + _NONCE + 16:
            raise SealError("不是封存的数据")
        end = 3 + sealed[2]
        key = dict(self.keys).get(sealed[3:end].decode(errors="replace"))
        if key is None:
            raise UnknownKey("封存所用的密钥不在密钥环中")
        try:
            return AESGCM(key).decrypt(
                sealed[end : end + _NONCE], sealed[end + _NONCE :], context.encode()
            )
        except InvalidTag:
            raise SealError("封存的数据已损坏, 或不属于此处") from None


def key_of(sealed: bytes) -> str | None:
    """The name of the key that sealed this; None where it is not sealed at all."""
    sealed = bytes(sealed)
    if len(sealed) < 3 or sealed[:2] != _MAGIC or len(sealed) < 3 + sealed[2] + _NONCE + 16:
        return None
    return sealed[3 : 3 + sealed[2]].decode(errors="replace")


@lru_cache(maxsize=4)
def _ring(text: str) -> KeyRing:
    return KeyRing.parse(text)


def keys_text() -> str:
    """The server's ring as it is written down: in a file, or in the environment.

    Raises SealError for a file that cannot be read, and where both are given."""
    path, text = os.environ.get("QINGKA_SEAL_KEYS_FILE", ""), os.environ.get("QINGKA_SEAL_KEYS", "")
    if not path:
        return text
    if text:
        raise SealError("QINGKA_SEAL_KEYS 与 QINGKA_SEAL_KEYS_FILE 只能设置一个")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SealError(f"密钥文件读不出: {type(error).__name__}") from None


def _server_ring() -> KeyRing:
    return _ring(keys_text())


def newest_key() -> str:
    """The name of the key that seals from now on."""
    return _server_ring().keys[0][0]


def seal(plain: bytes | str, *, context: str) -> bytes:
    """Seal with the server's ring (``QINGKA_SEAL_KEYS``)."""
    return _server_ring().seal(plain.encode() if isinstance(plain, str) else plain, context=context)


def open_sealed(sealed: bytes, *, context: str) -> bytes:
    """Open what :func:`seal` made for the same context. Raises SealError."""
    return _server_ring().open(sealed, context=context)
