"""Labels for slots: a sheet to print, cut and stick beside each reader.

A label says the slot's name and the device number of the disk that belongs there. The machine does
not know the companies, so there is a line to write one on.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from clearing.worker.showing import DEVICE_NO, SLOT
from clearing.worker.words import Words, padded, width_of
from devices.protocol.texts import N_

_WIDTH = 34
_COMPANY = N_("客户")


@dataclass(frozen=True, slots=True)
class Label:
    """``device_no`` is empty where no disk was seen."""

    slot: str
    device_no: str


def labels_of(found: Mapping[str, Mapping[str, Any]], only: Sequence[str] = ()) -> list[Label]:
    """One label for each slot; a slot that is named and was not seen gets one, too."""
    slots = list(only) or sorted(found)
    return [Label(slot, found.get(slot, {}).get("device_no", "")) for slot in slots]


def text_sheet(labels: Sequence[Label], words: Words) -> str:
    """Boxes to cut out, one below the other."""
    edge = "+" + "-" * _WIDTH + "+"
    lines = [edge]
    for label in labels:
        rows = (
            f"{words(SLOT)}  {label.slot}",
            f"{words(DEVICE_NO)}  {label.device_no}",
            f"{words(_COMPANY)}  ",
        )
        for row in rows:
            filled = row + "_" * (_WIDTH - 4 - width_of(row)) if row.endswith("  ") else row
            lines.append("|" + padded(f"  {filled}", _WIDTH) + "|")
        lines.append(edge)
    return "\n".join(lines)


def html_sheet(labels: Sequence[Label], machine: str, words: Words) -> str:
    """A page of its own, three labels in a row, that prints as it looks."""
    cells = "\n".join(
        f"<li><b>{html.escape(label.slot)}</b>"
        f"<span>{html.escape(words(DEVICE_NO))} {html.escape(label.device_no)}</span>"
        f"<i>{html.escape(words(_COMPANY))}</i></li>"
        for label in labels
    )
    title = html.escape(words(N_("盘位标签 {machine}"), machine=machine))
    return f"""<!doctype html>
<html lang="{words.language}">
<meta charset="utf-8">
<title>{title}</title>
<style>
@page {{ margin: 10mm }}
body {{ font-family: sans-serif; margin: 0 }}
ul {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: 0; padding: 0; margin: 0 }}
li {{ list-style: none; border: 1px dashed #888; padding: 3mm; break-inside: avoid }}
b, span, i {{ display: block }}
b {{ font-size: 22pt }}
span {{ font: 10pt monospace; min-height: 5mm }}
i {{ font-style: normal; font-size: 10pt; border-bottom: 1px solid #000; margin-top: 5mm }}
</style>
<ul>
{cells}
</ul>
</html>"""
