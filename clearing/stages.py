"""What each stage of the procedure gave: a fact for the timeline, with the time it waited.

Pure. A stage is noted however it ends; what a disk answered to a password is noted as a fact of its
own, so that the server remembers it.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from clearing.wire import Denial, FactKind
from devices.drivers.contract import Unit
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

T = TypeVar("T")


class Denied(Exception):
    """The ledger did not permit a step."""

    def __init__(self, denial: Denial, detail: str = "") -> None:
        super().__init__(denial, detail)
        self.denial = denial
        self.detail = detail


class Stages:
    """Notes stages through ``record``; ``now`` is the procedure's clock (Beijing time)."""

    def __init__(
        self,
        record: Callable[[FactKind, Mapping[str, Any]], None],
        now: Callable[[], dt.datetime],
    ) -> None:
        self._record = record
        self._now = now
        # Seconds that the running stage waited for the disk and for the bureau.
        self._device = self._bureau = 0.0
        self._asked = False  # whether the running stage came to its call to the bureau

    @contextmanager
    def stage(
        self, stage: str, unit: Unit | None = None, period: Month | None = None
    ) -> Iterator[None]:
        """One stage, from here to the end of the block."""
        self._device = self._bureau = 0.0
        self._asked = False
        end: dict[str, Any] = {"ok": True}
        try:
            yield
        except Failure as failure:
            end = {
                "ok": False,
                "code": failure.code.value,
                "raw_code": failure.raw_code,
                "raw_text": failure.raw_text,
            }
            self._note_password(failure)
            raise
        except Denied as denied:
            end = {"ok": False, "code": "", "raw_code": denied.denial.value, "raw_text": ""}
            raise
        finally:
            with suppress(Failure):  # a journal that cannot be written must not hide why
                self._record(
                    FactKind.STAGE,
                    {
                        "stage": stage,
                        "unit": unit.key if unit else "",
                        "period": str(period) if period else "",
                        "at": self._now().isoformat(),
                        "device_ms": round(self._device * 1000),
                        "bureau_ms": round(self._bureau * 1000),
                        "asked": self._asked,
                        **end,
                    },
                )

    def device(self, call: Callable[[], T]) -> T:
        """A call to the disk; its time counts for the running stage."""
        start = time.monotonic()
        try:
            return call()
        finally:
            self._device += time.monotonic() - start

    def bureau(self, call: Callable[[], T]) -> T:
        """A call to the bureau; its time counts for the running stage."""
        self._asked = True
        start = time.monotonic()
        try:
            return call()
        finally:
            self._bureau += time.monotonic() - start

    def _note_password(self, failure: Failure) -> None:
        if failure.tries_left is not None or failure.code == Code.PASSWORD_LOCKED:
            self._record(
                FactKind.PASSWORD,
                {"code": failure.code.value, "tries_left": failure.tries_left or 0},
            )
