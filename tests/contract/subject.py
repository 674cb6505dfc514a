"""What the contract suite needs of a driver and its transport, and the world it is tried in.

A new driver is added with a class of this protocol and a line in ``subjects.SUBJECTS``.
Everything here is simulated (模拟).
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from devices.drivers.contract import TaxDisk
from devices.protocol.control import BEIJING
from devices.protocol.month import Month
from devices.simulator.world import World, WorldDisk, WorldTaxpayer, WorldType

KEY = "000102030405060708090a0b0c0d0e0f"
TAX_ID = "91440101MA5CA1B2X7"
OTHER_TAX_ID = "91440101MA5CA1B2Y5"
PERIOD = Month(2026, 2)
IN_WINDOW = dt.datetime(2026, 3, 5, 9, 30, tzinfo=BEIJING)
DEADLINE = dt.date(2026, 3, 16)
NEXT_DEADLINE = dt.date(2026, 4, 20)  # the 15th, moved by Qingming
RIGHT, WRONG = "PIN00000", "PIN99999"

INVOICES: list[dict[str, Any]] = [
    {"date": "2026-01-31", "valid": 9, "valid_fen": 99_00},
    {"date": "2026-02-01", "valid": 3, "returned": 1, "valid_fen": 1200_50, "return_fen": 20_00},
    {"date": "2026-02-28", "valid": 2, "voided": 1, "valid_fen": 300_00},
    {"date": "2026-03-01", "valid": 7, "valid_fen": 77_00},
]


@dataclass(frozen=True)
class Situation:
    """How the disk stands when a test begins; otherwise period 2026-02 is over and untouched."""

    tries: int = 3
    pending: int = 0
    training: bool = False
    cleared_through: str = "2026-01-31"
    issue_deadline: str = "2026-03-16"
    quirks: tuple[str, ...] = ()


class Step(enum.StrEnum):
    """The device calls that faults can strike."""

    IDENTIFY = "identify"
    READ = "read"
    REPORT = "report"
    CLEAR = "clear"


class Break(enum.StrEnum):
    """What happens to a call."""

    BEFORE = "before"  # the disk never saw it, the link breaks
    AFTER = "after"  # it took effect, the answer is lost
    KILLED_BEFORE = "killed before"  # whatever holds the disk is killed, before
    KILLED_AFTER = "killed after"
    GARBAGE = "garbage"  # it took effect, what comes back is no answer


KILLS = (Break.KILLED_BEFORE, Break.KILLED_AFTER)


class Subject(Protocol):
    """One driver over one transport, with one disk in its slot.

    ``killable``: a process of its own holds the disk. ``tells_pending``: the kind counts invoices
    that are not uploaded.
    """

    killable: bool
    tells_pending: bool
    device_no: str
    kind: str
    types: tuple[str, ...]
    world: World

    def open(self, *, password: str = RIGHT) -> TaxDisk:
        """A new session with what is in the slot; expects ``device_no``."""

    def swap(self) -> None:
        """Put another company's disk into the slot."""

    def strike(self, step: Step, how: Break) -> None:
        """The next call of ``step`` breaks like this."""

    def revive(self) -> None:
        """Take all faults off, and start again what was killed."""

    def writes(self) -> Mapping[str, int]:
        """How often the disk took ``report``, ``clear`` and ``wrong`` (a wrong password)."""

    def asked_for_secrets(self) -> bool:
        """Whether any command was sent that carries a password or PIN."""

    def close(self) -> None:
        """End everything."""


@dataclass(frozen=True)
class Made:
    """A world with the disk of the test and another company's, which lies in a drawer."""

    world: World
    disk: WorldDisk
    other: WorldDisk


@dataclass(frozen=True)
class Numbers:
    """The device numbers a kind writes."""

    device_no: str
    other_no: str
    types: tuple[str, ...] = field(default=())


def make_world(kind: str, numbers: Numbers, situation: Situation) -> Made:
    """Both disks of one kind, their taxpayers, everything filed."""

    def disk(device_no: str, tax_id: str, slot: str) -> WorldDisk:
        return WorldDisk(
            device_no=device_no,
            tax_id=tax_id,
            taxpayer_name="广州测试商贸有限公司",
            machine="m1",
            slot=slot,
            pin=RIGHT,
            issue_deadline=situation.issue_deadline,
            cleared_through=situation.cleared_through,
            reported_through=situation.cleared_through,
            kind=kind,
            tries=situation.tries,
            training=situation.training,
            invoices=INVOICES,
            types=[
                WorldType(
                    found,
                    pending=situation.pending if index == 0 else 0,
                    invoices=INVOICES if index == 0 else [],
                )
                for index, found in enumerate(numbers.types)
            ],
            quirks=list(situation.quirks),
        )

    filed = {"2026-01": "filed", "2026-02": "filed"}
    mine, other = disk(numbers.device_no, TAX_ID, "S-01"), disk(numbers.other_no, OTHER_TAX_ID, "")
    taxpayers = [
        WorldTaxpayer(tax_id, "测试", "14401000000", "模拟税务局", dict(filed))
        for tax_id in (TAX_ID, OTHER_TAX_ID)
    ]
    world = World(key=KEY, ukey_lag_ms=150, taxpayers=taxpayers, disks=[mine, other])
    return Made(world, mine, other)
