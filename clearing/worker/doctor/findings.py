"""What an examination finds: lines, each well, to be looked at, or broken, with its remedy."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clearing.worker.words import Words, padded, width_of
from devices.protocol.texts import N_


class Level(enum.IntEnum):
    """The value is the program's exit status."""

    OK = 0
    WARNING = 1
    ERROR = 2

    @property
    def label(self) -> str:
        return {Level.OK: N_("正常"), Level.WARNING: N_("注意"), Level.ERROR: N_("错误")}[self]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``check`` is a stable name; ``text`` and ``remedy`` are marked texts that
    ``values`` fill in. What is not well has a remedy."""

    check: str
    level: Level
    text: str
    remedy: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.remedy) != (self.level != Level.OK):
            raise ValueError(f"{self.check}: a remedy for what is not well, and only for that")


def ok(check: str, text: str, **values: Any) -> Finding:
    return Finding(check, Level.OK, text, "", values)


def warning(check: str, text: str, remedy: str, **values: Any) -> Finding:
    return Finding(check, Level.WARNING, text, remedy, values)


def error(check: str, text: str, remedy: str, **values: Any) -> Finding:
    return Finding(check, Level.ERROR, text, remedy, values)


def as_text(findings: Sequence[Finding], words: Words) -> str:
    width = max(width_of(words(level.label)) for level in Level)
    lines = []
    for finding in findings:
        label = padded(words(finding.level.label), width)
        lines.append(f"[{label}] {words(finding.text, **finding.values)}")
        if finding.remedy:
            lines.append(" " * (width + 3) + "→ " + words(finding.remedy, **finding.values))
    return "\n".join(lines)


def as_json(findings: Sequence[Finding], words: Words) -> dict[str, Any]:
    worst = max((finding.level for finding in findings), default=Level.OK)
    return {
        "level": worst.name.lower(),
        "findings": [
            {
                "check": finding.check,
                "level": finding.level.name.lower(),
                "text": words(finding.text, **finding.values),
                "remedy": words(finding.remedy, **finding.values),
            }
            for finding in findings
        ],
    }
