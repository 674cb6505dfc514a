"""A disk in a tax-control server (SKServer) that takes only the public documents of its own.

Owns reading and judging over ``10002``. The public specification (V2.7, 2017) has no id for report
and clear, so both are ``not_supported`` with that reason; a gateway in front that takes the device
documents is a :class:`~devices.drivers.component.ComponentDisk`.

Must never: send a password to learn who is there. 10002 asks by the terminal mark (``kpzdbs``) and
tells no device number, so the identity is the one a person confirmed for that slot, and says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from devices.drivers import dates
from devices.drivers.component_link import Link, Transport
from devices.drivers.component_units import units_of
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
from devices.protocol.business_answers import ControlAnswer
from devices.protocol.business_xml import Answer
from devices.protocol.control import ControlData
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from devices.protocol.texts import N_

NO_REPORT = N_("税控服务器的公开接口没有抄报和清卡")
NO_IDENTITY = N_("税控服务器不凭口令不能说出盘号，须由人员确认盘位")


class ServerDisk:
    """One terminal of a server. Every method raises only Failure.

    ``kind``: whose dates it gives. ``types``: its invoice types, for the server lists none.
    ``confirmed``: what a person confirmed to be at this terminal, or None.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        kind: Kind,
        terminal_mark: str,
        types: Sequence[str],
        confirmed: Identity | None,
        call_seconds: float = 60.0,
    ) -> None:
        self._kind = kind
        self._mark = terminal_mark
        self._types = sorted(set(types))
        self._confirmed = confirmed
        self._link = Link(transport, terminal_mark, seconds=call_seconds)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(identify=False, report=False, clear=False)

    def units(self, types: Sequence[str]) -> list[Unit]:
        return units_of(self._kind, types)

    def identify(self) -> Identity:
        """What was confirmed for the slot, once the terminal answered a read."""
        if self._confirmed is None:
            raise Failure(Code.NOT_SUPPORTED, detail=NO_IDENTITY)
        self.read_control()
        raw = {**self._confirmed.raw, "identified_by": "slot", "kpzdbs": self._mark}
        return replace(self._confirmed, raw=raw)

    def read_control(self) -> dict[str, ControlData]:
        """10002 of each type. The server tells no clock: ``device_clock`` is None."""
        return {found: self._control(found) for found in self._types}

    def pending_uploads(self) -> int:
        raise Failure(Code.NOT_SUPPORTED, detail=NO_REPORT)

    def export(self) -> bytes:
        """The answers to 10002 of every type: canonical JSON."""
        content = {
            "kind": self._kind.value,
            "kpzdbs": self._mark,
            "types": {found: {"10002": self._ask(found).fields} for found in self._types},
        }
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return text.encode()

    def report(self, unit: Unit, period: Month) -> ReportPackage:
        raise Failure(Code.NOT_SUPPORTED, detail=NO_REPORT)

    def clear_request(self, unit: Unit) -> ClearRequest:
        raise Failure(Code.NOT_SUPPORTED, detail=NO_REPORT)

    def clear(self, unit: Unit, data: ClearData) -> None:
        raise Failure(Code.NOT_SUPPORTED, detail=NO_REPORT)

    def close(self) -> None:
        self._link.close()

    def _control(self, invoice_type: str) -> ControlData:
        answer = self._ask(invoice_type)
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
            limits=read.limits,
            raw=answer.fields,
        )

    def _ask(self, invoice_type: str) -> Answer:
        answer = self._link.ask(business_xml.server_control_request(self._mark, invoice_type))
        if not answer.ok:
            raise business_xml.refusal_of(answer)
        return answer
