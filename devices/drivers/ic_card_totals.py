"""Sums the card's daily totals into a declaration, and a declaration into statistics.

Owns the arithmetic of a report: pure, no card. Counts are pieces, amounts are fen.

Must never: let a sum wrap. What the card's fields cannot hold is refused before a PIN is sent.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import DeclareDuty
from devices.protocol.iccard_layouts import TAX_SLOTS, DailyTotals, Totals


def declaration_of(
    daily: Iterable[DailyTotals], start: dt.date, end: dt.date, tax_index: bytes
) -> DeclareDuty:
    """What is declared for ``start`` … ``end``: the days in it, summed per tax index.

    ``tax_index``: the six indexes of EF01; they order the slots. An index that only the days know
    (the bureau may have written other ones since) takes a free slot. Raises
    Failure(device_garbled) where there is none, Failure(device_refused) for a sum too large.
    """
    days = [day for day in daily if start <= day.day <= end]
    slots = list(tax_index)
    valid, returned = [0] * TAX_SLOTS, [0] * TAX_SLOTS
    for day in days:
        lines = zip(day.totals.tax_index, day.totals.valid, day.totals.returned, strict=True)
        for index, plus, minus in lines:
            if plus or minus:
                slot = _slot(slots, index)
                valid[slot] += plus
                returned[slot] += minus
    duty = DeclareDuty(
        start=start,
        end=end,
        valid_count=sum(day.valid_count for day in days),
        return_count=sum(day.return_count for day in days),
        void_count=sum(day.void_count for day in days),
        totals=Totals(bytes(slots), tuple(valid), tuple(returned)),
    )
    try:
        duty.encode()
        fits = max(sum(valid), sum(returned)) <= 0xFFFFFFFF  # the answer's totals: 4 bytes each
    except ValueError:
        fits = False
    if not fits:
        raise Failure(Code.DEVICE_REFUSED, detail="DECLARE_DUTY totals too large")
    return duty


def _slot(slots: list[int], index: int) -> int:
    """The slot of ``index``, taking a free one for it where it has none."""
    if not index or (index not in slots and 0 not in slots):
        raise Failure(Code.DEVICE_GARBLED, detail="EF03 tax index")
    if index not in slots:
        slots[slots.index(0)] = index
    return slots.index(index)


def statistics_of(duty: DeclareDuty) -> dict[str, int]:
    """Counts, and amounts in fen: in all, and per tax index that has any (``valid_fen_1`` …)."""
    totals = duty.totals
    statistics = {
        "valid_count": duty.valid_count,
        "return_count": duty.return_count,
        "void_count": duty.void_count,
        "valid_fen": sum(totals.valid),
        "return_fen": sum(totals.returned),
    }
    for index, plus, minus in zip(totals.tax_index, totals.valid, totals.returned, strict=True):
        if index and (plus or minus):
            statistics[f"valid_fen_{index}"] = plus
            statistics[f"return_fen_{index}"] = minus
    return statistics
