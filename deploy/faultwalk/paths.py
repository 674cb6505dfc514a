"""The ways a month can go, per kind of disk, and the scenarios of a walk over them.

A path says how its disk stands at the start and what happens to it on the way *before* the fault
that is walked; whatever strikes then, the month must end as if nothing had happened. Clients, disks
and expectations are made like the demo's (:mod:`deploy.demonstration.scenario`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from deploy.demonstration.expected import Expected, ExpectedDisk
from deploy.demonstration.kinds import AISINO, BAIWANG, IC_CARD, UKEY, fictional_device_no
from deploy.demonstration.scenario import (
    Calendar,
    Case,
    Client,
    build,
    bureau_code,
    bureau_name,
    expectation,
    fictional_pin,
    fictional_tax_id,
)
from deploy.faultwalk.plan import Step, Way
from devices.protocol.month import Month
from devices.simulator.world import World

_KINDS = {"iccard": IC_CARD, "baiwang": BAIWANG, "aisino": AISINO, "ukey": UKEY}
_WORDS = {IC_CARD: "税控IC卡", BAIWANG: "税控盘", AISINO: "金税盘", UKEY: "税务UKey"}
_DISTRICT = "武昌区"
#: A disk's units depend on its number modulo this; every ninth client has issued nothing.
_CYCLE = 9


@dataclass(frozen=True, slots=True)
class Path:
    """One way of a month. ``name``: ``iccard/fresh`` … ``residue``: which numbers modulo nine its
    disks have, and so how many units. ``before``: what has gone wrong already when the walk
    begins. ``filed_later``: the return is filed only when the run waits for it."""

    name: str
    kind: str
    case: Case = Case.NORMAL
    residue: int = 3
    before: tuple[Step, ...] = ()
    filed_later: bool = False


def all_paths() -> list[Path]:
    found = []
    for word, kind in _KINDS.items():
        write = "UPDATE_CONTROLS" if kind == IC_CARD else "JKHC"
        handed_in = Step("bureau.WLCB#1", Way.KILLED_AFTER)
        written = Step(f"disk.clear.{write}#1", Way.KILLED_AFTER)
        found += [
            Path(f"{word}/fresh", kind),
            Path(f"{word}/resumed", kind, before=(handed_in,)),
            Path(f"{word}/unknown", kind, before=(written,)),
            Path(f"{word}/cleared", kind, case=Case.ELSEWHERE),
            Path(f"{word}/unfiled", kind, case=Case.NOT_FILED, filed_later=True),
        ]
        if kind != IC_CARD:  # it knows no types
            found.append(Path(f"{word}/types", kind, residue=1 if kind == AISINO else 2))
    found.append(Path("iccard/behind", IC_CARD, case=Case.BEHIND))
    return found


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run of a path with at most one fault, on a disk of its own."""

    path: Path
    number: int
    fault: Step | None = None
    machine: str = ""
    slot: str = ""

    @property
    def key(self) -> str:
        """As it is written on the command line and in a report."""
        return (
            f"{self.path.name}/{self.fault.place}:{self.fault.way}"
            if self.fault
            else (self.path.name)
        )

    @property
    def steps(self) -> tuple[Step, ...]:
        return (*self.path.before, self.fault) if self.fault else self.path.before

    @property
    def client(self) -> Client:
        kind, pin = self.path.kind, fictional_pin(self.number)
        return Client(
            number=self.number,
            short_name=f"走查{self.number}",
            name=f"武汉虚构走查{self.number}有限公司",
            tax_id=fictional_tax_id(self.number),
            taxpayer_kind="小规模",
            frequency="按月",
            bureau_code=bureau_code(_DISTRICT),
            bureau_name=bureau_name(_DISTRICT),
            policy="申报后",
            accountant="",
            contact="",
            phone="",
            terminal_no=0,
            device_no=self.device_no,
            pin=pin,
            sheet_pin=pin,
            case=self.path.case,
            device_type=_WORDS[kind],
            certificate="" if kind == IC_CARD else fictional_pin(self.number + 2000),
        )

    @property
    def device_no(self) -> str:
        return fictional_device_no(self.number, self.path.kind)

    def expected(self, calendar: Calendar) -> ExpectedDisk:
        """The end of its month, whatever the fault was."""
        client = self.client
        if self.path.filed_later:
            client = replace(client, case=Case.NORMAL)
        return replace(expectation(client, calendar), company=self.key, case=self.path.name)


def scenarios(wanted: Iterable[tuple[Path, Step | None]]) -> list[Scenario]:
    """A disk of its own for each."""
    taken = dict.fromkeys(range(_CYCLE), 0)
    found = []
    for path, fault in wanted:
        taken[path.residue] += 1
        found.append(Scenario(path, taken[path.residue] * _CYCLE + path.residue, fault))
    return found


def world_of(window: Month, those: Sequence[Scenario]) -> tuple[World, Expected]:
    """The simulated world of these scenarios, each in its slot, and what must come of it."""
    world, expected = build(window, [each.client for each in those])
    world.stage_ms = world.bureau_ms = world.ukey_lag_ms = 0
    calendar = Calendar(window)
    for disk, each in zip(world.disks, those, strict=True):
        disk.machine, disk.slot = each.machine, each.slot
    expected.disks = [each.expected(calendar) for each in those]
    return world, expected
