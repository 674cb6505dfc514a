"""失败处理: what needs a person, grouped by cause."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from agency.models import Company
from clearing.choices import FilingState
from clearing.selectors.board import Row, rows_of
from clearing.selectors.lines import DiskLine
from clearing.selectors.standing import Standing
from clearing.selectors.words import CLASSES, PASSWORD_CODES, Party, party_of
from clearing.states import Reason, RunState
from devices.protocol.catalogue import Entry, entry_of
from devices.protocol.failures import Code
from devices.protocol.month import Month


@dataclass(slots=True)
class Group:
    """One cause, and everything that stands still because of it.

    ``code`` is a code of the catalogue, or ``unknown`` / ``pin`` / ``by_hand`` for runs in an open
    state that asks for a person."""

    code: str
    title: str
    entry: Entry | None
    lines: list[tuple[Row, DiskLine]] = field(default_factory=list)
    raw: Counter[str] = field(default_factory=Counter)

    @property
    def class_text(self) -> str:
        return str(CLASSES[self.entry.cls]) if self.entry else ""

    @property
    def class_key(self) -> str:
        return str(self.entry.cls) if self.entry else "open"

    @property
    def party(self) -> Party:
        return party_of(self.entry.code, self.entry.cls) if self.entry else Party.US

    @property
    def companies(self) -> list[int]:
        return sorted({row.id for row, _line in self.lines})

    @property
    def runs(self) -> list[int]:
        """The failed runs that a retry takes."""
        return [line.failed.id for _row, line in self.lines if line.failed and not line.run]

    @property
    def raw_counts(self) -> list[tuple[str, int]]:
        return self.raw.most_common(5)

    @property
    def password(self) -> bool:
        """Whether a new password may end it."""
        return self.code in PASSWORD_CODES

    @property
    def pin(self) -> bool:
        """Whether a supervisor has to say what to do about a PIN."""
        return self.code in {Code.PIN_UNKNOWN, "pin"}

    @property
    def unlisted(self) -> bool:
        """Codes that nobody has explained yet: shown raw, for the supervisor."""
        return self.code in {Code.DEVICE_REFUSED, Code.BUREAU_REFUSED}


def groups(companies: QuerySet[Company], period: Month, today: dt.date) -> list[Group]:
    """The causes among ``companies``, the largest first; the number of queries is constant."""
    found: dict[str, Group] = {}
    for row in rows_of(companies, period, today):
        for line in row.disks:
            if cause_of(line):
                key, title, entry = _cause(line)
                group = found.setdefault(key, Group(key, title, entry))
                group.lines.append((row, line))
                if line.trouble is not None and line.trouble.raw:
                    group.raw[line.trouble.raw] += 1
    return sorted(found.values(), key=lambda group: (-len(group.lines), group.code))


def cause_of(line: DiskLine) -> str:
    """The key of the group that a disk belongs to; "" for one that needs no person."""
    return _cause(line)[0] if line.counts and line.standing == Standing.NEEDS else ""


def _cause(line: DiskLine) -> tuple[str, str, Entry | None]:
    if line.run is not None and line.run.state == RunState.UNKNOWN:
        return "unknown", str(RunState.UNKNOWN.label), None
    if line.run is not None and line.run.reason == Reason.BY_HAND:
        return "by_hand", str(Reason.BY_HAND.label), entry_of(Code.NOT_SUPPORTED)
    if line.run is not None:
        return "pin", str(Reason.PIN.label), entry_of(Code.PIN_HELD)
    failed = line.failed
    if failed is not None and failed.entry is not None:
        return failed.entry.code, _(failed.entry.title), failed.entry
    if line.filing == FilingState.COMPARISON_FAILED:
        entry = entry_of(Code.COMPARISON_FAILED)
        return entry.code, _(entry.title), entry
    return "other", failed.code if failed else "", None
