"""The tax bureau as the clearing procedure sees it: one session per disk.

Errors leave a session only as :class:`devices.protocol.failures.Failure`; ``outcome_unknown`` is
set where the bureau may have acted although no answer came.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from devices.drivers.contract import ClearData, ClearRequest, ReportPackage, Unit
from devices.protocol.month import Month


class Filing(enum.StrEnum):
    """Where the VAT return of one taxpayer and period stands."""

    UNKNOWN = "unknown"
    NOT_FILED = "not_filed"
    NOT_DUE = "not_due"
    PAYMENT_DUE = "payment_due"
    FILED = "filed"
    COMPARISON_FAILED = "comparison_failed"


@dataclass(frozen=True, slots=True)
class DiskAddress:
    """Whose disk the session speaks for."""

    device_no: str
    tax_id: str
    terminal_no: int


@dataclass(frozen=True, slots=True)
class BureauStatus:
    """The answer to SBZTCX: what the bureau has on record for a taxpayer's disk and period."""

    reported: bool
    filing: Filing
    cleared: bool
    raw: Mapping[str, str] = field(default_factory=dict)


class Bureau(Protocol):
    """One session with the bureau of one disk."""

    def report(self, package: ReportPackage) -> Mapping[str, str]:
        """WLCB: hand in the closed period; the same package again is answered the same.

        Returns the bureau's answer (code, text and serial), kept as evidence."""

    def clear_data(self, request: ClearRequest, period: Month) -> ClearData:
        """QLJS. Refusals: not_reported, not_filed, comparison_failed, outside_window,
        past_deadline, already_cleared (after the confirm), bureau_refused (any other)."""

    def confirm(self, unit: Unit, period: Month) -> Mapping[str, str]:
        """QLJSJGQR: the clear stands on the disk. "Already confirmed" is success."""

    def status(self, period: Month) -> BureauStatus:
        """SBZTCX: report, filing and clear status of the period."""

    def close(self) -> None:
        """End the session; raises nothing."""
