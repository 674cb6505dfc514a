"""Who is in the storm: N fictional clients with a disk each, drawn by the seed from the sample's.

Owns the world of a storm and what must come of it, the machines, and which disks may be struck.
The same seed and number give the same clients in the same slots. All simulated (模拟).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from deploy.demonstration.expected import Expected
from deploy.demonstration.kinds import IC_CARD, KINDS, fictional_device_no
from deploy.demonstration.scenario import (
    Case,
    Client,
    build,
    clients,
    fictional_pin,
    fictional_tax_id,
)
from deploy.weather.schedule import Playable
from devices.protocol.month import Month
from devices.simulator.pcscd import READERS_PER_DAEMON
from devices.simulator.world import World

_STAGE_MS, _BUREAU_MS = 200, 100
_UKEY_LAG_MS = 250  # the dates are read again for 0.6 s where a lease lasts 12 s
_DISKS_PER_MACHINE = 40
_MOST_MACHINES = 6
#: Most clients are usual ones; the rest have the month's usual troubles.
_USUAL = 0.75
_TROUBLES = (
    *(Case.BEHIND, Case.BEHIND, Case.BEHIND, Case.CLEAR_TIMEOUT, Case.REPORT_TIMEOUT),
    *(Case.NOT_FILED, Case.ELSEWHERE, Case.WRONG_PIN, Case.LOCKED_PIN, Case.FOREIGN),
    *(Case.ABSENT, Case.TRAINING, Case.PAST_ALLOWED, Case.PAST_REFUSED),
)
#: Half of the disks are cards: their PIN is what an accident endangers most.
_KINDS = ("税控IC卡", "税控IC卡", "税控IC卡", "税控盘", "金税盘", "税务UKey")
_CARD_CASES = {
    *(Case.WRONG_PIN, Case.LOCKED_PIN, Case.TRAINING, Case.FOREIGN, Case.BEHIND),
    Case.ABSENT,
}


@dataclass(frozen=True, slots=True)
class Scene:
    """``readers``: the machines whose cards sit at a real pcscd."""

    machines: tuple[str, ...]
    readers: tuple[str, ...]
    clients: Sequence[Client]
    world: World
    expected: Expected

    def playable(self, *, network: bool) -> Playable:
        plugged = [disk for disk in self.world.disks if disk.slot]
        cards = [disk for disk in plugged if disk.kind == IC_CARD]
        daemons = []
        for name in self.readers:
            many = sum(disk.machine == name for disk in cards)
            daemons += [(name, str(n)) for n in range(-(-many // READERS_PER_DAEMON))]
        return Playable(
            self.machines,
            [disk.device_no for disk in plugged],
            [disk.device_no for disk in cards],
            network,
            daemons,
        )


def set_scene(seed: int, disks: int, window: Month, *, pcsc: bool) -> Scene:
    """``pcsc``: every second machine has its cards at a real pcscd."""
    number = min(max(2, -(-disks // _DISKS_PER_MACHINE)), _MOST_MACHINES)
    machines = tuple(f"读盘机{chr(ord('A') + each)}" for each in range(number))
    who = _clients(random.Random(f"clients {seed}"), disks)  # noqa: S311 - to be the same again
    world, expected = build(window, who)
    world.stage_ms, world.bureau_ms, world.ukey_lag_ms = _STAGE_MS, _BUREAU_MS, _UKEY_LAG_MS
    for place, disk in enumerate(world.disks):
        disk.machine = machines[place % number]
        if disk.slot:
            disk.slot = f"{chr(ord('A') + place % number)}-{place // number + 1:02d}"
    return Scene(machines, machines[::2] if pcsc else (), who, world, expected)


def _clients(chance: random.Random, disks: int) -> list[Client]:
    sample = [row for row in clients() if row.has_disk]
    return [_client(chance, sample[n % len(sample)], n + 1) for n in range(disks)]


def _client(chance: random.Random, row: Client, number: int) -> Client:
    """One of the sample under another number. Some cases exist for cards only, as there."""
    case = Case.NORMAL if chance.random() < _USUAL else chance.choice(_TROUBLES)
    device_type = "税控IC卡" if case in _CARD_CASES else chance.choice(_KINDS)
    kind, pin = KINDS[device_type], fictional_pin(number)
    return replace(
        row,
        number=number,
        short_name=f"虚构{number:03d}",
        name=f"武汉虚构第{number:03d}号有限公司",
        tax_id=fictional_tax_id(number),
        phone=f"027-0000{number:04d}",
        terminal_no=0,
        device_no=fictional_device_no(number, kind),
        pin=pin,
        sheet_pin=fictional_pin(number + 1000) if case is Case.WRONG_PIN else pin,
        case=case,
        device_type=device_type,
        certificate="" if kind == IC_CARD else fictional_pin(number + 2000),
    )
