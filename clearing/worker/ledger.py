"""The server as the procedure sees it: permission asked for, facts journaled, backups kept.

Owns the order of things around each call: a fact is on this machine's disk before it is mentioned
to anyone, everything not yet delivered rides along with the next call, and a permission counts from
before it was asked. A server that cannot be reached permits nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from clearing.stages import Denied
from clearing.wire import Denial, FactKind, Held, Order, Outcome
from clearing.worker.client import Refused, ServerClient, ServerError
from clearing.worker.gate import Gate, Passage
from clearing.worker.grant import Grant
from clearing.worker.journal import AttemptLog
from clearing.worker.pinbook import PinBook
from clearing.worker.pins import JournalPinStore
from clearing.worker.steady import steady
from clearing.worker.watch import SERVER, Watch
from devices.drivers.contract import Capabilities, ReportPackage, Unit
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

#: The least time a call to the server gets, however much an order scales its limits down.
_LEAST_WITHIN = 2.0
#: Calls to the server limit themselves; this only ends a process that hangs in one all the same.
_HUNG_SECONDS = 120.0
_GATE_PAUSE = 0.05


class ServerLedger:
    """The ledger of one attempt (``clearing.procedure.Ledger``)."""

    def __init__(
        self,
        order: Order,
        client: ServerClient,
        log: AttemptLog,
        book: PinBook,
        *,
        watch: Watch,
        gate: Gate,
        hold_seconds: float = 0.0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.grant = Grant()
        self.pins = JournalPinStore(order, log, book, self.grant)
        #: Set when the disk was opened.
        self.capabilities = Capabilities()
        #: A step was permitted and the disk was not read since.
        self.in_doubt = False
        #: Why the last permission was not given, for the one who looks into it.
        self.denial = ""
        self._order = order
        self._client = client
        self._log = log
        self._book = book
        self._watch = watch
        self._gate = gate
        self._hold_seconds = hold_seconds
        self._passage: Passage | None = None
        self._stopping = stopping
        self._within = max(_LEAST_WITHIN, order.limits.bureau)

    def remaining(self) -> float:
        """Seconds left of the permission in hand."""
        return self.grant.remaining()

    def intend(self, stage: str, unit: Unit, period: Month) -> None:
        """Ask for permission. Raises Denied; Failure for a wrong clock, an unusable PIN, or what
        the disk's kind cannot do.

        From here until the disk is read back nobody restarts what it hangs on."""
        self.grant.drop()
        if self._stopping():
            raise self._denied(Denied(Denial.LEASE_LOST, "the worker is stopping"))
        if not getattr(self.capabilities, "report" if stage == "upload" else stage):
            raise Failure(Code.NOT_SUPPORTED, detail=stage)
        self._pass_gate()
        try:
            self._ask(stage, unit, period)
        except BaseException:
            if not self.in_doubt:
                self._leave_gate()
            raise

    def _ask(self, stage: str, unit: Unit, period: Month) -> None:
        self._client.check_clock()
        rolls_pin = self.capabilities.rolls_pin and stage != "upload"  # that asks no disk
        generation = self.pins.current().generation if rolls_pin else None
        if generation is not None:
            self._journal(lambda: self._log.ask_roll(generation))
        asked_at = steady()
        facts = self._log.last_number
        try:
            with self._watch.call(SERVER + "intend", _HUNG_SECONDS):
                seconds = self._client.intend(
                    self._order.run_id,
                    self._order.attempt,
                    stage=stage,
                    unit=unit.key,
                    period=period,
                    rolls_pin=generation is not None,
                    facts=self._log.undelivered,
                    within=self._worth_asking(),
                )
        except Denied as denied:
            if generation is not None:
                self._journal(self._log.withdraw_roll)
            raise self._denied(denied) from None
        except ServerError as error:
            raise self._denied(_cut_off(error)) from None
        self._journal(lambda: self._log.mark_sent(facts))
        self.grant.take(asked_at, seconds)
        self.in_doubt = True
        self._client.check_clock()  # the answer brought a newer time

    def record(self, kind: FactKind, data: Mapping[str, Any]) -> None:
        """Journal a fact; it goes along with the next call. Raises Failure(machine_fault)."""
        self._journal(lambda: self._log.add(kind, data))
        if kind == FactKind.CONTROL:
            self.in_doubt = False
            self._leave_gate()

    def hold(self, package: ReportPackage) -> None:
        """Make a package durable; it comes back in an order's ``held`` until it is answered."""
        held = Held(
            str(package.period), package.unit.key, dict(package.fields), dict(package.statistics)
        )
        self._journal(lambda: self._log.add(FactKind.PACKAGE, asdict(held)))

    def keep(self, backup: bytes, period: Month) -> None:
        """Store a backup at the server. Raises Denied, Failure(backup_failed)."""
        facts = self._log.last_number
        try:
            with self._watch.call(SERVER + "keep", _HUNG_SECONDS):
                self._client.keep(
                    self._order.run_id,
                    self._order.attempt,
                    period=period,
                    backup=backup,
                    facts=self._log.undelivered,
                    within=self._within,
                )
        except Denied as denied:
            raise self._denied(denied) from None
        except ServerError as error:
            raise self._denied(_cut_off(error)) from None
        self._journal(lambda: self._log.mark_sent(facts))

    # -- the end of an attempt ----------------------------------------------------------------

    def settle(self, outcome: Outcome) -> bool:
        """Tell how it ended, everything else with it; False when the lease was lost.

        The outcome is journaled first: if this raises ServerError, it is delivered later."""
        self._leave_gate()
        self._log.tell_pin(self._book)
        self._log.end(outcome)
        with self._watch.call(SERVER + "settle", _HUNG_SECONDS):
            ours = self._client.settle(
                self._order.run_id,
                self._order.attempt,
                outcome,
                self._log.undelivered,
                within=self._within,
            )
        self._log.remove()
        return ours

    def release(self, detail: str) -> bool:
        """Give the run back; whether something was in doubt is the server's to tell."""
        self._leave_gate()
        self._log.tell_pin(self._book)
        self._log.end(None, detail)
        with self._watch.call(SERVER + "release", _HUNG_SECONDS):
            ours = self._client.release(
                self._order.run_id,
                self._order.attempt,
                self._log.undelivered,
                detail,
                within=self._within,
            )
        self._log.remove()
        return ours

    def _pass_gate(self) -> None:
        """Wait while the readers are seen to. Raises Denied."""
        if self._passage is not None:
            return
        self._passage = self._gate.pass_through(self._order.slot)
        if self._passage is None:
            with self._watch.call("gate", self._hold_seconds):
                self._wait_at_gate(steady() + self._hold_seconds)

    def _wait_at_gate(self, until: float) -> None:
        while (passage := self._gate.pass_through(self._order.slot)) is None:
            if self._stopping() or steady() >= until:
                detail = "held: the readers are being seen to"
                raise self._denied(Denied(Denial.LEASE_LOST, detail))
            time.sleep(_GATE_PAUSE)
        self._passage = passage

    def _leave_gate(self) -> None:
        if self._passage is not None:
            self._passage.leave()
            self._passage = None

    def _denied(self, denied: Denied) -> Denied:
        self.denial = f"{denied.denial.value} {denied.detail}".strip()
        return denied

    def _worth_asking(self) -> float:
        """A permission that comes later than this is too short for the command it is for."""
        limits = self._order.limits
        return max(_LEAST_WITHIN, limits.grant - limits.call)

    def _journal(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise Failure(Code.MACHINE_FAULT, detail=f"journal: {error.strerror}") from None


def _cut_off(error: ServerError) -> Denied:
    """No usable answer is no permission; the attempt is given back, the server knows its state."""
    detail = f"HTTP {error.status}" if isinstance(error, Refused) else f"no answer ({error})"
    return Denied(Denial.LEASE_LOST, detail)
