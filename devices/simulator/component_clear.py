"""Clear data for component disks (模拟): what the stand-in bureau makes and a simulated disk opens.

Owns how one unit of one disk is bound into them, on top of ``crypto``: the cipher of the IC card,
made for a card number of 16 digits (the 12 of a component disk are filled up), with the unit in
place of the card's tax indexes. A second text (``szjkmw``) can carry the bureau's clock.

Must never: leave the simulator. No real bureau works like this.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Sequence

from devices.protocol.control import BEIJING
from devices.protocol.iccard_layouts import TAX_SLOTS, ControlFile
from devices.simulator import crypto

_CLOCK = "%Y%m%d%H%M%S"
_MAC_DIGITS = 16


def card_number(device_no: str) -> str:
    """16 digits for the cipher."""
    return device_no.zfill(16)


def mark_of(types: Sequence[str]) -> bytes:
    """Six bytes that stand for a unit, so that data for another one do not fit."""
    return hashlib.sha256("+".join(sorted(types)).encode()).digest()[:TAX_SLOTS]


def make(
    master_key: bytes,
    device_no: str,
    types: Sequence[str],
    deadline: dt.date,
    limits: tuple[int, int, int],
) -> str:
    """``fpjkmw``: hexadecimal. ``limits`` in fen: single, total, return."""
    controls = ControlFile(deadline, *limits, tax_index=mark_of(types))
    number = card_number(device_no)
    return crypto.make_clear_data(master_key, number, controls.encode()).hex().upper()


def make_clock(master_key: bytes, device_no: str, now: dt.datetime) -> str:
    """``szjkmw``: the bureau's clock, 14 digits, and a MAC."""
    digits = now.astimezone(BEIJING).strftime(_CLOCK)
    return digits + _mac(master_key, device_no, digits)


def open_clock(master_key: bytes, device_no: str, szjkmw: str) -> dt.datetime | None:
    """The clock in ``szjkmw``; None where it is empty or not for this disk."""
    digits, mac = szjkmw[:14], szjkmw[14:]
    if not hmac.compare_digest(_mac(master_key, device_no, digits).encode(), mac.encode()):
        return None
    return dt.datetime.strptime(digits, _CLOCK).replace(tzinfo=BEIJING)


def _mac(master_key: bytes, device_no: str, digits: str) -> str:
    signed = crypto.sign(master_key, card_number(device_no), f"clock {digits}".encode())
    return signed.hex().upper()[:_MAC_DIGITS]
