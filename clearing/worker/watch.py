"""The disk and the bureau as the procedure uses them here: every call announced, writes guarded.

Owns three promises: the worker above knows at any time which call its child is in and how long that
may take, no irreversible command starts on a permission that could run out under it, and nobody
reads a component that may still be at work. It changes no argument and no answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from clearing.bureau.port import Bureau, BureauStatus
from clearing.wire import Limits
from clearing.worker.grant import Grant
from devices.drivers.contract import (
    Capabilities,
    ClearData,
    ClearRequest,
    Identity,
    ReportPackage,
    TaxDisk,
    Unit,
)
from devices.protocol.control import ControlData
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

Emit = Callable[[Mapping[str, Any]], None]

#: What the names of calls begin with; a hung ``disk`` call leaves a slot that must be probed.
DISK = "disk."
BUREAU = "bureau."
SERVER = "server."


class Watch:
    """Tells the worker above of each call, before it and after it."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit

    @contextmanager
    def call(self, name: str, limit: float, *, writes: bool = False) -> Iterator[None]:
        """``limit``: seconds after which whoever watches ends this process."""
        self._emit({"event": "call", "name": name, "limit": limit, "writes": writes})
        try:
            yield
        finally:
            self._emit({"event": "end", "name": name})


class WatchedDisk:
    """A tax disk whose irreversible commands need a permission that outlasts them.

    ``rest``: seconds that the disk is left in peace after one whose answer never came, before
    anybody reads it: a component may still be doing what it was asked, and a read before its end
    would prove nothing. 0 where nothing goes on behind our back.
    """

    def __init__(
        self, disk: TaxDisk, watch: Watch, grant: Grant, limits: Limits, *, rest: float
    ) -> None:
        self._disk = disk
        self._watch = watch
        self._grant = grant
        self._limits = limits
        self._rest = rest

    @property
    def capabilities(self) -> Capabilities:
        return self._disk.capabilities

    def identify(self) -> Identity:
        with self._call("identify"):
            return self._disk.identify()

    def units(self, types: Sequence[str]) -> list[Unit]:
        return self._disk.units(types)

    def read_control(self) -> dict[str, ControlData]:
        with self._call("read_control"):
            return self._disk.read_control()

    def pending_uploads(self) -> int:
        with self._call("pending_uploads"):
            return self._disk.pending_uploads()

    def export(self) -> bytes:
        with self._call("export"):
            return self._disk.export()

    def report(self, unit: Unit, period: Month) -> ReportPackage:
        with self._write("report"):
            return self._disk.report(unit, period)

    def clear_request(self, unit: Unit) -> ClearRequest:
        with self._call("clear_request"):
            return self._disk.clear_request(unit)

    def clear(self, unit: Unit, data: ClearData) -> None:
        with self._write("clear"):
            self._disk.clear(unit, data)

    def close(self) -> None:
        with self._call("close"):
            self._disk.close()

    def _call(self, name: str) -> Any:
        return self._watch.call(DISK + name, self._limits.call)

    @contextmanager
    def _write(self, name: str) -> Iterator[None]:
        """One permission, one irreversible command. Raises Denied before anything was sent."""
        try:
            with self._watch.call(DISK + name, self._limits.call, writes=True):
                self._grant.check(self._limits.call)
                try:
                    yield
                finally:
                    self._grant.drop()
        except Failure as failure:
            if self._rest and failure.code == Code.NO_ANSWER and failure.outcome_unknown:
                with self._watch.call(DISK + "rest", self._rest):
                    time.sleep(self._rest)
            raise


class WatchedBureau:
    """A bureau session whose calls are announced; it limits its own time."""

    def __init__(self, bureau: Bureau, watch: Watch, limits: Limits) -> None:
        self._bureau = bureau
        self._watch = watch
        self._limits = limits

    def report(self, package: ReportPackage) -> Mapping[str, str]:
        with self._call("report"):
            return self._bureau.report(package)

    def clear_data(self, request: ClearRequest, period: Month) -> ClearData:
        with self._call("clear_data"):
            return self._bureau.clear_data(request, period)

    def confirm(self, unit: Unit, period: Month) -> Mapping[str, str]:
        with self._call("confirm"):
            return self._bureau.confirm(unit, period)

    def status(self, period: Month) -> BureauStatus:
        with self._call("status"):
            return self._bureau.status(period)

    def close(self) -> None:
        self._bureau.close()

    def _call(self, name: str) -> Any:
        return self._watch.call(BUREAU + name, self._limits.bureau)
