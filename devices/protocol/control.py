"""Control data of a disk, per invoice type, and the rule that says what they mean.

``cleared`` and ``reported`` are proven by the dates on the disk alone; no clock takes part, so a
read after midnight or in the next month gives the same answer.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ControlData:
    """What a disk says of one invoice type; dates normalised by its driver, amounts in fen.

    ``device_clock`` is Beijing time; ``clock_source`` is ``device``, or ``host`` for a kind
    without a clock of its own.
    """

    invoice_type: str
    issue_deadline: dt.date
    period_start: dt.date
    period_end: dt.date
    last_reported_on: dt.date | None
    device_clock: dt.datetime | None = None
    clock_source: str = "device"
    pending_uploads: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)
    raw: Mapping[str, str] = field(default_factory=dict)
