"""Which accidents happen when: a pure function of seed, disks, minutes and what can be played here.

Owns the kinds of accident and how they are drawn. It knows no process; the same arguments give the
same schedule on every machine, and the storm keeps it beside its logs.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class Kind(enum.StrEnum):
    """An accident. Those of the network need namespaces, ``pcscd_killed`` a real pcscd."""

    MACHINE_KILLED = "machine_killed"
    REDIS_RESTARTED = "redis_restarted"
    REDIS_KILLED = "redis_killed"
    REDIS_FLUSHED = "redis_flushed"
    POSTGRES_RESTARTED = "postgres_restarted"
    POSTGRES_KILLED = "postgres_killed"
    WEB_RESTARTED = "web_restarted"
    WEB_KILLED = "web_killed"
    SWEEPER_KILLED = "sweeper_killed"
    CABLE_PULLED = "cable_pulled"
    SILENCE = "silence"
    ANSWERS_LOST = "answers_lost"
    DISK_PULLED = "disk_pulled"
    DISKS_SWAPPED = "disks_swapped"
    BUREAU_SLOW = "bureau_slow"
    BUREAU_DOWN = "bureau_down"
    BUREAU_DOUBLE = "bureau_double"
    BUREAU_GARBLED = "bureau_garbled"
    BUREAU_KILLED = "bureau_killed"
    PCSCD_KILLED = "pcscd_killed"


CUTS = frozenset({Kind.CABLE_PULLED, Kind.SILENCE, Kind.ANSWERS_LOST})
#: Where a machine's network leads.
LINKS = ("server", "broker", "bureau")

#: How often each kind lies in the deck; every kind comes before the deck is mixed anew.
_DECK = {
    Kind.MACHINE_KILLED: 3,
    Kind.CABLE_PULLED: 2,
    Kind.SILENCE: 2,
    Kind.ANSWERS_LOST: 3,
    Kind.DISK_PULLED: 4,
    Kind.DISKS_SWAPPED: 3,
    Kind.REDIS_FLUSHED: 2,
}
#: Those of one machine or one disk: the more disks, the more of them there are. The server's are
#: not more frequent for that, or a large storm would be nothing but a server that is down.
_LOCAL = frozenset({Kind.MACHINE_KILLED, Kind.DISK_PULLED, Kind.DISKS_SWAPPED, *CUTS})
_DISKS_PER_PACE = 100
#: Seconds from which the length of an accident is drawn; the others are over at once.
_LENGTHS = {
    Kind.MACHINE_KILLED: (0.0, 6.0),
    Kind.REDIS_KILLED: (0.0, 4.0),
    Kind.POSTGRES_KILLED: (0.0, 3.0),
    Kind.WEB_KILLED: (0.0, 4.0),
    Kind.SWEEPER_KILLED: (1.0, 8.0),
    Kind.DISK_PULLED: (1.0, 10.0),
    Kind.BUREAU_SLOW: (3.0, 10.0),
    Kind.BUREAU_DOWN: (2.0, 8.0),
    Kind.BUREAU_DOUBLE: (5.0, 15.0),
    Kind.BUREAU_GARBLED: (2.0, 6.0),
    Kind.BUREAU_KILLED: (0.0, 4.0),
    **dict.fromkeys(CUTS, (2.0, 12.0)),
}
_PAUSE = (0.5, 5.0)
_SHORTEST_PAUSE = 0.2


@dataclass(frozen=True, slots=True)
class Accident:
    """``at``: seconds from the beginning; ``lasts``: until it is mended. ``target``: what the kind
    strikes (a machine, a link of it, one disk or two)."""

    at: float
    kind: Kind
    target: tuple[str, ...] = ()
    lasts: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Playable:
    """What there is to strike. ``disks``: those plugged in, by machine; ``cards`` are the ones of
    them that may change places. ``daemons``: machine and number of each pcscd."""

    machines: Sequence[str]
    disks: Sequence[str]
    cards: Sequence[str]
    network: bool
    daemons: Sequence[tuple[str, str]] = ()


def draw(seed: int, seconds: float, what: Playable) -> list[Accident]:
    """The accidents of a storm, in the order in which they begin."""
    chance = random.Random(seed)  # noqa: S311 - to be the same again is its purpose
    pace = max(1, round(len(what.disks) / _DISKS_PER_PACE))
    found: list[Accident] = []
    at = chance.uniform(*_PAUSE)
    busy: dict[str, float] = {}  # a disk or machine is struck again when the last blow is over
    for kind in _decks(chance, what, pace):
        if at >= seconds:
            return found
        lasts = round(min(chance.uniform(*_LENGTHS.get(kind, (0.0, 0.0))), seconds - at), 1)
        target = _target(kind, chance, what)
        keys = target if kind not in CUTS else (" ".join(target),)
        if all(busy.get(key, 0.0) <= at for key in keys):
            found.append(Accident(round(at, 1), kind, target, lasts))
            busy.update(dict.fromkeys(keys, at + lasts + 1.0))
        at += max(_SHORTEST_PAUSE, chance.uniform(*_PAUSE) / pace)
    return found


def _decks(chance: random.Random, what: Playable, pace: int) -> Iterator[Kind]:
    without: set[Kind] = set()
    if not what.network:
        without |= CUTS
    if not what.daemons:
        without.add(Kind.PCSCD_KILLED)
    if len(what.cards) < 2:
        without.add(Kind.DISKS_SWAPPED)
    if not what.disks:
        without.add(Kind.DISK_PULLED)
    while True:
        deck = [
            kind
            for kind in Kind
            if kind not in without
            for _ in range(_DECK.get(kind, 1) * (pace if kind in _LOCAL else 1))
        ]
        chance.shuffle(deck)
        yield from deck


def _target(kind: Kind, chance: random.Random, what: Playable) -> tuple[str, ...]:
    if kind is Kind.MACHINE_KILLED:
        return (chance.choice(what.machines),)
    if kind in CUTS:
        return chance.choice(what.machines), chance.choice(LINKS)
    if kind is Kind.DISK_PULLED:
        return (chance.choice(what.disks),)
    if kind is Kind.DISKS_SWAPPED:
        return tuple(chance.sample(list(what.cards), 2))
    if kind is Kind.PCSCD_KILLED:
        return chance.choice(what.daemons)
    return (kind.value.partition("_")[0],)  # the process: it is not struck twice at once
