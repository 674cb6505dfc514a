"""Which scenario runs on which machine: what is killed with it must be nobody else's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from deploy.faultwalk.paths import Scenario
from deploy.faultwalk.plan import CLAIM, OF_MACHINE

#: Machines whose runs are killed one by one, and machines that are killed themselves.
SHARED, ALONE = "走查机", "断电机"


def spread(those: Iterable[Scenario], shared: int, alone: int) -> list[Scenario]:
    """Give every scenario a machine and a slot. Whoever loses the whole machine, or its claim, has
    the machine to itself while it runs."""
    counts: dict[str, int] = defaultdict(int)
    turn = {SHARED: 0, ALONE: 0}
    found = []
    for each in those:
        kind = ALONE if needs_machine(each) else SHARED
        machine = f"{kind}{turn[kind] % (alone if kind == ALONE else shared) + 1}"
        turn[kind] += 1
        counts[machine] += 1
        found.append(replace(each, machine=machine, slot=f"W-{counts[machine]:04d}"))
    return found


def needs_machine(each: Scenario) -> bool:
    fault = each.fault
    return fault is not None and (fault.way in OF_MACHINE or fault.place.startswith(CLAIM))
