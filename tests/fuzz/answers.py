"""Random and mutated answers to every driver: whatever comes, only failures of the catalogue leave.

    python -m tests.fuzz.answers --runs 100000 [--driver NAME] [--seed N]

One run is one call of a driver in which one answer, or every one, is not what the disk said. What
must hold: a result, or a Failure with a code of the catalogue; no password in either; control data
that can travel and be judged; and no run that takes longer than a second. A run is told again by
its number.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from devices.drivers.component_server import ServerDisk
from devices.drivers.contract import ClearData, Identity, TaxDisk
from devices.drivers.dates import Kind
from devices.protocol.catalogue import CATALOGUE
from devices.protocol.control import (
    device_state,
    from_json,
    is_cleared_all,
    open_period,
    to_json,
)
from devices.protocol.failures import Code, Failure
from tests.devices.cards import FIRST_PIN, IN_WINDOW, PERIOD, bench, clear_data
from tests.devices.components import NUMBERS, PASSWORD, TAX_ID, TYPES, component_bench
from tests.fuzz.mutations import mutated, random_bytes

SECRETS = (PASSWORD, FIRST_PIN)
_MOST_SECONDS = 1.0

Spoil = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Target:
    """A driver over a disk whose answers all pass through ``spoil``, with clear data for it."""

    disk: TaxDisk
    data: ClearData


def card(spoil: Spoil) -> Target:
    on = bench()
    on.channel.after = lambda name, real: spoil(real)
    return Target(on.disk, clear_data())


def component(kind: Kind, spoil: Spoil) -> Target:
    on = component_bench(kind)
    on.loop.after = lambda name, real: spoil(real)
    return Target(on.disk, on.clear_data(on.units()[0]))


def server(spoil: Spoil) -> Target:
    on = component_bench(Kind.BAIWANG)
    on.loop.after = lambda name, real: spoil(real)
    number = NUMBERS[Kind.BAIWANG]
    confirmed = Identity(number, TAX_ID, "", "baiwang")
    disk = ServerDisk(
        on.loop, kind=Kind.BAIWANG, terminal_mark=number, types=TYPES[Kind.BAIWANG],
        confirmed=confirmed,
    )  # fmt: skip
    return Target(disk, on.clear_data(on.units()[0]))


DRIVERS: Mapping[str, Callable[[Spoil], Target]] = {
    "ic_card": card,
    "baiwang": partial(component, Kind.BAIWANG),
    "aisino": partial(component, Kind.AISINO),
    "ukey": partial(component, Kind.UKEY),
    "server": server,
}

ACTIONS: Mapping[str, Callable[[Target], object]] = {
    "identify": lambda on: on.disk.identify(),
    "read": lambda on: on.disk.read_control(),
    "pending": lambda on: on.disk.pending_uploads(),
    "export": lambda on: on.disk.export(),
    "report": lambda on: on.disk.report(on.data.unit, PERIOD),
    "clear_request": lambda on: on.disk.clear_request(on.data.unit),
    "clear": lambda on: on.disk.clear(on.data.unit, on.data),
}


def prepare(on: Target, action: str) -> None:
    """What must have happened before ``action`` can go well."""
    if action in ("clear", "clear_request") and on.disk.capabilities.clear:
        for unit in on.disk.units(sorted(on.disk.read_control())):
            on.disk.report(unit, PERIOD)


@functools.cache
def answers_in(driver: str, action: str) -> int:
    """How many answers ``action`` takes when nothing is wrong."""
    count = [0]

    def counted(real: bytes) -> bytes:
        count[0] += 1
        return real

    target = DRIVERS[driver](counted)
    prepare(target, action)
    count[0] = 0
    with contextlib.suppress(Failure):  # not_supported
        ACTIONS[action](target)
    return count[0]


class Broken(AssertionError):
    """What must hold did not; says in which run."""


def one_run(driver: str, seed: int, number: int) -> str:
    """Play run ``number``; what came of it. Raises :class:`Broken`."""
    draw = random.Random(f"{driver} {seed} {number}")
    action = draw.choice([name for name in ACTIONS if answers_in(driver, name)])
    everything, place = draw.random() < 0.1, draw.randrange(answers_in(driver, action))
    earlier: list[bytes] = []
    spoiling = False

    def spoil(real: bytes) -> bytes:
        nonlocal place
        earlier.append(real)
        if not spoiling:
            return real
        place -= 1
        if place != -1 and not everything:
            return real
        return random_bytes(draw) if draw.random() < 0.2 else mutated(draw, real, earlier)

    target = DRIVERS[driver](spoil)
    prepare(target, action)
    spoiling = True
    start = time.monotonic()
    try:
        result = ACTIONS[action](target)
        came = "result"
        _check_result(result)
    except Failure as failure:
        came = failure.code.value
        _check_failure(failure)
    except Exception as error:
        raise Broken(f"{driver} seed {seed} run {number}: {error!r}") from error
    if time.monotonic() - start > _MOST_SECONDS:
        raise Broken(f"{driver} seed {seed} run {number}: too slow")
    return came


def _check_failure(failure: Failure) -> None:
    if failure.code not in CATALOGUE or failure.code not in Code:
        raise ValueError("not of the catalogue")
    shown = f"{failure} {failure!r} {vars(failure)}"
    if any(secret in shown for secret in SECRETS):
        raise ValueError("a secret in a failure")


def _check_result(result: object) -> None:
    if isinstance(result, dict) and result:
        open_period(result)
        is_cleared_all(result, PERIOD)
        device_state(result, clock=IN_WINDOW)
        for control in result.values():
            if from_json(json.loads(json.dumps(to_json(control)))) != control:
                raise ValueError("control data that do not travel")
    if isinstance(result, bytes):
        json.loads(result)
    if any(secret in repr(result) for secret in SECRETS):
        raise ValueError("a secret in a result")


def fuzz(driver: str, runs: int, seed: int) -> Counter[str]:
    """Play ``runs`` runs; how often each end came. Raises :class:`Broken`."""
    return Counter(one_run(driver, seed, number) for number in range(runs))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.answers")
    parser.add_argument("--runs", type=int, default=100_000, help="per driver")
    parser.add_argument("--driver", choices=list(DRIVERS), action="append")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    for driver in options.driver or DRIVERS:
        start = time.monotonic()
        try:
            ends = fuzz(driver, options.runs, options.seed)
        except Broken as broken:
            print(f"BROKEN  {broken}")
            return 1
        seconds = time.monotonic() - start
        told = ", ".join(f"{code} {count}" for code, count in ends.most_common())
        print(f"{driver}: {options.runs} runs in {seconds:.0f} s: {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
