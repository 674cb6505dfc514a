"""A reader machine played by a test: speaks the machine API through Django's client."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import uuid
from dataclasses import dataclass, field
from typing import Any

from django.test import Client

from agency.models import Agency
from agency.scope import agency_scope
from devices.models import Machine, TaxDisk
from devices.protocol.control import ControlData, to_json
from devices.protocol.month import Month
from devices.services import machine_create

PERIOD = Month(2026, 10)


def control(*, reported: Month, cleared: Month, kind: str = "025") -> dict[str, Any]:
    """Control data of a disk that was reported and cleared through these periods."""
    data = ControlData(
        invoice_type=kind,
        issue_deadline=cleared.plus(2).first + dt.timedelta(days=14),
        period_start=cleared.plus(1).first,
        period_end=cleared.plus(1).last,
        last_reported_on=reported.plus(1).first,
        clock_source="host",
    )
    return {kind: to_json(data)}


TO_REPORT = control(reported=PERIOD.plus(-1), cleared=PERIOD.plus(-1))
REPORTED = control(reported=PERIOD, cleared=PERIOD.plus(-1))
CLEARED = control(reported=PERIOD, cleared=PERIOD)


@dataclass
class PlayedMachine:
    """One machine with its token; ``claim`` starts an attempt whose facts count by themselves."""

    machine: Machine
    token: str = field(repr=False)
    client: Client = field(default_factory=Client)
    run_id: int = 0
    attempt: str = ""
    number: int = 0

    @classmethod
    def enrol(cls, agency: Agency, name: str = "读盘机一") -> PlayedMachine:
        with agency_scope(agency.pk):
            made = machine_create(agency=agency, name=name, simulated=True)
        return cls(made.machine, made.token)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.client.post(
            f"/machine/v1/{path}",
            body,
            content_type="application/json",
            headers={"Authorization": f"Machine {self.token}"},
        )

    def present(self, *disks: TaxDisk, tax_id: str | None = None) -> Any:
        slots = [
            {
                "name": f"A-{index:02d}",
                "device_no": disk.device_no,
                "tax_id": tax_id or disk.company.tax_id,
                "kind": disk.kind,
            }
            for index, disk in enumerate(disks, 1)
        ]
        return self.post("presence", {"version": "t", "api": 1, "slots": slots})

    def claim(self, attempt: str | None = None) -> dict[str, Any] | None:
        self.attempt = attempt or str(uuid.uuid4())
        self.number = 0
        answer = self.post("claim", {"attempt": self.attempt})
        assert answer.status_code == 200, answer.content
        order: dict[str, Any] | None = answer.json()["order"]
        self.run_id = order["run_id"] if order else 0
        return order

    def fact(self, kind: str, **data: Any) -> dict[str, Any]:
        self.number += 1
        return {"number": self.number, "kind": kind, "data": data}

    def identified(self, disk: TaxDisk, **other: Any) -> dict[str, Any]:
        said = {"device_no": disk.device_no, "tax_id": disk.company.tax_id, "training": False}
        return self.fact("identity", **{**said, **other})

    def read(self, types: dict[str, Any]) -> dict[str, Any]:
        return self.fact("control", types=types, read_at="2026-11-09T10:15:00+08:00")

    def answered(self, op: str, period: Month = PERIOD, unit: str = "025") -> dict[str, Any]:
        return self.fact("bureau", op=op, unit=unit, period=str(period), answer={"code": "0"})

    def packaged(self, period: Month = PERIOD, unit: str = "025") -> dict[str, Any]:
        return self.fact(
            "package", unit=unit, period=str(period), fields={"fphz": "00"}, statistics={"n": 3}
        )

    def on_run(self, call: str, *facts: dict[str, Any], **body: Any) -> Any:
        return self.post(
            f"runs/{self.run_id}/{call}", {"attempt": self.attempt, "facts": facts, **body}
        )

    def intend(self, stage: str, *facts: dict[str, Any], **body: Any) -> Any:
        values = {"stage": stage, "unit": "025", "period": str(PERIOD), **body}
        return self.on_run("intend", *facts, **values)

    def keep(self, content: bytes, *facts: dict[str, Any], **body: Any) -> Any:
        values = {
            "period": str(PERIOD),
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": base64.b64encode(content).decode(),
            **body,
        }
        return self.on_run("keep", *facts, **values)

    def settle(self, end: str, *facts: dict[str, Any], **outcome: Any) -> Any:
        return self.on_run("settle", *facts, outcome={"end": end, **outcome})

    def clear_all(self, disk: TaxDisk) -> Any:
        """Play a whole run, from identity to a settled, cleared disk."""
        report = self.intend("report", self.identified(disk), self.read(TO_REPORT))
        assert report.status_code == 200, report.content
        kept = self.keep(b"{}", self.packaged(), self.answered("WLCB"), self.read(REPORTED))
        assert kept.status_code == 200, kept.content
        clear = self.intend("clear")
        assert clear.status_code == 200, clear.content
        return self.settle("done", self.read(CLEARED), self.answered("QLJSJGQR"))
