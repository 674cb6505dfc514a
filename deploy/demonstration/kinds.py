"""The kinds of disk in the sample's rack: their words, numbers and invoice types.

What a kind reports and clears together is restated here, like every rule of the sample: it is held
against the driver's own by the tests, never taken from it. All simulated (模拟).
"""

from __future__ import annotations

from collections.abc import Sequence

IC_CARD, BAIWANG, AISINO, UKEY = "ic_card", "baiwang", "aisino", "ukey"

#: The word of the sheet → the kind.
KINDS = {"税控IC卡": IC_CARD, "税控盘": BAIWANG, "金税盘": AISINO, "税务UKey": UKEY}

#: The units of a disk: invoice types that are reported and cleared in one write, in the order in
#: which they are worked on. A Baiwang disk each type by itself, an Aisino disk in groups, a UKey
#: all at once.
_UNITS = {
    BAIWANG: (("007",), ("004", "007"), ("004", "007", "026")),
    AISINO: (("004+007",), ("004+007", "005+026"), ("007", "025")),
    UKEY: (("007",), ("004+007",), ("004+007+025",)),
}
_CARD = ("",)  # it knows no types: everything in one write, without a name


def units_of(kind: str, number: int) -> tuple[str, ...]:
    """The units of the sample's disk of that number."""
    if kind == IC_CARD:
        return _CARD
    choices = _UNITS[kind]
    return choices[number % len(choices)]


def types_in(units: Sequence[str]) -> list[str]:
    """The invoice types of a disk; none of a card."""
    return [found for unit in units for found in unit.split("+") if found]


def fictional_device_no(number: int, kind: str = IC_CARD) -> str:
    """16 digits for a card, 12 for the others."""
    return f"66190000{number:08d}" if kind == IC_CARD else f"66190000{number:04d}"
