"""How the stand-in bureau decides: what it takes, what it refuses, what it hands out.

Owns the bureau's behaviour of domain.md §4, over a world and a state. No clock (``now`` is passed
in), no files, no HTTP. It must never hand out clear data for a period that is not reported, not
filed or already confirmed. Everything it says is marked as simulated (模拟).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass

from clearing.bureau.messages import Operation, Reply, Request
from clearing.bureau.port import Filing
from clearing.bureau.refusals import OK, Refusal
from clearing.bureau.standin.state import Confirmed, Issued, Reported, State, beijing
from clearing.deadlines import USUAL_DAY, CalendarUnknown, filing_deadline
from devices.protocol.iccard_layouts import ControlFile
from devices.protocol.month import Month
from devices.simulator import component_clear, crypto
from devices.simulator.world import World, WorldDisk, WorldTaxpayer, WorldType

_SIGNING_KIND = "ic_card"
_CLOCK_KIND = "baiwang"
"""The kind whose clear carries the bureau's clock (domain.md §7)."""

_FEN_PER_YUAN = 100
_SINGLE_LIMIT = 100_000 * _FEN_PER_YUAN
_TOTAL_LIMIT = 10_000_000 * _FEN_PER_YUAN
_RETURN_LIMIT = 1_000_000 * _FEN_PER_YUAN

_FILING_REFUSALS = {
    Filing.UNKNOWN: Refusal.NOT_FILED,
    Filing.NOT_FILED: Refusal.NOT_FILED,
    Filing.PAYMENT_DUE: Refusal.PAYMENT_DUE,
    Filing.COMPARISON_FAILED: Refusal.COMPARISON_FAILED,
}
"""Filings that stop a clear; ``not_due`` and ``filed`` let it pass."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The reply, and a note for the log where the rule had to make do."""

    reply: Reply
    note: str = ""


class Refused(Exception):
    """Ends a ruling with a refusal; never leaves :meth:`Rules.rule`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class Rules:
    """The bureau's decisions about one request at a time; ``state`` is changed in place.

    Raises ValueError for a world with filings or a key that mean nothing.
    """

    def __init__(self, world: World, state: State) -> None:
        self._key = bytes.fromhex(world.key)
        self._taxpayers = {taxpayer.tax_id: taxpayer for taxpayer in world.taxpayers}
        self._disks = {disk.device_no: disk for disk in world.disks}
        self._state = state
        for taxpayer in world.taxpayers:
            for text in taxpayer.filings:
                self.filing(taxpayer.tax_id, Month.parse(text))

    def taxpayer(self, tax_id: str) -> WorldTaxpayer | None:
        return self._taxpayers.get(tax_id)

    def rule(self, request: Request, now: dt.datetime) -> Ruling:
        """Decide ``request`` at ``now`` (the bureau's clock, Beijing time)."""
        try:
            disk = self._disk_of(request)
            match request.operation:
                case Operation.REPORT:
                    return Ruling(self._report(request, disk, now))
                case Operation.CLEAR_DATA:
                    return self._clear_data(request, disk, now)
                case Operation.CONFIRM:
                    return Ruling(self._confirm(request, disk, now))
                case Operation.STATUS:
                    return Ruling(self._status(request, disk))
        except Refused as refused:
            return Ruling(refuse(request.operation, refused.refusal))

    def filing(self, tax_id: str, period: Month) -> tuple[Filing, str]:
        """The filing of a period and since when (empty: since the world began)."""
        changed = self._state.filings.get(tax_id, {}).get(period)
        if changed is not None:
            return Filing(changed[0]), changed[1]
        return Filing(self._taxpayers[tax_id].filings.get(str(period), Filing.NOT_FILED)), ""

    def _disk_of(self, request: Request) -> WorldDisk:
        if request.disk.tax_id not in self._taxpayers:
            raise Refused(Refusal.UNKNOWN_TAXPAYER)
        disk = self._disks.get(request.disk.device_no)
        if disk is None or disk.tax_id != request.disk.tax_id:
            raise Refused(Refusal.FOREIGN_DISK)
        return disk

    # WLCB

    def _report(self, request: Request, disk: WorldDisk, now: dt.datetime) -> Reply:
        """Take a package. The same one again is answered the same, whatever happened since; a
        corrected one replaces it until the period is cleared."""
        types, period = _types(request), request.period
        record = self._state.record(disk.device_no, period)
        digest = _digest(request)
        if all(t in record.reported and record.reported[t].digest == digest for t in types):
            return _taken(request, record.reported[types[0]].serial)
        if self._cleared(disk, period, types):
            raise Refused(Refusal.ALREADY_CLEARED)
        if not self._signed(request, disk):
            raise Refused(Refusal.BAD_SIGNATURE)
        taken = Reported(at=beijing(now), serial=f"MN{digest[:16].upper()}", digest=digest)
        record = self._state.open_record(disk.device_no, period)
        record.reported.update(dict.fromkeys(types, taken))
        return _taken(request, taken.serial)

    def _signed(self, request: Request, disk: WorldDisk) -> bool:
        """Whether an IC card's declaration is this card's own and of this period.

        The other kinds' summaries are opaque to us, so the bureau takes them as they are.
        """
        if disk.kind != _SIGNING_KIND:
            return True
        try:
            declared = bytes.fromhex(request.fields.get("fphz", ""))
            answer = bytes.fromhex(request.fields.get("qtxx", ""))
            duty = crypto.verify_declaration(self._key, disk.device_no, declared, answer)
        except ValueError:  # Forged is one
            return False
        return Month.of(duty.end) == request.period

    # QLJS

    def _clear_data(self, request: Request, disk: WorldDisk, now: dt.datetime) -> Ruling:
        types, period = _types(request), request.period
        if self._cleared(disk, period, types):
            raise Refused(Refusal.ALREADY_CLEARED)
        if Month.of(now) < period.window:
            raise Refused(Refusal.OUTSIDE_WINDOW)
        if not self._reported(disk, period, types):
            raise Refused(Refusal.NOT_REPORTED)
        filing, _ = self.filing(disk.tax_id, period)
        if filing in _FILING_REFUSALS:
            raise Refused(_FILING_REFUSALS[filing])
        allowed = self._taxpayers[disk.tax_id].past_deadline == "allow"
        if not allowed and any(self._deadline(disk, t) < now.date() for t in types):
            raise Refused(Refusal.PAST_DEADLINE)

        deadline, note = next_deadline(period)
        record = self._state.open_record(disk.device_no, period)
        for t in types:
            before = record.issued[t].times if t in record.issued else 0
            record.issued[t] = Issued(beijing(now), deadline.isoformat(), before + 1)
        fields = self._control_data(disk, types, deadline, now)
        return Ruling(_accepted(request, "清卡数据已下发", fields), note)

    def _control_data(
        self, disk: WorldDisk, types: tuple[str, ...], deadline: dt.date, now: dt.datetime
    ) -> dict[str, str]:
        """Control data for one unit of one disk, as its kind can open them."""
        limits = (_SINGLE_LIMIT, _TOTAL_LIMIT, _RETURN_LIMIT)
        if disk.kind == _SIGNING_KIND:
            controls = ControlFile(deadline, *limits).encode()
            data = crypto.make_clear_data(self._key, disk.device_no, controls)
            return {"fpjkmw": data.hex().upper()}
        fields = {
            "fpjkmw": component_clear.make(self._key, disk.device_no, types, deadline, limits)
        }
        if disk.kind == _CLOCK_KIND:
            fields["szjkmw"] = component_clear.make_clock(self._key, disk.device_no, now)
        return fields

    def _deadline(self, disk: WorldDisk, invoice_type: str) -> dt.date:
        """The disk's present issue deadline as the bureau knows it: of the last confirmed clear
        of that type, else the world's."""
        confirmed = [
            dt.date.fromisoformat(record.confirmed[invoice_type].deadline)
            for record in self._state.disks.get(disk.device_no, {}).values()
            if invoice_type in record.confirmed
        ]
        before = _of_type(disk, invoice_type).issue_deadline or disk.issue_deadline
        return max([dt.date.fromisoformat(before), *confirmed])

    # QLJSJGQR

    def _confirm(self, request: Request, disk: WorldDisk, now: dt.datetime) -> Reply:
        types, period = _types(request), request.period
        if self._cleared(disk, period, types):
            raise Refused(Refusal.ALREADY_CONFIRMED)
        record = self._state.record(disk.device_no, period)
        if not record.issued.keys() >= set(types):
            raise Refused(Refusal.NOT_ISSUED)
        serial = "MQ" + _digest(request)[:16].upper()
        for t in types:
            if t not in record.confirmed:
                record.confirmed[t] = Confirmed(beijing(now), serial, record.issued[t].deadline)
        return _accepted(request, "清卡结果已确认", {"lsh": serial})

    # SBZTCX

    def _status(self, request: Request, disk: WorldDisk) -> Reply:
        period = request.period
        record = self._state.record(disk.device_no, period)
        types = tuple(found.invoice_type for found in disk.types)
        from_start = _cleared_from_start(disk, period)
        filing, filed_at = self.filing(disk.tax_id, period)
        if from_start:
            filing = Filing.FILED
        failed = filing is Filing.COMPARISON_FAILED
        return Reply(
            request.operation,
            OK,
            _said("查询成功"),
            {
                "reported": _flag(
                    self._reported(disk, period, types)
                    if types
                    else record.reported or _through(disk.reported_through, period)
                ),
                "reported_at": max((r.at for r in record.reported.values()), default=""),
                "filed": Filing.FILED if failed else filing,
                "filed_at": filed_at,
                "compared": "failed" if failed else "passed" if filing is Filing.FILED else "none",
                "cleared": _flag(
                    self._cleared(disk, period, types) if types else record.cleared or from_start
                ),
                "cleared_at": max((c.at for c in record.confirmed.values()), default=""),
            },
        )

    # What is on record

    def _reported(self, disk: WorldDisk, period: Month, types: tuple[str, ...]) -> bool:
        record = self._state.record(disk.device_no, period)
        return all(
            t in record.reported
            or _through(_of_type(disk, t).reported_through or disk.reported_through, period)
            for t in types
        )

    def _cleared(self, disk: WorldDisk, period: Month, types: tuple[str, ...]) -> bool:
        record = self._state.record(disk.device_no, period)
        return all(
            t in record.confirmed
            or _through(_of_type(disk, t).cleared_through or disk.cleared_through, period)
            for t in types
        )


def next_deadline(period: Month) -> tuple[dt.date, str]:
    """The issue deadline that clearing ``period`` gives: the filing deadline of the month after
    its window. A bureau must answer even where the calendar ends: then the 15th, with a note."""
    month = period.window.plus(1)
    try:
        return filing_deadline(month.year, month.month), ""
    except CalendarUnknown as unknown:
        return dt.date(month.year, month.month, USUAL_DAY), f"{unknown} 模拟税局按 15 日下发。"


def refuse(operation: Operation, refusal: Refusal) -> Reply:
    """The refusal as it goes out."""
    return Reply(operation, refusal.raw_code, _said(refusal.text))


def _taken(request: Request, serial: str) -> Reply:
    return _accepted(request, "抄报数据已接收", {"lsh": serial})


def _accepted(request: Request, text: str, fields: dict[str, str]) -> Reply:
    group = {
        "fplxdm": "".join(_types(request)),
        **fields,
        "returncode": OK,
        "returnmsg": _said(text),
    }
    return Reply(request.operation, OK, _said(text), groups=(group,))


def _said(text: str) -> str:
    return f"(模拟) {text}"


def _types(request: Request) -> tuple[str, ...]:
    return request.unit.types if request.unit is not None else ()


def _digest(request: Request) -> str:
    """What makes a package the same one: disk, operation, types and every text in it."""
    content = [
        request.operation.id,
        request.disk.device_no,
        str(request.period),
        _types(request),
        sorted(request.fields.items()),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _of_type(disk: WorldDisk, invoice_type: str) -> WorldType:
    """What the world says of one type of a disk; nothing where it does not tell types apart."""
    found = (entry for entry in disk.types if entry.invoice_type == invoice_type)
    return next(found, WorldType(invoice_type))


def _cleared_from_start(disk: WorldDisk, period: Month) -> bool:
    """Whether every type of a disk was cleared for ``period`` when the world began."""
    dates = [found.cleared_through or disk.cleared_through for found in disk.types]
    return all(_through(day, period) for day in dates or [disk.cleared_through])


def _through(day: str, period: Month) -> bool:
    """Whether a "cleared through" or "reported through" date of the world covers ``period``."""
    return bool(day) and dt.date.fromisoformat(day) >= period.last


def _flag(value: object) -> str:
    return "1" if value else "0"
