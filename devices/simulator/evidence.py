"""What a simulated disk (模拟) really says, for the demo's judge and for tests.

Owns reading a rack's folder from outside, while the rack runs, was killed or is gone: the state is
what the card would tell, the log is every write it took. Both are always consistent (``store.py``).

Must never: change anything, or hand out a PIN (:func:`holds_pin` only compares).
"""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.simulator.card_state import CardState
from devices.simulator.component_state import ComponentState
from devices.simulator.store import DiskStore, StateStore

_CARD, _DISK = 16, 12


@dataclass(frozen=True, slots=True)
class DiskEvidence:
    """The disk as it stands. ``writes``: how many writes of each command it took.

    ``cleared_through`` and ``reported_through``: last day of the last cleared and the last declared
    period. ``tries``: tries left. ``pin_generation``: how often the PIN rolled. Of a component disk
    the dates are those of its worst type.
    """

    device_no: str
    tax_id: str
    issue_deadline: dt.date
    cleared_through: dt.date | None
    reported_through: dt.date | None
    tries: int
    pin_generation: int
    writes: Mapping[str, int]

    @property
    def declares(self) -> int:
        return self.writes.get("DECLARE_DUTY", 0) + self.writes.get("SJCB", 0)

    @property
    def clears(self) -> int:
        return self.writes.get("UPDATE_CONTROLS", 0) + self.writes.get("JKHC", 0)


@dataclass(frozen=True, slots=True)
class Write:
    """One line of the write log. ``period``: ``YYYY-MM`` that was declared or cleared, else empty.

    ``facts``: whatever else was noted (``deadline``, ``start``, ``end``, ``result``, ``tries``,
    ``types`` …).
    """

    n: int
    at: dt.datetime
    command: str
    period: str
    facts: Mapping[str, Any]


def read_state(folder: Path, device_no: str) -> DiskEvidence:
    """The disk's present state. Raises FileNotFoundError for a disk the rack never had."""
    state = _state(folder, device_no)
    if isinstance(state, ComponentState):
        types = list(state.types.values())
        return DiskEvidence(
            device_no=device_no,
            tax_id=state.tax_id,
            issue_deadline=min(found.issue_deadline for found in types),
            cleared_through=min(found.cleared_through for found in types),
            reported_through=min(found.reported_through for found in types),
            tries=state.tries,
            pin_generation=0,
            writes=dict(state.counts),
        )
    return DiskEvidence(
        device_no=device_no,
        tax_id=state.identity.tax_id,
        issue_deadline=state.controls.issue_deadline,
        cleared_through=state.cleared_through,
        reported_through=state.reported_through,
        tries=state.tries,
        pin_generation=state.generation,
        writes=dict(state.counts),
    )


def read_log(folder: Path, device_no: str, *, clock_offset: float = 0.0) -> list[Write]:
    """Every write the disk took, the oldest first; empty for one that took none.

    ``clock_offset``: the seconds that the component's clock was told to be ahead, which are taken
    off its times; a rack's clock is never ahead."""
    ahead = dt.timedelta(seconds=0.0 if len(device_no) == _CARD else clock_offset)
    return [_write(entry, ahead) for entry in _store(folder, device_no).read_log()]


def holds_pin(folder: Path, device_no: str, pin: bytes) -> bool:
    """Whether ``pin`` is the PIN or device password the disk would accept now."""
    state = _state(folder, device_no)
    held = state.password.encode() if isinstance(state, ComponentState) else state.pin
    return hmac.compare_digest(held, pin)


def devices_in(folder: Path) -> list[str]:
    """The device numbers of all disks a rack ever kept in ``folder``."""
    stems = (path.stem for path in folder.glob("*.json"))
    return sorted(stem for stem in stems if stem.isalnum() and len(stem) in (_CARD, _DISK))


def _store(folder: Path, device_no: str) -> DiskStore | StateStore[ComponentState]:
    """The store of a device number: 16 characters are a card, 12 a component disk."""
    if len(device_no) == _CARD:
        return DiskStore(folder, device_no)
    return StateStore(folder, device_no, ComponentState.from_json)


def _state(folder: Path, device_no: str) -> CardState | ComponentState:
    state = _store(folder, device_no).load()
    if state is None:
        raise FileNotFoundError(f"no simulated disk {device_no} in {folder}")
    return state


def _write(entry: Mapping[str, Any], ahead: dt.timedelta) -> Write:
    known = {"n", "at", "command", "period"}
    return Write(
        n=entry["n"],
        at=dt.datetime.fromisoformat(entry["at"]) - ahead,
        command=entry["command"],
        period=entry.get("period", ""),
        facts={name: value for name, value in entry.items() if name not in known},
    )
