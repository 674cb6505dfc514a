"""What public sources leave open about the IC card, and what we chose ◇: all of it, in one place.

A real card may differ in these points and in these only. The driver and the simulated card both
read them here, so a difference found on a real card is put right once.

◇ **Numbers and texts.** Amounts are fen. Texts are GB 18030 padded with spaces. A record of all 00
  or all FF was never written. Records count from 1, the oldest first.
◇ **Declarations (EF04).** Status 0: declared, 1: cleared. The open period starts the day after the
  last *cleared* declaration; a card without one starts on its first day of validity (EF02).
◇ **Last reported on.** The day after the end of the last declaration, cleared or not: once a period
  is declared that is the first day of its window, which is what the rule of domain.md §3 asks for.
◇ **Identity (EF02).** Card type 01 is a fiscal card, 81 one for training. Registered flag 1, and 2
  for a card that was deregistered. The machine number holds the terminal number when it is small.
◇ **Copy time.** The card has no clock; the end of the last declaration stands for it in QLJS.
◇ **Refusals.** UPDATE_CONTROLS answers 6988 when its MAC is wrong (control data of another card
  among them) and 6985 for data that are older, replayed, or clear nothing.
◇ **Cipher** of the simulated card: ``devices/simulator/crypto.py``.
"""

from __future__ import annotations

import datetime as dt

#: The card's single set of control data stands for this invoice type (卷票).
INVOICE_TYPE = "025"

DECLARED = 0
CLEARED = 1

CARD_FISCAL = 0x01
CARD_TRAINING = 0x81

REGISTERED = 1
DEREGISTERED = 2


def terminal_no_of(machine_no: bytes) -> int | None:
    """The terminal number (0 = main machine), or None where the number is a register's own."""
    return machine_no[-1] if not any(machine_no[:-1]) else None


def machine_no_of(terminal_no: int) -> bytes:
    """The inverse, for the simulated card; ValueError beyond one byte."""
    if not 0 <= terminal_no <= 0xFF:
        raise ValueError("terminal number in one byte")
    return terminal_no.to_bytes(8, "big")


def copy_time(declared_through: dt.date) -> str:
    """14 digits: the copy time that QLJS shows the bureau."""
    return f"{declared_through:%Y%m%d}235959"
