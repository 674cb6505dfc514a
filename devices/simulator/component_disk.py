"""The simulated component disk (模拟): answers business requests as protocol-component.md says.

Owns the disk's behaviour per kind: what is refused with which sign, what a report and a clear
change, how its dates are written. It is pure: state in, answer out, and a note of every write;
nothing is kept here and nothing waits.

Must never: note a password, or change its state for a request it refuses (a wrong password
excepted: that costs a try). It counts its writes so that "twice" can be seen.
"""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from devices.drivers.component_units import units_of
from devices.drivers.dates import Kind
from devices.protocol import envelope
from devices.protocol.business_answers import RETIRED_MARK, TRAINING_MARK
from devices.protocol.business_xml import Answer, Operation, Request
from devices.protocol.control import BEIJING
from devices.protocol.iccard_layouts import ControlFile
from devices.protocol.month import Month
from devices.simulator import component_clear, component_fields, crypto
from devices.simulator.component_signs import Sign, wrong_certificate_password, wrong_password
from devices.simulator.component_state import (
    MAX_TRIES,
    ComponentState,
    Quirk,
    TypeState,
)

OK = "00000000"

#: No operation that changes a disk with this quirk around midnight (706).
_AFTER_MIDNIGHT = dt.timedelta(minutes=5)
_BEFORE_MONTH_END = dt.timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Worked:
    """The answer, and the write it stands for: a line of the write log, or None."""

    answer: Answer
    write: dict[str, Any] | None = None


class Refused(Exception):
    """Ends a request with a return code; ``fields`` go along."""

    def __init__(self, code: str, text: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.fields = fields or {}


class SimulatedComponentDisk:
    """One disk. ``state`` is replaced, never changed, when something is written.

    ``lag``: seconds for which a UKey goes on showing its old report date.
    """

    def __init__(
        self,
        state: ComponentState,
        master_key: bytes,
        *,
        now: Callable[[], dt.datetime],
        lag: float = 4.0,
    ) -> None:
        self.state = state
        self.kind = Kind(state.kind)
        self._key = master_key
        self._now = now
        self._lag = lag
        self._write: dict[str, Any] | None = None

    def clock(self) -> dt.datetime:
        """What the disk takes for now, Beijing time."""
        return (self._now() + dt.timedelta(seconds=self.state.skew)).astimezone(BEIJING)

    def work(self, request: Request) -> Worked:
        """One request. Any request gets an answer."""
        self._write = None
        try:
            answer = self._perform(request)
        except Refused as refused:
            answer = Answer(request.operation, refused.code, refused.text, refused.fields)
        return Worked(answer, self.take_write())

    def _perform(self, request: Request) -> Answer:
        match request.operation:
            case Operation.DEVICE_NO:
                return self._identity(request)
            case Operation.SERVER_PARAMETERS:
                return self._said(request)
            case Operation.SERVER_KEY:
                self.check_certificate(request.fields.get("keypwd", ""))
                return self._said(request, self._who())
            case Operation.SERVER_CONTROL:
                return self._control(request)
        self._check_password(request)
        match request.operation:
            case Operation.INFO:
                return self._said(request, component_fields.info(self.state, self.clock()))
            case Operation.CONTROL:
                return self._control(request)
            case Operation.PENDING:
                found = self.state.types[self._type(request)]
                return self._said(request, component_fields.pending(found, self.clock()))
            case Operation.OTHER:
                return self._said(request, {"sksbxx": self._other(request)})
            case Operation.STATISTICS:
                return self._statistics(request)
            case Operation.COPY:
                return self._copy(request)
            case Operation.WRITE:
                return self._take_clear_data(request)
        raise self._refusal(Sign.NO_SUCH_OPERATION)

    # --- who may ask -----------------------------------------------------------------------------

    def check_certificate(self, password: str) -> None:
        """The certificate password, for 20002 and OperateNet; a wrong one costs a try."""
        state = self.state
        if state.certificate_tries == 0:
            raise Refused(wrong_certificate_password(0), "(模拟) 证书口令已锁死")
        if not hmac.compare_digest(password.encode(), state.certificate_password.encode()):
            tries = state.certificate_tries - 1
            self._commit(
                replace(state, certificate_tries=tries), "CERTIFICATE", result="wrong", tries=tries
            )
            raise Refused(wrong_certificate_password(tries), "(模拟) 证书口令错误")
        if state.certificate_tries < MAX_TRIES:
            self._commit(replace(state, certificate_tries=MAX_TRIES), "CERTIFICATE", result="right")

    def take_write(self) -> dict[str, Any] | None:
        """The write that the last request or :meth:`check_certificate` made, once."""
        write, self._write = self._write, None
        return write

    def _check_password(self, request: Request) -> None:
        state = self.state
        asked = request.fields.get("sksbbh", state.device_no)
        if asked != state.device_no or request.fields.get("nsrsbh", state.tax_id) != state.tax_id:
            raise self._refusal(Sign.FOREIGN)
        if state.tries == 0:
            raise self._refusal(Sign.LOCKED)
        given = request.fields.get("sksbkl", "")
        if not hmac.compare_digest(given.encode(), state.password.encode()):
            tries = state.tries - 1
            self._commit(replace(state, tries=tries), "PASSWORD", result="wrong", tries=tries)
            if tries == 0:
                raise self._refusal(Sign.LOCKED)
            raise Refused(wrong_password(self.kind, tries), "(模拟) 口令错误")
        # One request, one write: the counter goes back with the one that changes nothing else.
        if state.tries < MAX_TRIES and request.operation is Operation.INFO:
            self._commit(replace(state, tries=MAX_TRIES), "PASSWORD", result="right")

    # --- reading ---------------------------------------------------------------------------------

    def _identity(self, request: Request) -> Answer:
        marks = [TRAINING_MARK] * self.state.training + [RETIRED_MARK] * self.state.retired
        return self._said(request, {**self._who(), "qtxx": ",".join(marks)})

    def _who(self) -> dict[str, str]:
        return {"sksbbh": self.state.device_no, "bspbh": ""}

    def _control(self, request: Request) -> Answer:
        found = self._type(request)
        fields = component_fields.control(
            self.state, found, self._shown_report(self.state.types[found])
        )
        return self._said(request, fields)

    def _shown_report(self, found: TypeState) -> dt.date:
        """The last reported day as the disk shows it: a UKey's follows its report slowly."""
        if self.kind is not Kind.UKEY or not found.reported_at:
            return found.reported_through
        age = self._now() - dt.datetime.fromisoformat(found.reported_at)
        late = age < dt.timedelta(seconds=self._lag)
        return found.reported_before if late else found.reported_through

    def _other(self, request: Request) -> str:
        types = self.state.types.values()
        if request.fields.get("xxlx") == "0":
            return f"{min(found.issue_deadline for found in types):%Y%m%d}235959"
        return max((t.reported_at for t in types), default="") or f"{self.clock():%Y%m%d%H%M%S}"

    def _statistics(self, request: Request) -> Answer:
        found = self._type(request)
        try:
            first = dt.datetime.strptime(request.fields.get("qsrq", "")[:8], "%Y%m%d").date()
            last = dt.datetime.strptime(request.fields.get("zzrq", "")[:8], "%Y%m%d").date()
        except ValueError:
            raise self._refusal(Sign.OUTSIDE) from None
        group = component_fields.statistics(self.state.types[found], first, last)
        return Answer(request.operation, OK, "", {"fplxdm": found}, (group,))

    # --- SJCB ------------------------------------------------------------------------------------

    def _copy(self, request: Request) -> Answer:
        types = self._unit(request)
        self._quiet()
        mine = [self.state.types[found] for found in types]
        if any(found.pending for found in self._watched(mine)):
            raise self._refusal(Sign.PENDING)
        period = min(found.open_period for found in mine)
        due = [t for t in types if self.state.types[t].open_period == period]
        if all(self.state.types[found].is_reported(period) for found in due):
            return self._again(request, due, period)
        if Month.of(self.clock()) < period.window:
            cleared = any(found.accepted for found in mine)
            raise self._refusal(Sign.NOTHING if cleared else Sign.OUTSIDE)
        self._report(due, period)
        if Quirk.EMPTY_HAS_NO_SUMMARY in self.state.quirks and self._is_empty(due, period):
            raise self._refusal(Sign.NOTHING)
        return self._said(request, self._summary(due, period))

    def _report(self, types: Sequence[str], period: Month) -> None:
        at = self._now().isoformat()
        reported = {
            found: replace(
                self.state.types[found],
                reported_through=period.last,
                reported_before=self._shown_report(self.state.types[found]),
                reported_at=at,
            )
            for found in types
        }
        state = replace(self.state, types={**self.state.types, **reported})
        self._commit(state, "SJCB", period=str(period), types="+".join(types))

    def _again(self, request: Request, types: Sequence[str], period: Month) -> Answer:
        """Reported and not cleared: the summary is given again, nothing changes."""
        kept = Quirk.KEEPS_NO_SUMMARY not in self.state.quirks
        summary = self._summary(types, period) if kept else {}
        code = Sign.EXISTS.of(self.kind)
        if envelope.is_success(code):
            return self._said(request, summary)
        raise Refused(code, Sign.EXISTS.text, summary)

    def _summary(self, types: Sequence[str], period: Month) -> dict[str, str]:
        return component_fields.summary(self.state, types, period, self._key)

    def _is_empty(self, types: Sequence[str], period: Month) -> bool:
        return not any(self.state.types[t].within(period.first, period.last) for t in types)

    # --- JKHC ------------------------------------------------------------------------------------

    def _take_clear_data(self, request: Request) -> Answer:
        """Only newer control data of this disk and unit, and only for what is reported."""
        types = self._unit(request)
        self._quiet()
        data = request.fields.get("fpjkmw", "")
        controls = self._opened(data)
        if controls.tax_index != component_clear.mark_of(types):
            raise self._refusal(Sign.OTHER_UNIT)
        mine = [self.state.types[found] for found in types]
        if all(found.accepted == data for found in mine):
            raise self._refusal(Sign.REPEATED)
        if any(controls.issue_deadline < found.issue_deadline for found in mine):
            raise self._refusal(Sign.OLDER)
        clears = self._clears(types, controls.issue_deadline)
        through = clears.last if clears else dt.date.min
        szjkmw = request.fields.get("szjkmw", "")
        clock = component_clear.open_clock(self._key, self.state.device_no, szjkmw)
        written = {
            found: replace(
                self.state.types[found],
                issue_deadline=controls.issue_deadline,
                cleared_through=max(through, self.state.types[found].cleared_through),
                accepted=data,
            )
            for found in types
        }
        state = replace(self.state, types={**self.state.types, **written})
        if clock is not None:
            state = replace(state, skew=(clock - self._now()).total_seconds())
        self._commit(
            state,
            "JKHC",
            period=str(clears or ""),
            types="+".join(types),
            deadline=controls.issue_deadline.isoformat(),
        )
        return self._said(request)

    def _opened(self, data: str) -> ControlFile:
        try:
            number = component_clear.card_number(self.state.device_no)
            return crypto.open_clear_data(self._key, number, bytes.fromhex(data))
        except ValueError:  # Forged is one
            raise self._refusal(Sign.NOT_MINE) from None

    def _clears(self, types: Sequence[str], deadline: dt.date) -> Month | None:
        """The period that data with this deadline clear; None for a holiday extension, which moves
        the deadline within the window's month and clears nothing."""
        mine = [self.state.types[found] for found in types]
        if all(Month.of(deadline) == Month.of(found.issue_deadline) for found in mine):
            return None
        period = min(found.open_period for found in mine)
        if not all(found.is_reported(period) for found in mine):
            raise self._refusal(Sign.NOT_REPORTED)
        if Month.of(deadline) > period.window.plus(1):
            raise self._refusal(Sign.OLDEST_FIRST)
        if Month.of(deadline) <= period.window:
            raise self._refusal(Sign.OLDER)
        if self.kind is Kind.AISINO:
            others = [found for found in self.state.types.values() if found not in mine]
            if any(not found.is_reported(period) for found in others):
                raise self._refusal(Sign.OTHER_TYPE)
        return period

    # --- rules -----------------------------------------------------------------------------------

    def _type(self, request: Request) -> str:
        found = request.fields.get("fplxdm", "")
        if found not in self.state.types:
            raise self._refusal(Sign.NO_SUCH_TYPE)
        return found

    def _unit(self, request: Request) -> tuple[str, ...]:
        """Exactly one unit of this kind: what it reports and clears together."""
        types = envelope.split_types(request.fields.get("fplxdm", ""))
        if types not in [unit.types for unit in units_of(self.kind, list(self.state.types))]:
            raise self._refusal(Sign.NO_SUCH_TYPE)
        return types or ()

    def _watched(self, mine: Sequence[TypeState]) -> Sequence[TypeState]:
        """Whose pending invoices stop a report: an Aisino disk looks at all its types."""
        return list(self.state.types.values()) if self.kind is Kind.AISINO else mine

    def _quiet(self) -> None:
        """With the quirk: nothing is changed in the first minutes of a day and the last of a
        month."""
        if Quirk.DATE_CHANGE not in self.state.quirks:
            return
        clock = self.clock()
        midnight = clock.replace(hour=0, minute=0, second=0, microsecond=0)
        turn = dt.datetime.combine(Month.of(clock).plus(1).first, dt.time(), BEIJING)
        if clock - midnight < _AFTER_MIDNIGHT or turn - clock <= _BEFORE_MONTH_END:
            raise self._refusal(Sign.DATE_CHANGE)

    def _refusal(self, sign: Sign) -> Refused:
        return Refused(sign.of(self.kind), sign.text)

    def _said(self, request: Request, fields: Mapping[str, str] | None = None) -> Answer:
        return Answer(request.operation, OK, "(模拟) 成功", fields or {})

    def _commit(self, state: ComponentState, command: str, **facts: Any) -> None:
        """Make ``state`` the disk's, and note the write: number, time, command, and the facts."""
        number = state.written + 1
        self._write = {"n": number, "at": self._now().isoformat(), "command": command, **facts}
        counts = {**state.counts, command: state.counts.get(command, 0) + 1}
        self.state = replace(state, written=number, counts=counts, last_write=dict(self._write))
