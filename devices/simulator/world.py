"""The simulated world: one file that feeds simulated disks and the stand-in bureau alike.

The file (JSON, UTF-8) says how things stand at the start; what happens afterwards lives in the
rack's and the bureau's own state. Everything in it is simulated (模拟).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class WorldTaxpayer:
    """A taxpayer as the bureau knows it.

    ``filings``: period ``YYYY-MM`` → a value of ``clearing.bureau.port.Filing``.
    ``past_deadline``: what the bureau says to a clear asked for after the disk's issue deadline:
    ``allow`` or ``refuse``.
    ``faults``: what goes wrong at the bureau for this taxpayer, each used up ``times`` times:
    ``{"op": "QLJS", "mode": "timeout" | "lost" | "refuse" | "garbage" | "down", "times": 1}``
    (timeout: no answer and no effect; lost: it acts, the answer is lost).
    """

    tax_id: str
    name: str
    bureau_code: str
    bureau_name: str
    filings: dict[str, str] = field(default_factory=dict)
    past_deadline: str = "allow"
    faults: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class WorldType:
    """One invoice type of a component disk at the start; an empty date is the disk's own.

    ``pending``: invoices issued offline and not uploaded, ``pending_fen`` their amount.
    ``invoices``: daily totals as in :class:`WorldDisk`.
    """

    invoice_type: str
    issue_deadline: str = ""
    cleared_through: str = ""
    reported_through: str = ""
    pending: int = 0
    pending_fen: int = 0
    invoices: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class WorldDisk:
    """A simulated disk at the start. ``kind``: ``ic_card``, ``baiwang``, ``aisino`` or ``ukey``.

    Dates are ISO texts. ``cleared_through``: last day of the last cleared period,
    ``reported_through``: last day of the last reported one (equal when nothing is open); a disk
    dormant for more than 90 days is one whose dates say so. ``pin``: the current PIN, 8 ASCII
    characters; of the component kinds the device password. ``tries``: tries left, 0 = locked.
    ``invoices``: daily totals of the open period(s): ``{"date", "valid", "returned", "voided",
    "valid_fen", "return_fen"}``, of the component kinds also ``"valid_tax_fen"`` and
    ``"return_tax_fen"`` (else 13 %).
    ``machine`` and ``slot``: where it is plugged in; an empty slot means it lies in a drawer.

    The rest is for the component kinds. ``types``: their invoice types; none: 007 with the disk's
    own dates and invoices. ``clock_skew_seconds``: how far its clock is ahead; ``clock_at``: what
    its clock shows when it is first plugged in (ISO, Beijing time), for midnights.
    ``offline_…``: its limits for issuing offline. ``quirks``: see ``component_state.Quirk``.
    """

    device_no: str
    tax_id: str
    taxpayer_name: str
    machine: str
    slot: str
    pin: str
    issue_deadline: str
    cleared_through: str
    reported_through: str
    kind: str = "ic_card"
    terminal_no: int = 0
    tries: int = 3
    training: bool = False
    invoices: list[dict[str, Any]] = field(default_factory=list)
    types: list[WorldType] = field(default_factory=list)
    retired: bool = False
    certificate_password: str = ""
    certificate_tries: int = 3
    clock_skew_seconds: float = 0
    clock_at: str = ""
    offline_hours: int = 72
    offline_count: int = 100
    offline_fen: int = 10_000_000
    quirks: list[str] = field(default_factory=list)


@dataclass(slots=True)
class World:
    """``key``: hex, 16 bytes, the master secret shared by simulated cards and stand-in bureau.
    ``stage_ms`` / ``bureau_ms``: how long a device stage and a bureau call take.
    ``ukey_lag_ms``: how long a UKey goes on showing the old report date after a report."""

    key: str
    stage_ms: int = 0
    bureau_ms: int = 0
    ukey_lag_ms: int = 4000
    taxpayers: list[WorldTaxpayer] = field(default_factory=list)
    disks: list[WorldDisk] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> World:
        raw = json.loads(path.read_text(encoding="utf-8"))
        raw["taxpayers"] = [WorldTaxpayer(**entry) for entry in raw["taxpayers"]]
        raw["disks"] = [
            WorldDisk(**{**entry, "types": [WorldType(**t) for t in entry.get("types", [])]})
            for entry in raw["disks"]
        ]
        return cls(**raw)
