"""Simulated component disks for tests: a driver over a disk in the test's own process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from devices.drivers.component import ComponentDisk
from devices.drivers.contract import ClearData, Unit
from devices.drivers.dates import Kind
from devices.protocol import business_xml
from devices.protocol.business_xml import Answer, Request
from devices.simulator import component_clear
from devices.simulator.component_disk import SimulatedComponentDisk
from devices.simulator.component_state import ComponentState
from devices.simulator.world import WorldDisk, WorldType
from tests.devices.cards import IN_WINDOW, INVOICES, KEY, NEXT_DEADLINE

NUMBERS = {Kind.BAIWANG: "661900000001", Kind.AISINO: "661800000001", Kind.UKEY: "661700000001"}
TYPES = {
    Kind.BAIWANG: ("004", "007", "026"),
    Kind.AISINO: ("004", "005", "007", "009"),
    Kind.UKEY: ("004", "007", "025"),
}
TAX_ID = "91440101MA5CA1B2X7"
PASSWORD = "Geheim-4711"
LIMITS = (10_000_000, 1_000_000_000, 100_000_000)
KINDS = list(NUMBERS)


def component_world_disk(kind: Kind, **changes: Any) -> WorldDisk:
    """A disk of period 2026-02, neither reported nor cleared; invoices of its first type."""
    facts: dict[str, Any] = {
        "device_no": NUMBERS[kind],
        "tax_id": TAX_ID,
        "taxpayer_name": "广州测试商贸有限公司",
        "machine": "m1",
        "slot": "C-01",
        "pin": PASSWORD,
        "kind": kind.value,
        "issue_deadline": "2026-03-16",
        "cleared_through": "2026-01-31",
        "reported_through": "2026-01-31",
        "types": [
            WorldType(found, invoices=INVOICES if index == 0 else [])
            for index, found in enumerate(TYPES[kind])
        ],
    }
    return WorldDisk(**{**facts, **changes})


@dataclass
class Loop:
    """A transport to a disk in this process. ``before`` sees each request and may raise or answer;
    ``after`` may change the answer's bytes. ``sent``: the ids of the requests."""

    body: SimulatedComponentDisk
    sent: list[str] = field(default_factory=list)
    documents: list[bytes] = field(default_factory=list)
    before: Callable[[Request], Answer | None] = lambda request: None
    after: Callable[[str, bytes], bytes] = lambda name, reply: reply
    closed: bool = False

    @property
    def address(self) -> str:
        return f"loop:{id(self)}"

    def operate(self, document: bytes, *, seconds: float) -> bytes:
        request = business_xml.parse_request(document)
        self.sent.append(request.operation.id)
        self.documents.append(document)
        answer = self.before(request)
        if answer is None:
            answer = self.body.work(request).answer
        return self.after(request.operation.id, business_xml.build_answer(answer))

    def close(self) -> None:
        self.closed = True


@dataclass
class ComponentBench:
    """A disk, the way to it, and the driver over both. ``asked``: how often a password was."""

    kind: Kind
    body: SimulatedComponentDisk
    loop: Loop
    disk: ComponentDisk
    password: list[str]

    def refuse(self, operation: str, code: str, text: str = "", **fields: str) -> None:
        """From now on ``operation`` is answered with ``code``, and the disk never sees it."""

        def before(request: Request) -> Answer | None:
            if request.operation.id != operation:
                return None
            return Answer(request.operation, code, text, fields)

        self.loop.before = before

    def clear_data(self, unit: Unit, deadline: dt.date = NEXT_DEADLINE) -> ClearData:
        fpjkmw = component_clear.make(KEY, self.body.state.device_no, unit.types, deadline, LIMITS)
        return ClearData(unit, {"fpjkmw": fpjkmw})

    def units(self) -> list[Unit]:
        return self.disk.units(TYPES[self.kind])


def component_bench(
    kind: Kind,
    *,
    now: Callable[[], dt.datetime] = lambda: IN_WINDOW,
    password: str = PASSWORD,
    device_no: str | None = None,
    tax_id: str = TAX_ID,
    lag: float = 0.0,
    **changes: Any,
) -> ComponentBench:
    state = ComponentState.of_world(component_world_disk(kind, **changes), now())
    body = SimulatedComponentDisk(state, KEY, now=now, lag=lag)
    loop = Loop(body)
    held = [password]
    disk = ComponentDisk(
        loop,
        kind=kind,
        device_no=NUMBERS[kind] if device_no is None else device_no,
        tax_id=tax_id,
        password=lambda: held[0],
    )
    return ComponentBench(kind, body, loop, disk, held)
