"""One request from its bytes to what the caller gets, faults included.

Owns the order of things: what is wrong with the bureau, then the decision, then the durable state,
then the log, and only then the answer. One lock covers all but the waiting.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clearing.bureau.messages import Operation, Reply, Request, build_reply, parse_request
from clearing.bureau.refusals import Refusal, is_success
from clearing.bureau.standin.control import FaultMode, apply, check_faults
from clearing.bureau.standin.rules import Rules, refuse
from clearing.bureau.standin.state import Store, beijing
from devices.protocol.failures import Failure
from devices.simulator.world import World

BEIJING = dt.timezone(dt.timedelta(hours=8), "Asia/Shanghai")

GARBAGE = "<html><title>模拟: 网关错误</title><p>璁惧".encode() + b"\xff\xfe\x00"
"""A page where a message should be, in the wrong encoding."""

OTHER_REFUSAL = ("9199", "(模拟) 其他原因, 请到办税厅处理")
"""A refusal that no table knows."""


CONTROL = "_control"
"""The ``op`` of a change by the control endpoint in the log; its ``note`` is the change."""


class Ending(enum.Enum):
    """How a call ends when it is not answered."""

    HANG = "hang"
    """Nothing comes; the caller gives up."""
    DROP = "drop"
    """The connection is closed without an answer."""
    DIE = "die"
    """The process is killed."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and a body."""

    status: int
    body: bytes = b""


class Service:
    """The bureau behind the HTTP server; thread-safe. ``clock_offset`` in seconds."""

    def __init__(
        self,
        world: World,
        directory: Path,
        *,
        clock_offset: float = 0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        for taxpayer in world.taxpayers:
            check_faults(taxpayer.faults)
        self._store = Store(directory, world)
        self._rules = Rules(self._store.world, self._store.state)
        self._offset = dt.timedelta(seconds=clock_offset)
        self._sleep = sleep
        self._lock = threading.Lock()

    def now(self) -> dt.datetime:
        """The bureau's clock, Beijing time."""
        return dt.datetime.now(BEIJING) + self._offset

    def handle(self, document: bytes) -> Answer | Ending:
        """Work on one business document."""
        self._sleep((self._store.world.bureau_ms + self._store.state.modes.slow_ms) / 1000)
        with self._lock:
            if self._store.state.modes.down:
                return Answer(503)
            try:
                request = parse_request(document)
            except Failure:
                return Answer(400)
            if self._store.state.modes.maintenance:
                reply = refuse(request.operation, Refusal.MAINTENANCE)
                self._store.commit([self._entry(request, reply.code)], changed=False)
                return _sent(reply)
            return self._handle(request, self._take_fault(request))

    def control(self, body: bytes) -> Answer:
        """Change faults, modes and filings (see :mod:`.control`)."""
        with self._lock:
            try:
                changes = json.loads(body)
                apply(changes, self._store.state, self._rules, self.now())
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                return Answer(400, f"{type(error).__name__}: {error}\n".encode())
            entry = {"at": beijing(self.now()), "op": CONTROL, "note": changes}
            self._store.commit([entry], changed=True)
        return Answer(200, b"{}\n")

    def _handle(self, request: Request, fault: FaultMode | None) -> Answer | Ending:
        modes = self._store.state.modes
        match fault:
            case FaultMode.TIMEOUT:
                self._unworked(request, fault)
                return Ending.HANG
            case FaultMode.DOWN:
                self._unworked(request, fault)
                return Answer(503)
            case FaultMode.REFUSE:
                reply = Reply(request.operation, *OTHER_REFUSAL)
                self._store.commit([self._entry(request, reply.code, fault)], changed=True)
                return _sent(reply)
        reply = self._work(request, fault, times=2 if modes.double else 1)
        match fault:
            case FaultMode.LOST:
                return Ending.DROP
            case FaultMode.KILLED:
                return Ending.DIE
        if fault is FaultMode.GARBAGE or modes.garbage:
            return Answer(200, GARBAGE)
        return _sent(reply)

    def _work(self, request: Request, fault: FaultMode | None, *, times: int) -> Reply:
        """Decide, make it durable, write the log; the last reply."""
        rulings = [self._rules.rule(request, self.now()) for _ in range(times)]
        replies = [ruling.reply for ruling in rulings]
        wrote = request.operation is not Operation.STATUS and any(
            is_success(reply.code) for reply in replies
        )
        entries = [self._entry(request, r.reply.code, fault, r.note) for r in rulings]
        self._store.commit(entries, changed=wrote or fault is not None)
        return replies[-1]

    def _unworked(self, request: Request, fault: FaultMode) -> None:
        self._store.commit([self._entry(request, "", fault)], changed=True)

    def _take_fault(self, request: Request) -> FaultMode | None:
        """The next fault that waits for this taxpayer and operation; it is used up by one."""
        tax_id = request.disk.tax_id
        taxpayer = self._rules.taxpayer(tax_id)
        if taxpayer is None:
            return None
        waiting = self._store.state.faults.get(tax_id)
        if waiting is None:
            waiting = [dict(fault) for fault in taxpayer.faults]
        for fault in waiting:
            if fault["op"] == request.operation.id and fault.get("times", 1) > 0:
                fault["times"] = fault.get("times", 1) - 1
                self._store.state.faults[tax_id] = [f for f in waiting if f.get("times", 1) > 0]
                return FaultMode(fault["mode"])
        return None

    def _entry(
        self, request: Request, code: str, fault: FaultMode | None = None, note: str = ""
    ) -> dict[str, Any]:
        return {
            "at": beijing(self.now()),
            "op": request.operation.id,
            "device_no": request.disk.device_no,
            "tax_id": request.disk.tax_id,
            "period": str(request.period),
            "unit": request.unit.key if request.unit is not None else "",
            "code": code,
            "fault": fault or "",
            "note": note,
        }


def _sent(reply: Reply) -> Answer:
    return Answer(200, build_reply(reply))
