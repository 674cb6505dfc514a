"""What travels between the server and a reader machine: the order, the facts, the outcome.

Pure: both sides import it. JSON with plain values only; times are ISO 8601 with offset, periods
``YYYY-MM``. An order holds passwords: it is never logged, and its ``repr`` hides them.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from devices.api import API_VERSION as API_VERSION
from devices.drivers.contract import ReportPackage, Unit
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits in seconds; they travel with the order, scaled by one factor.

    ``call``: hard limit of one device call, after which its process is killed. ``bureau``: of one
    bureau call. ``run``: of a whole run. ``lease``: how long the server waits without a sign of
    life. ``grant``: how long a permission lasts, counted by the worker from before it asked.
    ``poll``: how long a date on the disk may take to follow (a UKey needs up to 4 s).
    """

    call: float = 60.0
    bureau: float = 30.0
    run: float = 900.0
    lease: float = 120.0
    grant: float = 90.0
    poll: float = 6.0

    def scaled(self, factor: float) -> Limits:
        return Limits(**{name: value * factor for name, value in asdict(self).items()})


@dataclass(frozen=True, slots=True)
class Owed:
    """One unit of one period that something is still due for."""

    period: str
    unit: str


@dataclass(frozen=True, slots=True)
class Held:
    """A report package that went to the bureau without a recorded answer: it is sent again."""

    period: str
    unit: str
    fields: Mapping[str, str]
    statistics: Mapping[str, int] = field(default_factory=dict)

    def package(self) -> ReportPackage:
        return ReportPackage(
            Unit(tuple(self.unit.split("+"))),
            Month.parse(self.period),
            self.fields,
            self.statistics,
        )


@dataclass(frozen=True, slots=True)
class Order:
    """Everything a machine needs for one run, and nothing of anyone else.

    ``password_usable`` is False while the disk's record says that it is wrong, locked or in doubt;
    ``password_code`` then names the failure. ``filed`` / ``not_due`` list periods that need no
    question to the bureau. ``report_open``: an intent to report whose answer never came.
    ``time_factor``: by which the limits were scaled; only simulated work may have another than 1.
    """

    run_id: int
    attempt: str
    intent: str
    period: str
    now: str
    slot: str
    device_no: str
    tax_id: str
    terminal_no: int
    kind: str
    bureau_url: str
    limits: Limits
    simulated: bool = False
    time_factor: float = 1.0
    policy_try: bool = False
    filed: tuple[str, ...] = ()
    not_due: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    reported: tuple[Owed, ...] = ()
    report_open: Owed | None = None
    confirm_owed: tuple[Owed, ...] = ()
    device_password: str = field(default="", repr=False)
    certificate_password: str = field(default="", repr=False)
    pin_generation: int = 0
    password_usable: bool = True
    password_code: str = ""
    tries_left: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Order:
        """Read what :meth:`to_json` wrote; unknown keys of a newer server are passed over.

        Raises Failure(machine_fault) when something is missing or of another shape, and for limits
        that were scaled although nothing is simulated."""
        try:
            known = {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}
            known["limits"] = Limits(**raw["limits"])
            known["held"] = tuple(Held(**entry) for entry in raw.get("held", ()))
            known["reported"] = tuple(Owed(**entry) for entry in raw.get("reported", ()))
            known["confirm_owed"] = tuple(Owed(**entry) for entry in raw.get("confirm_owed", ()))
            known["report_open"] = Owed(**raw["report_open"]) if raw.get("report_open") else None
            for name in ("filed", "not_due"):
                known[name] = tuple(raw.get(name, ()))
            order = cls(**known)
            Month.parse(order.period)
            dt.datetime.fromisoformat(order.now)
            if order.time_factor != 1 and not order.simulated:
                raise ValueError("time_factor")
        except (KeyError, TypeError, ValueError) as error:
            raise Failure(Code.MACHINE_FAULT, detail=f"order: {type(error).__name__}") from None
        return order


class FactKind(enum.StrEnum):
    """What a fact tells; each has a number that counts up within its attempt."""

    STAGE = "stage"
    IDENTITY = "identity"
    CONTROL = "control"
    PACKAGE = "package"
    BUREAU = "bureau"
    FILING = "filing"
    PASSWORD = "password"
    PIN = "pin"


class End(enum.StrEnum):
    """How a run ends for its attempt. ``lost``: the claim is not ours any more, nothing is
    settled."""

    DONE = "done"
    WAITING = "waiting"
    FAILED = "failed"
    SKIPPED = "skipped"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of an attempt. ``retry_after`` in seconds, for waiting ones; ``reason`` is a value of
    ``clearing.states.Reason``; ``retry`` counts towards the limit of tries."""

    end: End
    reason: str = ""
    code: str = ""
    raw_code: str = ""
    raw_text: str = ""
    detail: str = ""
    retry_after: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Outcome:
        """Raises ValueError, KeyError or TypeError on anything that is not an outcome."""
        known = {name: raw[name] for name in cls.__dataclass_fields__ if name in raw}
        known["end"] = End(raw["end"])
        return cls(**known)


class Denial(enum.StrEnum):
    """Why an irreversible step was not permitted."""

    CANCELLED = "cancelled"
    LEASE_LOST = "lease_lost"
    WRONG_DISK = "wrong_disk"
    ALREADY_CLEARED = "already_cleared"
    NO_BACKUP = "no_backup"
    BUREAU_PAUSED = "bureau_paused"
    HELD = "held"
    PIN_HELD = "pin_held"
    QUIET_HOURS = "quiet_hours"
    REVOKED = "revoked"
