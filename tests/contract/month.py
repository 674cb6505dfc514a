"""A month on a subject: the stand-in bureau in this process, and the procedure over both."""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from clearing import procedure
from clearing.bureau.port import DiskAddress
from clearing.bureau.session import BureauSession
from clearing.bureau.standin import State, read_state
from clearing.bureau.standin.service import Answer, Service
from clearing.wire import Limits, Outcome
from devices.drivers.contract import ClearData, ReportPackage, TaxDisk, Unit
from devices.protocol.control import ControlData
from devices.protocol.month import Month
from tests.clearing.fakes import FakeLedger, FixedClock, order
from tests.contract.subject import IN_WINDOW, PERIOD, RIGHT, TAX_ID, Subject

URL = "http://bureau.test/"


class Office:
    """The bureau of a subject's world; it knows what the disk knows."""

    def __init__(self, subject: Subject) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.service = Service(
            subject.world,
            Path(self._folder.name),
            clock_offset=(IN_WINDOW - dt.datetime.now(dt.UTC)).total_seconds(),
        )
        self._address = DiskAddress(subject.device_no, TAX_ID, 0)
        self._client = httpx.Client(transport=httpx.MockTransport(self._answer))

    def session(self) -> BureauSession:
        return BureauSession(URL, self._address, timeout_seconds=10, client=self._client)

    def state(self) -> State:
        return read_state(Path(self._folder.name))

    def clear_data(self, disk: TaxDisk, unit: Unit, period: Month = PERIOD) -> ClearData:
        return self.session().clear_data(disk.clear_request(unit), period)

    def close(self) -> None:
        self._client.close()
        self._folder.cleanup()

    def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = self.service.handle(request.content)
        if not isinstance(answer, Answer):
            raise httpx.ReadError("lost", request=request)
        return httpx.Response(answer.status, stream=httpx.ByteStream(answer.body))


def units_of(disk: TaxDisk) -> list[Unit]:
    return disk.units(sorted(disk.read_control()))


def report_all(disk: TaxDisk, office: Office, period: Month = PERIOD) -> list[ReportPackage]:
    """Every unit reported on the disk and handed in."""
    packages = [disk.report(unit, period) for unit in units_of(disk)]
    for package in packages:
        office.session().report(package)
    return packages


def clear_all(disk: TaxDisk, office: Office, period: Month = PERIOD) -> dict[str, ClearData]:
    """Every unit's clear data fetched and written."""
    written = {}
    for unit in units_of(disk):
        written[unit.key] = office.clear_data(disk, unit, period)
        disk.clear(unit, written[unit.key])
    return written


def read_until(
    disk: TaxDisk, there: Callable[[dict[str, ControlData]], bool], seconds: float = 2.0
) -> dict[str, ControlData]:
    """Read back; a UKey's date follows its report slowly."""
    end = time.monotonic() + seconds
    while True:
        controls = disk.read_control()
        if there(controls) or time.monotonic() > end:
            return controls
        time.sleep(0.03)


def run(
    subject: Subject, office: Office, *, ledger: FakeLedger | None = None,
    password: str = RIGHT, **fields: Any,
) -> Outcome:  # fmt: skip
    """The whole procedure on the subject, with its own order."""
    given = order(
        device_no=subject.device_no,
        tax_id=TAX_ID,
        kind=subject.kind,
        **{
            "period": str(PERIOD),
            "now": IN_WINDOW.isoformat(),
            "limits": Limits(poll=1.5),
            **fields,
        },
    )
    return procedure.run(
        given,
        open_disk=lambda: subject.open(password=password),
        bureau=office.session(),
        ledger=ledger or FakeLedger(),
        clock=FixedClock(IN_WINDOW),
    )
