"""A disk behind its vendor's component: 税控盘, 金税盘 and UKey-like, over any transport.

Owns the month of a component disk as in protocol-component.md: SKSBBH first in every session and
without a password, then reading, ``SKSBQTYXXCX`` → ``TJXXCX`` → ``SJCB`` for a report, ``JKHC`` for
a clear. What a kind treats together is in ``component_units``, by how many days it is off in
``dates``.

Must never: send the device password before this call's SKSBBH answered with the expected number
(each call asks anew, for a disk can be swapped between two of them), send it again after the disk
refused it, close a period other than the one it was told to, repeat
an operation that changes the disk, or hide that one may have taken effect.

◇ Choices. The lock date (SKSBQTYXXCX 0) is the ``qtxx`` of WLCB, as in public middleware; ``fpmx``,
``fpdxx`` and ``szfphz`` go along where the disk gave any. SJCB names no period, so the dates are
read first. Answers 202/1086 carry the summary again. 195/09d11b without one, on a disk whose
dates say "reported", is a report without content: ``fphz`` is then empty.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import NoReturn

from devices.drivers import dates
from devices.drivers.component_link import Link, Transport
from devices.drivers.component_units import COMPONENT_KINDS, units_of
from devices.drivers.contract import (
    Capabilities,
    ClearData,
    ClearRequest,
    Identity,
    ReportPackage,
    Unit,
)
from devices.drivers.dates import Kind
from devices.protocol import business_xml
from devices.protocol.business_answers import (
    ControlAnswer,
    Copied,
    DeviceInfo,
    DeviceNo,
    OtherInfo,
    Pending,
    Statistics,
)
from devices.protocol.business_xml import About, Answer, Caller, Request
from devices.protocol.control import BEIJING, ControlData, is_reported
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

_PASSWORD_REFUSED = (Code.PASSWORD_WRONG, Code.PASSWORD_LOCKED)
_EXTRAS = ("fpmx", "fpdxx", "szfphz")


class ComponentDisk:
    """One disk of a component. Every method raises only Failure.

    ``device_no``: the number that is expected; without one the disk is only identified.
    ``tax_id``: whose it should be, or empty. ``password``: hands out the device password when it is
    needed, or raises the Failure that says why there is none (missing, remembered as wrong).
    """

    def __init__(
        self,
        transport: Transport,
        *,
        kind: Kind,
        device_no: str,
        tax_id: str = "",
        password: Callable[[], str],
        call_seconds: float = 60.0,
    ) -> None:
        if kind not in COMPONENT_KINDS:
            raise Failure(Code.NOT_SUPPORTED, detail=kind.value)
        self._kind = kind
        self._device_no = device_no
        self._tax_id = tax_id
        self._password = password
        self._link = Link(transport, device_no, seconds=call_seconds)
        self._identity: Identity | None = None
        self._fresh = False  # nothing was done since the identity was asked for
        self._info: DeviceInfo | None = None
        self._told: Mapping[str, str] = {}
        self._refused: Failure | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()

    def units(self, types: Sequence[str]) -> list[Unit]:
        """As the kind treats them; see ``component_units``."""
        return units_of(self._kind, types)

    def close(self) -> None:
        self._link.close()

    # --- reading ---------------------------------------------------------------------------------

    def identify(self) -> Identity:
        """SKSBBH. The component tells tax id and name only after a password: they are empty."""
        found = DeviceNo.of(self._expect(business_xml.device_no_request(self._device_no)))
        self._identity = Identity(
            device_no=found.device_no,
            tax_id="",
            taxpayer_name="",
            kind=self._kind.value,
            training=found.training,
            retired=found.retired,
            raw={"sksbbh": found.device_no, "bspbh": found.reporting_disk_no},
        )
        self._fresh = True
        return self._identity

    def read_control(self) -> dict[str, ControlData]:
        """SKPXXCX, then JKSJCX and HQLXSJ of each type; the clock is the device's own."""
        self._begin()
        info = self._read_info()
        clock = dates.parse_moment(info.clock, "dqsz").replace(tzinfo=BEIJING)
        return {
            found: self._control(found, clock, self._pending(found).count) for found in info.types
        }

    def pending_uploads(self) -> int:
        """The sum of HQLXSJ over all types."""
        self._begin()
        return sum(self._pending(found).count for found in self._known().types)

    def export(self) -> bytes:
        """The answers to SKPXXCX, JKSJCX, HQLXSJ and TJXXCX of every type: canonical JSON.

        Nothing in it changes the disk, and no password is in it. The disk's running clock is.
        """
        self._begin()
        info = self._read_info()
        told = dict(self._told)
        types = {}
        for found in info.types:
            control = self._ask_control(found)
            read = ControlAnswer.of(control, found)
            first = dates.period_start(self._kind, read.period_start)
            last = max(first, dates.period_end(self._kind, read.period_end))
            statistics = self._ask_statistics(found, first, last)
            types[found] = {
                "JKSJCX": control.fields,
                "HQLXSJ": self._expect(business_xml.pending_request(self._caller(), found)).fields,
                "TJXXCX": {"fields": statistics.fields, "groups": statistics.groups},
            }
        content = {
            "kind": self._kind.value,
            "device_no": info.device_no,
            "SKPXXCX": told,
            "types": types,
        }
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return text.encode()

    def clear_request(self, unit: Unit) -> ClearRequest:
        """``qtxx``: the copy time (SKSBQTYXXCX 1)."""
        self._check(unit)
        return ClearRequest(unit, {"qtxx": self._other(About.COPY_TIME)})

    # --- changing --------------------------------------------------------------------------------

    def report(self, unit: Unit, period: Month) -> ReportPackage:
        """SJCB of ``unit``, once the dates say that ``period`` is the one it would close.

        Fields: ``sq``, ``fphz``, ``qtxx`` (lock date), and what else the disk gave. Before anything
        is changed: training_disk, retired_disk, oldest_first, already_cleared, outside_window.
        """
        self._check(unit)
        info = self._read_info()
        controls = [self._control(found, None, 0) for found in unit.types]
        self._check_period(info, controls, period)
        statistics = self._statistics(unit, controls, period)
        lock_date = self._other(About.LOCK_DATE)

        answer = self._ask(business_xml.copy_request(self._caller(), unit.types))
        if not answer.ok and not answer.fields.get("fphz"):
            if business_xml.meaning_of(answer) is not Code.NOTHING_TO_REPORT:
                self._refuse(answer)
            return self._without_content(answer, unit, period, statistics, lock_date)
        if not answer.ok and business_xml.meaning_of(answer) not in (
            Code.PERIOD_DATA_EXIST,
            Code.NOTHING_TO_REPORT,
        ):
            self._refuse(answer)
        fields = self._summary(answer, period)
        return ReportPackage(unit, period, {**fields, "qtxx": lock_date}, statistics)

    def clear(self, unit: Unit, data: ClearData) -> None:
        """JKHC with ``fpjkmw`` and ``szjkmw`` as the bureau made them."""
        self._check(unit)
        self._check_usable()
        fpjkmw, szjkmw = data.fields.get("fpjkmw", ""), data.fields.get("szjkmw", "")
        if not fpjkmw:
            raise Failure(Code.BUREAU_GARBLED, detail="fpjkmw")
        caller = self._caller()
        answer = self._ask(business_xml.write_request(caller, unit.types, fpjkmw, szjkmw))
        if not answer.ok:
            self._refuse(answer)

    def _summary(self, answer: Answer, period: Month) -> dict[str, str]:
        """What SJCB handed out, if it is of ``period``; else in doubt, for the disk has acted."""
        try:
            copied = Copied.of(answer)
            last = dates.parse_date(copied.last, "sq")
        except Failure as failure:
            raise _in_doubt(failure) from None
        # An end on the first of a month is a kind that counts to the day after.
        if Month.of(last - dt.timedelta(days=last.day == 1)) != period:
            raise Failure(Code.DEVICE_GARBLED, detail="sq", outcome_unknown=True)
        extras = {name: copied.fields[name] for name in _EXTRAS if copied.fields.get(name)}
        return {"sq": copied.span, "fphz": copied.summary, **extras}

    def _without_content(
        self,
        answer: Answer,
        unit: Unit,
        period: Month,
        statistics: dict[str, int],
        lock_date: str,
    ) -> ReportPackage:
        """ "No summary data": then the dates judge (domain.md §4)."""
        try:
            controls = [self._control(found, None, 0) for found in unit.types]
        except Failure as failure:  # whether anything was closed stays open
            raise _in_doubt(failure) from None
        if not all(is_reported(control, period) for control in controls):
            self._refuse(answer)
        span = f"{period.first:%Y%m%d}000000{period.last:%Y%m%d}235959"
        return ReportPackage(unit, period, {"sq": span, "fphz": "", "qtxx": lock_date}, statistics)

    def _check_period(
        self, info: DeviceInfo, controls: Sequence[ControlData], period: Month
    ) -> None:
        self._check_usable()
        opened = Month.of(min(control.period_start for control in controls))
        if period < opened:
            raise Failure(Code.ALREADY_CLEARED, detail=str(period))
        if period > opened:
            raise Failure(Code.OLDEST_FIRST, detail=str(opened))
        if Month.of(dates.parse_moment(info.clock, "dqsz")) < period.window:
            raise Failure(Code.OUTSIDE_WINDOW, detail=period.window.first.isoformat())

    def _check(self, unit: Unit) -> None:
        self._begin()
        if unit not in self.units(self._known().types):
            raise Failure(Code.NOT_SUPPORTED, detail=unit.key)

    def _check_usable(self) -> None:
        identity = self._confirmed()
        if identity.training:
            raise Failure(Code.TRAINING_DISK)
        if identity.retired:
            raise Failure(Code.RETIRED_DISK)

    # --- single questions ------------------------------------------------------------------------

    def _control(self, invoice_type: str, clock: dt.datetime | None, pending: int) -> ControlData:
        answer = self._ask_control(invoice_type)
        read = ControlAnswer.of(answer, invoice_type)
        reported_on = read.last_reported_on
        return ControlData(
            invoice_type=invoice_type,
            issue_deadline=dates.issue_deadline(self._kind, read.issue_deadline),
            period_start=dates.period_start(self._kind, read.period_start),
            period_end=dates.period_end(self._kind, read.period_end),
            last_reported_on=(
                None if reported_on is None else dates.last_reported_on(self._kind, reported_on)
            ),
            device_clock=clock,
            clock_source="device",
            pending_uploads=pending,
            limits=read.limits,
            raw={**answer.fields, "dqsz": self._known().clock},
        )

    def _statistics(
        self, unit: Unit, controls: Sequence[ControlData], period: Month
    ) -> dict[str, int]:
        """Counts, and amounts in fen: of the unit, and per type (``valid_fen_004`` …)."""
        sums: dict[str, int] = {}
        for control in controls:
            first = min(control.period_start, period.first)
            found = Statistics.of(self._ask_statistics(control.invoice_type, first, period.last))
            for name, value in asdict(found).items():
                sums[name] = sums.get(name, 0) + value
                sums[f"{name}_{control.invoice_type}"] = value
        return sums

    def _pending(self, invoice_type: str) -> Pending:
        return Pending.of(self._expect(business_xml.pending_request(self._caller(), invoice_type)))

    def _other(self, about: About) -> str:
        password = self._secret()
        answer = self._expect(business_xml.other_request(self._device_no, password, about))
        return OtherInfo.of(answer).text

    def _ask_control(self, invoice_type: str) -> Answer:
        return self._expect(business_xml.control_request(self._caller(), invoice_type))

    def _ask_statistics(self, invoice_type: str, first: dt.date, last: dt.date) -> Answer:
        caller = self._caller()
        return self._expect(business_xml.statistics_request(caller, invoice_type, first, last))

    def _read_info(self) -> DeviceInfo:
        """SKPXXCX anew. Raises Failure(wrong_disk) for another disk or another company's."""
        answer = self._expect(business_xml.info_request(self._device_no, self._secret()))
        info = DeviceInfo.of(answer)
        if info.device_no != self._device_no or self._tax_id not in ("", info.tax_id):
            raise Failure(Code.WRONG_DISK, detail=f"{info.device_no} {info.tax_id}")
        self._info, self._told = info, answer.fields
        return info

    def _known(self) -> DeviceInfo:
        return self._info if self._info is not None else self._read_info()

    # --- identity and password -------------------------------------------------------------------

    def _begin(self) -> None:
        """A call begins: ask anew who is there, unless that is all that was done so far."""
        if not self._device_no:
            raise Failure(Code.PASSWORD_MISSING, detail="sksbbh")
        if not self._fresh:
            self._identity = None
        try:
            self._confirmed()
        finally:
            self._fresh = False

    def _confirmed(self) -> Identity:
        """The identity, asked for where nobody has. Raises Failure(wrong_disk)."""
        identity = self._identity or self.identify()
        if identity.device_no != self._device_no:
            raise Failure(Code.WRONG_DISK, detail=identity.device_no)
        return identity

    def _secret(self) -> str:
        """The device password: only for the disk that is expected, and never after a refusal."""
        self._confirmed()
        if self._refused is not None:
            refused = self._refused
            raise Failure(refused.code, raw_code=refused.raw_code, tries_left=refused.tries_left)
        password = self._password()
        if not password:
            raise Failure(Code.PASSWORD_MISSING)
        return password

    def _caller(self) -> Caller:
        tax_id = self._known().tax_id
        return Caller(self._device_no, tax_id, self._secret())

    # --- the wire --------------------------------------------------------------------------------

    def _expect(self, request: Request) -> Answer:
        answer = self._ask(request)
        if not answer.ok:
            self._refuse(answer)
        return answer

    def _ask(self, request: Request) -> Answer:
        return self._link.ask(request)

    def _refuse(self, answer: Answer) -> NoReturn:
        failure = business_xml.refusal_of(answer)
        if failure.code in _PASSWORD_REFUSED:
            self._refused = failure
        raise failure


def _in_doubt(failure: Failure) -> Failure:
    return Failure(
        failure.code,
        raw_code=failure.raw_code,
        raw_text=failure.raw_text,
        detail=failure.detail,
        outcome_unknown=True,
        tries_left=failure.tries_left,
    )
