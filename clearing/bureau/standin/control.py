"""``POST /_control``: what a test or the demo may change while the stand-in runs.

One JSON object, every part optional::

    {"modes":   {"slow_ms": 200, "down": true, "maintenance": true, "double": true,
                 "garbage": true},
     "faults":  {TAX_ID: [{"op": "WLCB", "mode": "lost", "times": 1}]},
     "filings": {TAX_ID: {"2026-02": "filed"}}}

Modes are set, faults are added, filings are changed from now on. The whole object is checked
before anything of it is done.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import httpx

from clearing.bureau.messages import Operation
from clearing.bureau.port import Filing
from clearing.bureau.standin.state import Modes, State, beijing
from devices.protocol.month import Month

if TYPE_CHECKING:
    from clearing.bureau.standin.rules import Rules

PATH = "/_control"


class FaultMode(enum.StrEnum):
    """What goes wrong with one call. Those that act do so before."""

    TIMEOUT = "timeout"  # no answer and no effect
    DOWN = "down"  # HTTP 503, no effect
    REFUSE = "refuse"  # a refusal of another kind, no effect
    LOST = "lost"  # acts, the answer is lost
    GARBAGE = "garbage"  # acts, the answer is no message
    KILLED = "killed"  # acts, then SIGKILL of the bureau before the answer


def send(address_url: str, **changes: Any) -> None:
    """Send ``modes=``, ``faults=``, ``filings=`` to a running stand-in. Raises httpx.HTTPError."""
    url = httpx.URL(address_url).join(PATH)
    httpx.post(url, json=changes, trust_env=False).raise_for_status()


def apply(changes: Mapping[str, Any], state: State, rules: Rules, now: dt.datetime) -> None:
    """Check and apply one control object. Raises ValueError, KeyError or TypeError, with nothing
    done, when any part of it is not understood."""
    if not isinstance(changes, dict) or changes.keys() - {"modes", "faults", "filings"}:
        raise ValueError("modes, faults, filings")
    modes = _modes(changes.get("modes", {}))
    faults = {tax_id: check_faults(added) for tax_id, added in changes.get("faults", {}).items()}
    filings = {
        tax_id: {Month.parse(period): Filing(value).value for period, value in periods.items()}
        for tax_id, periods in changes.get("filings", {}).items()
    }
    for tax_id in [*faults, *filings]:
        if rules.taxpayer(tax_id) is None:
            raise ValueError(f"no such taxpayer: {tax_id}")

    for name, value in modes.items():
        setattr(state.modes, name, value)
    for tax_id, added in faults.items():
        taxpayer = rules.taxpayer(tax_id)
        from_world = taxpayer.faults if taxpayer is not None else []
        state.faults[tax_id] = [*state.faults.get(tax_id, from_world), *added]
    for tax_id, periods in filings.items():
        at = beijing(now)
        state.filings.setdefault(tax_id, {}).update({p: (v, at) for p, v in periods.items()})


def _modes(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    known = {mode.name: type(mode.default) for mode in fields(Modes)}
    for name, value in wanted.items():
        if type(value) is not known.get(name):
            raise ValueError(f"no such mode: {name}={value!r}")
    if wanted.get("slow_ms", 0) < 0:
        raise ValueError("slow_ms")
    return wanted


def check_faults(added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The faults with ``times`` filled in. Raises ValueError or KeyError for one we cannot play."""
    known = {operation.id for operation in Operation}
    checked = []
    for fault in added:
        times = fault.get("times", 1)
        if fault["op"] not in known or type(times) is not int or times < 1:
            raise ValueError(f"no such fault: {fault}")
        checked.append({"op": fault["op"], "mode": FaultMode(fault["mode"]).value, "times": times})
    return checked
