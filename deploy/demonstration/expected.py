"""What the simulated world says must come of each disk: data beside the world file.

Written once, with the world, from the scenario; read by the judge. It knows nothing of how our own
software works: no table, no state derived by it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.demonstration.places import write_private


@dataclass(frozen=True, slots=True)
class ExpectedDisk:
    """The end of one disk. Periods are ``YYYY-MM``, dates ISO texts.

    ``outcome``, ``reason``, ``code``: how its run ends or waits. ``reports`` and ``clears``: the
    periods that are declared and cleared on the disk *by us*, in order, each once. ``tries``: PIN
    tries left, ``tries_spent``: wrong ones that we tried. ``issue_deadline``,
    ``reported_through``, ``cleared_through``: what the disk says in the end. ``cleared_by``: who
    cleared the period of the window, empty when nobody has. ``units``: each of them is written once
    per period; a card has one without a name.
    """

    device_no: str
    tax_id: str
    company: str
    case: str
    outcome: str
    reason: str
    code: str
    reports: list[str]
    clears: list[str]
    issue_deadline: str
    reported_through: str
    cleared_through: str
    tries: int = 3
    tries_spent: int = 0
    cleared_by: str = ""
    kind: str = "ic_card"
    units: list[str] = field(default_factory=lambda: [""])

    @property
    def ending(self) -> str:
        """``done``, ``waiting(disk)`` …: the outcome as one word."""
        return ending(self.outcome, self.reason)


@dataclass(slots=True)
class Expected:
    """The whole expectation. ``window``: ``YYYY-MM``; ``diskless``: tax ids without any disk."""

    window: str
    period: str
    disks: list[ExpectedDisk] = field(default_factory=list)
    diskless: list[str] = field(default_factory=list)

    @property
    def companies(self) -> int:
        return len({disk.tax_id for disk in self.disks} | set(self.diskless))

    def save(self, path: Path) -> None:
        write_private(path, json.dumps(asdict(self), ensure_ascii=False, indent=1))

    @classmethod
    def load(cls, path: Path) -> Expected:
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["disks"] = [ExpectedDisk(**entry) for entry in raw["disks"]]
        return cls(**raw)


def ending(outcome: str, reason: str) -> str:
    return f"{outcome}({reason})" if reason else outcome
