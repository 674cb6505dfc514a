"""Fakes behind the procedure's three ports: each keeps what it was told and counts its writes.

The fake disk has the simplest honest behaviour: a report moves ``last_reported_on``, a clear with
data of its period moves the deadline and opens the next period. Faults are put in by name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clearing.bureau.port import BureauStatus, Filing
from clearing.stages import Denied
from clearing.wire import Denial, FactKind, Limits, Order
from devices.drivers.contract import (
    Capabilities,
    ClearData,
    ClearRequest,
    Identity,
    ReportPackage,
    Unit,
)
from devices.protocol.control import ControlData
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

PERIOD = Month(2026, 10)
BEFORE = PERIOD.plus(-1)
NOW = dt.datetime(2026, 11, 9, 10, 12, tzinfo=dt.timezone(dt.timedelta(hours=8)))


def order(**fields: Any) -> Order:
    values: dict[str, Any] = {
        "run_id": 1,
        "attempt": "a",
        "intent": "report_and_clear",
        "period": str(PERIOD),
        "now": NOW.isoformat(),
        "slot": "A-01",
        "device_no": "6619000000000001",
        "tax_id": "91420100MA00000017",
        "terminal_no": 0,
        "kind": "ic_card",
        "bureau_url": "",
        "limits": Limits(poll=0.05),
        **fields,
    }
    return Order(**values)


@dataclass
class FixedClock:
    at: dt.datetime = NOW

    def now(self) -> dt.datetime:
        return self.at


@dataclass
class FakeDisk:
    """One disk; ``types`` are worked in one unit each. ``before``/``after`` a call: a fault."""

    types: tuple[str, ...] = ("025",)
    identity: Identity = field(
        default_factory=lambda: Identity(
            "6619000000000001", "91420100MA00000017", "虚构", "ic_card"
        )
    )
    reported: Month = BEFORE
    cleared: Month = BEFORE
    pending: int = 0
    writes: list[str] = field(default_factory=list)
    opened: int = 0
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    after: dict[str, Callable[[], None]] = field(default_factory=dict)
    cleared_types: dict[str, Month] = field(default_factory=dict)
    clock: dt.datetime | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def _fault(self, when: Mapping[str, Callable[[], None]], call: str) -> None:
        if call in when:
            when[call]()

    def open(self) -> FakeDisk:
        self.opened += 1
        return self

    def identify(self) -> Identity:
        self._fault(self.before, "identify")
        return self.identity

    def units(self, types: Sequence[str]) -> list[Unit]:
        return [Unit((kind,)) for kind in types]

    def read_control(self) -> dict[str, ControlData]:
        self._fault(self.before, "read")
        found = {}
        for kind in self.types:
            cleared = self.cleared_types.get(kind, self.cleared)
            found[kind] = ControlData(
                invoice_type=kind,
                issue_deadline=cleared.plus(2).first + dt.timedelta(days=14),
                period_start=cleared.plus(1).first,
                period_end=cleared.plus(1).last,
                last_reported_on=self.reported.plus(1).first,
                device_clock=self.clock,
                clock_source="host" if self.clock is None else "device",
            )
        return found

    def pending_uploads(self) -> int:
        return self.pending

    def export(self) -> bytes:
        self._fault(self.before, "export")
        return b'{"disk":"all of it"}'

    def report(self, unit: Unit, period: Month) -> ReportPackage:
        self._fault(self.before, "report")
        self.writes.append(f"report {unit.key} {period}")
        self.reported = max(self.reported, period)
        self._fault(self.after, "report")
        return ReportPackage(unit, period, {"fphz": f"{unit.key}-{period}"}, {"count": 3})

    def clear_request(self, unit: Unit) -> ClearRequest:
        self._fault(self.before, "clear_request")
        return ClearRequest(unit, {"qtxx": "copy time"})

    def clear(self, unit: Unit, data: ClearData) -> None:
        self._fault(self.before, "clear")
        self.writes.append(f"clear {unit.key} {data.fields['period']}")
        self.cleared_types[unit.key] = Month.parse(data.fields["period"])
        self._fault(self.after, "clear")

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class FakeBureau:
    """Answers like a willing bureau; ``refuse`` maps an operation to failures, one per call."""

    filing: Filing = Filing.FILED
    reported: set[str] = field(default_factory=set)
    confirmed: set[str] = field(default_factory=set)
    refuse: dict[str, list[Failure]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    clock_data: str = ""

    def _call(self, operation: str, key: str) -> None:
        self.calls.append(f"{operation} {key}")
        if self.refuse.get(operation):
            raise self.refuse[operation].pop(0)

    def report(self, package: ReportPackage) -> Mapping[str, str]:
        key = f"{package.unit.key} {package.period}"
        self._call("WLCB", key)
        self.reported.add(key)
        return {"code": "0", "fphz": package.fields["fphz"]}

    def clear_data(self, request: ClearRequest, period: Month) -> ClearData:
        key = f"{request.unit.key} {period}"
        self._call("QLJS", key)
        if key not in self.reported:
            raise Failure(Code.NOT_REPORTED)
        fields = {"fpjkmw": "00", "szjkmw": self.clock_data, "period": str(period)}
        return ClearData(request.unit, fields)

    def confirm(self, unit: Unit, period: Month) -> Mapping[str, str]:
        self._call("QLJSJGQR", f"{unit.key} {period}")
        self.confirmed.add(f"{unit.key} {period}")
        return {"code": "0"}

    def status(self, period: Month) -> BureauStatus:
        self._call("SBZTCX", str(period))
        return BureauStatus(reported=True, filing=self.filing, cleared=False)

    def close(self) -> None:
        """No session to end."""


@dataclass
class FakeLedger:
    """Grants everything but what ``deny`` names; keeps facts, packages and backups in order."""

    deny: dict[str, Denial] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    facts: list[tuple[FactKind, Mapping[str, Any]]] = field(default_factory=list)

    def intend(self, stage: str, unit: Unit, period: Month) -> None:
        if stage in self.deny:
            raise Denied(self.deny[stage])
        self.log.append(f"granted {stage} {unit.key} {period}")

    def record(self, kind: FactKind, data: Mapping[str, Any]) -> None:
        self.facts.append((kind, data))
        if kind == FactKind.CONTROL:
            self.log.append("read")

    def hold(self, package: ReportPackage) -> None:
        self.log.append(f"held {package.unit.key} {package.period}")

    def keep(self, backup: bytes, period: Month) -> None:
        self.log.append(f"backup {period}")

    def stages(self) -> list[str]:
        return [str(data["stage"]) for kind, data in self.facts if kind == FactKind.STAGE]
