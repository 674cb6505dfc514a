"""What is so in the state model, whatever anybody says: the disks, the bureau, who works, and what
people want.

Knows nothing of our tables and asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from devices.models import TaxDisk
from devices.protocol.catalogue.retries import BUREAU_DOWN_LIMIT
from tests.clearing.machine import CLEARED, REPORTED, TO_REPORT, PlayedMachine

BY_HAND, BY_ITSELF = "by_hand", "own"
#: What each intent may write; a wider one stands after a narrower.
WRITES = {"read": set[str](), "report": {"report"}, "report_and_clear": {"report", "clear"}}
#: What a worker may wait for, and with which code.
WAITS = [
    ("filing", "not_filed"),
    ("by_hand", "not_supported"),
    ("disk", "disk_absent"),
    ("retry", "no_answer"),
    ("window", "outside_window"),
    ("quiet", "quiet_hours"),
    ("confirm", "bureau_unreachable"),
    ("bureau", "bureau_unreachable"),
]


@dataclass
class TrueDisk:
    """A disk and what was written to it."""

    row: TaxDisk
    reported: bool = False
    cleared: bool = False
    clears: int = 0
    backups_before_clear: int = 0

    def control(self) -> dict[str, Any]:
        return CLEARED if self.cleared else REPORTED if self.reported else TO_REPORT


@dataclass
class Worker:
    """A played attempt: where it is in the procedure, and whether its permission lives."""

    machine: PlayedMachine
    disk: TrueDisk
    run_id: int
    attempt: str
    number: int = 0
    step: str = "claimed"
    granted: str = ""
    alive: bool = True
    read: dict[str, Any] = field(default_factory=dict)


@dataclass
class TrueBureau:
    """The bureau of all disks as it should be treated: ``paused`` says by whom, empty is not at
    all; ``probe`` is the one run that may ask it while it is paused by itself."""

    paused: str = ""
    probe: int | None = None
    failures: int = 0
    last_failed: int | None = None

    def heard(self, run: int, *, down: bool) -> None:
        """A living claim of this run asked the bureau."""
        if self.paused:
            if run == self.probe:
                self.probe = None
                if not down:
                    self.free()
        elif not down:
            self.failures, self.last_failed = 0, None
        elif run != self.last_failed:
            self.failures, self.last_failed = self.failures + 1, run
            if self.failures >= BUREAU_DOWN_LIMIT:
                self.paused, self.probe = BY_ITSELF, None

    def pause_by_hand(self) -> None:
        self.paused, self.probe = BY_HAND, None

    def free(self) -> None:
        self.paused, self.probe, self.failures, self.last_failed = "", None, 0, None

    def permits(self, run: int) -> bool:
        return not self.paused or run == self.probe


@dataclass
class TrueWishes:
    """What people want of each run: the widest of their clicks since they cancelled it last."""

    wanted: dict[int, str] = field(default_factory=dict)
    cancelled: set[int] = field(default_factory=set)

    def clicked(self, run: int, intent: str) -> None:
        if run in self.cancelled or run not in self.wanted:
            self.wanted[run] = intent
        self.cancelled.discard(run)
        self.wanted[run] = max(self.wanted[run], intent, key=list(WRITES).index)

    def permit(self, run: int, stage: str) -> bool:
        return run not in self.cancelled and stage in WRITES[self.wanted[run]]
