"""The one clearing procedure: from a plugged-in disk to a proven end, for every kind of disk.

It works unit by unit through identify → read → report → upload → read → filing gate → backup →
fetch → clear → read → confirm, and always starts from what the disk says and what is recorded.
It never decides that something is "cleared": the dates read back do (``devices.protocol.control``).
It never takes an irreversible step without the ledger's permission, and after one it reads before
it says anything. Knows no Django, no database, no card and no network: only its three ports.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from clearing.bureau.port import Bureau, Filing
from clearing.outcomes import DENIALS, check_disk_clock, outcome_of, quiet_for, said
from clearing.stages import Denied, Stages
from clearing.wire import End, FactKind, Order, Outcome
from devices.drivers.contract import ClearData, Identity, ReportPackage, TaxDisk, Unit
from devices.protocol.catalogue import CATALOGUE
from devices.protocol.control import (
    BEIJING,
    ControlData,
    beijing,
    is_cleared,
    is_cleared_all,
    is_reported,
    is_reported_all,
    open_period,
    to_json,
)
from devices.protocol.failures import Code, Failure, FailureClass
from devices.protocol.month import Month

T = TypeVar("T")

_READ_PAUSE = 0.5
# Answers of a disk to the report that only its dates can judge.
_NOTHING_TO_HAND_IN = {Code.PERIOD_DATA_EXIST, Code.NOTHING_TO_REPORT, Code.ALREADY_CLEARED}


class Ledger(Protocol):
    """The server as the procedure sees it."""

    def intend(self, stage: str, unit: Unit, period: Month) -> None:
        """Ask for permission for ``report``, for the ``upload`` of a package that was held, or
        for ``clear``. Raises Denied, or Failure."""

    def record(self, kind: FactKind, data: Mapping[str, Any]) -> None:
        """Note a fact; it reaches the server with the next call, and is never lost."""

    def hold(self, package: ReportPackage) -> None:
        """Make a package durable on this machine before it is sent, and note it as a fact."""

    def keep(self, backup: bytes, period: Month) -> None:
        """Store a backup at the server and have it verified. Raises Denied, or Failure."""


class Clock(Protocol):
    """The order's time, going on by the machine's monotonic clock; Beijing time."""

    def now(self) -> dt.datetime: ...


def run(
    order: Order,
    *,
    open_disk: Callable[[], TaxDisk],
    bureau: Bureau,
    ledger: Ledger,
    clock: Clock,
) -> Outcome:
    """Do what the order says with the disk in its slot; the outcome is to be settled.

    Raises nothing of the catalogue: every :class:`Failure` and :class:`Denied` becomes an outcome.
    """
    work = _Work(order, open_disk, bureau, ledger, clock)
    try:
        return work.run()
    except Denied as denied:
        return work.after_reading(DENIALS[denied.denial])
    except Failure as failure:
        return work.after_reading(outcome_of(failure))
    finally:
        work.close()


@dataclass(slots=True)
class _Work:
    order: Order
    open_disk: Callable[[], TaxDisk]
    bureau: Bureau
    ledger: Ledger
    clock: Clock
    _stages: Stages = field(init=False)
    _disk: TaxDisk | None = None
    # An irreversible step was permitted and nothing was read since.
    _in_doubt: bool = False
    # How far the disk's own clock was ahead when it was read last; empty where it has none.
    _ahead: dict[str, dt.timedelta] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._stages = Stages(self.ledger.record, self.clock.now)

    # -- the order of a month ---------------------------------------------------------------

    def run(self) -> Outcome:
        target = Month.parse(self.order.period)
        identity = self._identify()
        if identity.training:
            raise Failure(Code.TRAINING_DISK)
        if identity.retired:
            raise Failure(Code.RETIRED_DISK)
        controls = self._read()
        owed = self._confirm_owed(controls)
        if self.order.intent == "read":
            return Outcome(End.DONE)
        report_only = self.order.intent == "report"
        passes = max(1, target.minus(open_period(controls)) + 1) if controls else 1
        for _ in range(passes):
            if is_cleared_all(controls, target):
                break
            period = open_period(controls)
            if period > target:
                return Outcome(End.SUPERSEDED, detail=str(period))
            controls = self._report_period(period, controls)
            if report_only:
                if period < target:
                    raise Failure(Code.OLDEST_FIRST, detail=str(period))
                return Outcome(End.DONE)
            if (wait := self._filing_gate(period)) is not None:
                return wait
            controls, now_owed = self._clear_period(period, controls)
            owed = owed or now_owed
        if not is_cleared_all(controls, target):
            raise Failure(Code.CLEAR_NOT_SEEN, detail=str(target))
        return owed or Outcome(End.DONE)

    def _report_period(
        self, period: Month, controls: dict[str, ControlData]
    ) -> dict[str, ControlData]:
        """Report every unit that needs it, then see the date move on the disk."""
        units = self._use().units(sorted(controls))
        due = [unit for unit in units if self._needs_report(unit, period, controls)]
        if not due:
            return controls
        for unit in due:
            self._report_unit(unit, period, again=False)
        return self._read_until(lambda read: is_reported_all(read, period), Code.REPORT_NOT_SEEN)

    def _needs_report(self, unit: Unit, period: Month, controls: Mapping[str, ControlData]) -> bool:
        at = (str(period), unit.key)
        if any((held.period, held.unit) == at for held in self.order.held):
            return True
        if not all(is_reported(controls[kind], period) for kind in unit.types):
            return True
        # An intent to report whose outcome nobody saw, unless the bureau has answered it.
        open_ = self.order.report_open
        return (
            open_ is not None
            and (open_.period, open_.unit) == at
            and open_ not in self.order.reported
        )

    def _report_unit(self, unit: Unit, period: Month, *, again: bool) -> None:
        """Close the period on the disk, keep the package, hand it in. A held package goes first,
        as it is; ``again`` after the bureau said that it knows of no report."""
        at = (str(period), unit.key)
        held = next((h for h in self.order.held if (h.period, h.unit) == at), None)
        if held and not again:
            # Outside the stage of the upload: what is not permitted says nothing of the bureau.
            self._permitted("upload", unit, period, by_its_clock=False)
            package: ReportPackage | None = held.package()
        else:
            package = self._closed(unit, period)
        if package is None:
            return
        with self._stages.stage("upload", unit, period):
            answer = self._stages.bureau(partial(self.bureau.report, package))
            self._note_answer("WLCB", unit, period, answer)

    def _closed(self, unit: Unit, period: Month) -> ReportPackage | None:
        """The period closed on the disk; None when the disk says that there is nothing to hand in
        (it exists already, nothing was issued): the dates read back decide."""
        with self._stages.stage("report", unit, period):
            pending = self._stages.device(self._use().pending_uploads)
            if pending:
                raise Failure(Code.INVOICES_PENDING, detail=str(pending))
            self._permitted("report", unit, period)
            try:
                package = self._stages.device(partial(self._use().report, unit, period))
            except Failure as failure:
                if failure.code not in _NOTHING_TO_HAND_IN:
                    raise
                return None
            self.ledger.hold(package)
            return package

    def _filing_gate(self, period: Month) -> Outcome | None:
        """Marked filed → not due → the company's policy → the bureau's own status."""
        if str(period) in self.order.filed or str(period) in self.order.not_due:
            return None
        if self.order.policy_try:
            return None
        with self._stages.stage("filing", None, period):
            status = self._stages.bureau(lambda: self.bureau.status(period))
            self.ledger.record(
                FactKind.FILING, {"period": str(period), "filing": status.filing.value}
            )
            if status.filing in {Filing.FILED, Filing.NOT_DUE}:
                return None
            raise Failure(
                Code.COMPARISON_FAILED
                if status.filing == Filing.COMPARISON_FAILED
                else Code.NOT_FILED,
                detail=str(period),
            )

    def _clear_period(
        self, period: Month, controls: dict[str, ControlData]
    ) -> tuple[dict[str, ControlData], Outcome | None]:
        units = [
            unit
            for unit in self._use().units(sorted(controls))
            if not all(is_cleared(controls[kind], period) for kind in unit.types)
        ]
        self._back_up(period)
        for unit in units:
            lost = self._clear_unit(unit, period)
            if lost is not None:
                self._see_lost(unit, period, lost)
                if unit != units[-1]:  # the next one's backup must be newer than that read
                    self._back_up(period)
        controls = self._read_until(lambda read: is_cleared_all(read, period), Code.CLEAR_NOT_SEEN)
        return controls, self._confirm_all(units, period)

    def _see_lost(self, unit: Unit, period: Month, lost: Failure) -> None:
        """Whether a clear whose answer was lost stands on the disk. Raises what lost it where it
        does not: nothing was written, and it may be tried again."""

        def cleared(read: Mapping[str, ControlData]) -> bool:
            return all(kind in read and is_cleared(read[kind], period) for kind in unit.types)

        self._read_until(cleared, lost)

    def _back_up(self, period: Month) -> None:
        with self._stages.stage("backup", None, period):
            self.ledger.keep(self._stages.device(self._use().export), period)

    def _clear_unit(self, unit: Unit, period: Month) -> Failure | None:
        """Clear it. What lost the answer, where one was: written or not, only a read can tell."""
        data = self._fetch(unit, period)
        if data is None:  # the bureau says "already cleared": the read-back will tell
            return None
        for last in (False, True):
            try:
                with self._stages.stage("clear", unit, period):
                    puts_clock_right = bool(data.fields.get("szjkmw"))
                    self._permitted("clear", unit, period, by_its_clock=not puts_clock_right)
                    self._stages.device(partial(self._use().clear, unit, data))
                    return None
            except Failure as failure:
                if CATALOGUE[failure.code].cls == FailureClass.DONE:
                    return None
                if failure.outcome_unknown:
                    self._reopen()
                    return failure
                if last or failure.code != Code.CLEAR_DATA_MISMATCH:
                    raise
            again = self._fetch(unit, period)  # once more: the data did not fit the disk
            if again is None:
                return None
            data = again
        return None

    def _fetch(self, unit: Unit, period: Month) -> ClearData | None:
        """QLJS. "Not reported" leads back to the report, once; "already cleared" gives None."""
        for last in (False, True):
            try:
                with self._stages.stage("fetch", unit, period):
                    request = self._stages.device(lambda: self._use().clear_request(unit))
                    return self._stages.bureau(partial(self.bureau.clear_data, request, period))
            except Failure as failure:
                if failure.code == Code.ALREADY_CLEARED:
                    return None
                if last or failure.code != Code.NOT_REPORTED:
                    raise
            self._report_unit(unit, period, again=True)
            # The disk was changed by the report: the backup must be newer than that.
            self._read()
            self._back_up(period)
        return None

    # -- confirmations ----------------------------------------------------------------------

    def _confirm_all(self, units: Iterable[Unit], period: Month) -> Outcome | None:
        """Tell the bureau; what it does not answer is owed, and the disk stays cleared."""
        owed: Outcome | None = None
        for unit in units:
            try:
                with self._stages.stage("confirm", unit, period):
                    answer = self._stages.bureau(partial(self.bureau.confirm, unit, period))
                    self._note_answer("QLJSJGQR", unit, period, answer)
            except Failure as failure:
                owed = replace(said(failure), end=End.WAITING, reason="confirm", retry_after=60.0)
        return owed

    def _confirm_owed(self, controls: Mapping[str, ControlData]) -> Outcome | None:
        owed: Outcome | None = None
        for entry in self.order.confirm_owed:
            period, unit = Month.parse(entry.period), Unit(tuple(entry.unit.split("+")))
            if all(kind in controls and is_cleared(controls[kind], period) for kind in unit.types):
                owed = self._confirm_all([unit], period) or owed
        return owed

    def _note_answer(
        self, operation: str, unit: Unit, period: Month, answer: Mapping[str, str]
    ) -> None:
        self.ledger.record(
            FactKind.BUREAU,
            {"op": operation, "unit": unit.key, "period": str(period), "answer": dict(answer)},
        )

    # -- the disk ---------------------------------------------------------------------------

    def _identify(self) -> Identity:
        with self._stages.stage("identify"):
            identity = self._patiently(lambda: self._use().identify())
            self.ledger.record(
                FactKind.IDENTITY,
                {
                    "device_no": identity.device_no,
                    "tax_id": identity.tax_id,
                    "terminal_no": identity.terminal_no,
                    "kind": identity.kind,
                    "training": identity.training,
                },
            )
            if identity.device_no != self.order.device_no or (
                identity.tax_id and identity.tax_id != self.order.tax_id
            ):
                raise Failure(
                    Code.WRONG_DISK, detail=f"{identity.device_no} {identity.tax_id}".strip()
                )
            return identity

    def _read(self) -> dict[str, ControlData]:
        """Read the control data, note them, and take the doubt away."""
        with self._stages.stage("read"):
            began = self.clock.now()
            controls = self._patiently(lambda: self._use().read_control())
            if not controls:
                raise Failure(Code.DEVICE_GARBLED, detail="no invoice type")
            self.ledger.record(
                FactKind.CONTROL,
                {
                    "types": {kind: to_json(data) for kind, data in controls.items()},
                    "read_at": self.clock.now().isoformat(),
                },
            )
            self._ahead = {
                kind: beijing(data.device_clock).replace(tzinfo=BEIJING) - began
                for kind, data in controls.items()
                if data.device_clock is not None and data.clock_source == "device"
            }
        self._in_doubt = False
        return controls

    def _read_until(
        self, there: Callable[[dict[str, ControlData]], bool], otherwise: Code | Failure
    ) -> dict[str, ControlData]:
        """Read back; dates may follow some seconds later. Raises ``otherwise``."""
        until = time.monotonic() + self.order.limits.poll
        while True:
            controls = self._read()
            if there(controls):
                return controls
            if time.monotonic() >= until:
                raise otherwise if isinstance(otherwise, Failure) else Failure(otherwise)
            time.sleep(min(_READ_PAUSE, self.order.limits.poll / 4))

    def _patiently(self, call: Callable[[], T]) -> T:
        """A call that changes nothing, once more on a fresh connection when no answer came."""
        try:
            return self._stages.device(call)
        except Failure as failure:
            if failure.code != Code.NO_ANSWER:
                raise
            self._reopen()
            return self._stages.device(call)

    def _use(self) -> TaxDisk:
        if self._disk is None:
            self._disk = self.open_disk()
        return self._disk

    def _reopen(self) -> None:
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def close(self) -> None:
        self._reopen()
        self.bureau.close()

    # -- permission, doubt, time ------------------------------------------------------------

    def _permitted(
        self, stage: str, unit: Unit, period: Month, *, by_its_clock: bool = True
    ) -> None:
        """Everything that must hold before the disk is changed or its report goes out.
        ``by_its_clock``: the disk's own clock counts. Raises Failure or Denied."""
        now = self.clock.now()
        if seconds := quiet_for(now):
            raise Failure(Code.QUIET_HOURS, detail=f"{seconds:.0f}")
        if by_its_clock:
            for ahead in self._ahead.values():
                check_disk_clock(now, ahead)
        self.ledger.intend(stage, unit, period)
        self._in_doubt = True

    def after_reading(self, outcome: Outcome) -> Outcome:
        """The outcome, once the disk has been read after the last permission; else ``unknown``."""
        if self._in_doubt and outcome.end != End.LOST:
            self._reopen()
            try:
                self._read()
            except Failure:
                return replace(outcome, end=End.UNKNOWN, reason="", retry_after=None)
        return outcome
