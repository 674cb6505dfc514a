"""The secrets that a simulated card and the stand-in bureau share (模拟): cipher, MAC, signature.

Owns the ◇ points of protocol-ic-card.md that concern keys. Everything is derived from one master
key (``World.key``) and the card number, so that clear data for one card are nothing to another:

- control data: the 23 bytes of EF01 and one byte 80, enciphered with 3DES-CBC (no IV) under the
  card's key of that id;
- mac2: 3DES-CBC-MAC, first 4 bytes, over key id, card number and ciphertext;
- mac1 of a declaration: the same MAC over what was declared and the card's totals;
- the 128-byte signature: two HMAC-SHA-512 over the same.

Must never: leave the simulator. No real card or bureau works like this.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from devices.protocol.failures import Failure
from devices.protocol.iccard import (
    MAC_BYTES,
    PIN_BYTES,
    SIGNATURE_BYTES,
    DeclareAnswer,
    DeclareDuty,
    UpdateControls,
    card_no_of,
)
from devices.protocol.iccard_choices import DECLARED
from devices.protocol.iccard_layouts import ControlFile, encode_number

KEY_ID = 1
_PAD = b"\x80"
_BLOCK = 8


class Forged(ValueError):
    """A MAC or signature is wrong, or what it covers is not what it claims to be."""


def make_clear_data(
    master_key: bytes, device_no: str, controls: bytes, key_id: int = KEY_ID
) -> bytes:
    """The 0x1D bytes of UPDATE_CONTROLS for one card; ``controls``: the 23 bytes of EF01."""
    if len(controls) != ControlFile.LENGTH:
        raise ValueError(f"control data of {ControlFile.LENGTH} bytes")
    key = _key(master_key, device_no, f"controls {key_id}")
    encryptor = _cipher(key).encryptor()
    ciphertext = encryptor.update(controls + _PAD) + encryptor.finalize()
    mac2 = _mac2(master_key, device_no, key_id, ciphertext)
    return UpdateControls(key_id, ciphertext, mac2).encode()


def open_clear_data(master_key: bytes, device_no: str, data: bytes) -> ControlFile:
    """What the card does with the 0x1D bytes. Raises :class:`Forged`."""
    try:
        update = UpdateControls.decode(data)
        mac2 = _mac2(master_key, device_no, update.key_id, update.ciphertext)
        if not hmac.compare_digest(mac2, update.mac2):
            raise Forged("mac2")
        key = _key(master_key, device_no, f"controls {update.key_id}")
        decryptor = _cipher(key).decryptor()
        plaintext = decryptor.update(update.ciphertext) + decryptor.finalize()
        if plaintext[-1:] != _PAD:
            raise Forged("padding")
        return ControlFile.decode(plaintext[:-1])
    except Failure as failure:
        raise Forged(str(failure)) from failure


def sign_declaration(
    master_key: bytes, device_no: str, duty: DeclareDuty, total_valid: int, total_return: int
) -> DeclareAnswer:
    """The card's answer to a declaration; ``total_…`` in fen, as the card itself sums them."""
    covered = _covered(duty, total_valid, total_return, DECLARED)
    return DeclareAnswer(
        total_valid,
        total_return,
        DECLARED,
        mac1=_mac(_key(master_key, device_no, "mac1"), covered),
        signature=sign(master_key, device_no, covered),
    )


def verify_declaration(
    master_key: bytes, device_no: str, declared: bytes, answer: bytes
) -> DeclareDuty:
    """What the bureau checks: ``declared`` (``fphz``, 0x47 bytes) and ``answer`` (``qtxx``, 0x8E).

    Returns the declaration. Raises :class:`Forged` when they are not this card's.
    """
    try:
        duty, signed = DeclareDuty.decode(declared), DeclareAnswer.decode(answer)
        expected = sign_declaration(
            master_key, device_no, duty, signed.total_valid, signed.total_return
        )
    except (Failure, ValueError) as failure:
        raise Forged(str(failure)) from failure
    if not hmac.compare_digest(expected.encode(), signed.encode()):
        raise Forged("signature")
    return duty


def sign(master_key: bytes, device_no: str, message: bytes) -> bytes:
    """A signature of 128 bytes under the card's own key."""
    key = _key(master_key, device_no, "signature")
    halves = (hmac.digest(key, message + bytes([n]), hashlib.sha512) for n in (1, 2))
    return b"".join(halves)[:SIGNATURE_BYTES]


def register_mac(master_key: bytes, device_no: str, random: bytes) -> bytes:
    """mac1 of GET_REGISTER_NB over its random number and the card number."""
    return _mac(_key(master_key, device_no, "mac1"), random + card_no_of(device_no))


def fiscal_code(master_key: bytes, device_no: str, invoice: bytes) -> bytes:
    """The 8 bytes that ISSUE_INVOICE answers."""
    return hmac.digest(_key(master_key, device_no, "fiscal"), invoice, hashlib.sha256)[:8]


def next_pin(master_key: bytes, device_no: str, generation: int) -> bytes:
    """The PIN of a generation: 8 ASCII characters, the same in every replay of a world."""
    key = _key(master_key, device_no, "pin")
    digest = hmac.digest(key, generation.to_bytes(8, "big"), hashlib.sha256)
    return base64.b32encode(digest)[:PIN_BYTES]


def _covered(duty: DeclareDuty, total_valid: int, total_return: int, status: int) -> bytes:
    totals = encode_number(total_valid, 4) + encode_number(total_return, 4)
    return duty.encode() + totals + encode_number(status, 1)


def _key(master_key: bytes, device_no: str, purpose: str) -> bytes:
    """16 bytes for one card and one purpose."""
    return hmac.digest(master_key, f"{device_no} {purpose}".encode(), hashlib.sha256)[:16]


def _cipher(key: bytes) -> Cipher[modes.CBC]:
    """Two-key 3DES: the third key is the first again."""
    # CBC without an IV and 3DES: what old cards do, and good enough for a simulated one.
    return Cipher(TripleDES(key + key[:_BLOCK]), modes.CBC(bytes(_BLOCK)))


def _mac2(master_key: bytes, device_no: str, key_id: int, ciphertext: bytes) -> bytes:
    message = encode_number(key_id, 1) + card_no_of(device_no) + ciphertext
    return _mac(_key(master_key, device_no, "mac2"), message)


def _mac(key: bytes, message: bytes) -> bytes:
    """3DES-CBC-MAC over ``message`` padded with 80 00…; messages of one kind have one length."""
    padded = message + _PAD
    padded += bytes(-len(padded) % _BLOCK)
    encryptor = _cipher(key).encryptor()
    return (encryptor.update(padded) + encryptor.finalize())[-_BLOCK:][:MAC_BYTES]
