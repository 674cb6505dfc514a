"""One round of a walk: a stack of real processes, its scenarios, and the judge over all of them.

    python -m deploy.faultwalk.round --root DIR [--parallel N …] < SCENARIOS

A process of its own, because Django knows one database. Standard input: a JSON list of [path,
place, way], place and way empty for none. Standard output: JSON lines, progress and then one result
for each scenario, in their order.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import django

from deploy.demonstration.play import Play
from deploy.faultwalk.paths import Scenario, all_paths, scenarios, world_of
from deploy.faultwalk.plan import Step, Way, struck, trace
from deploy.faultwalk.spread import spread
from deploy.stack import MIGRATE, Stack

#: On every limit and lease that travels with an order: a call has 12 s, a lease lasts 24 s.
TIME_FACTOR = 0.2
_PATIENCE = 900.0


class WalkStack(Stack):
    """A stack whose reader machines have plans."""

    def machine_command(self, name: str) -> tuple[str, ...]:
        config, folder = str(self.places.machine_config(name)), str(self.places.root / "plans")
        return ("-m", "deploy.faultwalk.machine", "--config", config, folder)


def run_round(root: Path, wanted: Sequence[Sequence[str]], options: argparse.Namespace) -> None:
    paths = {path.name: path for path in all_paths()}
    those = spread(
        scenarios(
            (paths[name], Step(place, Way(way)) if place else None) for name, place, way in wanted
        ),
        options.shared,
        options.alone,
    )
    play = Play.beginning(dt.datetime.now(dt.UTC))
    world, expected = world_of(play.window, those)
    stack = WalkStack(
        root,
        machines=sorted({each.machine for each in those}),
        prepare=(MIGRATE,),
        limits_scale=options.time_factor,
        clock_offset=play.offset,
        durable=False,
        restarts=10 * len(those),
    )
    with stack:
        world.save(stack.places.world)
        stack.start(reader_machines=False)
        os.environ.update(stack.environment() | {"QINGKA_LOG_LEVEL": "WARNING"})
        django.setup()
        _walk(stack, those, expected, options)


def _walk(stack: Stack, those: Sequence[Scenario], expected: Any, options: Any) -> None:
    from clearing.bureau.standin import read_log, read_state
    from deploy.demonstration.judge import examine, handed_in, look
    from deploy.demonstration.tables import read_all_claims
    from deploy.faultwalk import house
    from deploy.faultwalk.director import Director

    house.furnish(
        stack.places,
        those,
        server=stack.url,
        bureau=stack.bureau_url,
        parallel=options.parallel,
    )
    folder = house.plans(stack.places)
    for name in stack.machines:
        stack.start_machine(name)
    director = Director(
        stack,
        expected.period,
        options.parallel,
        _PATIENCE,
        say=lambda ended: _tell({"ended": ended}),
    )
    ends = director.run(those)
    sights = look(stack.places.disks, expected, clock_offset=stack.clock_offset)
    found: dict[str, list[str]] = defaultdict(list)
    bureau = read_state(stack.places.bureau)
    sent = handed_in(read_log(stack.places.bureau), clock_offset=stack.clock_offset)
    claims = read_all_claims()
    for violation in examine(expected, sights, bureau, claims, disturbed=True, sent=sent):
        found[violation.device_no].append(violation.text)
    for progress in ends:
        each = progress.scenario
        done = struck(folder, each.device_no)
        violations = [*filter(None, [progress.note]), *found[each.device_no]]
        if done != len(each.steps):
            violations.append("没有走到这一处 (the place was not reached)")
        _tell(
            {
                "key": each.key,
                "violations": violations,
                "places": trace(folder, each.device_no, len(each.path.before)),
                "seconds": round(progress.ended - progress.started, 1),
                "pin": progress.pin_found_out,
            }
        )
    for text in found[""]:
        _tell({"key": "", "violations": [text], "places": [], "seconds": 0, "pin": False})


def _tell(what: dict[str, Any]) -> None:
    print(json.dumps(what, ensure_ascii=False), flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.faultwalk.round")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--shared", type=int, default=4)
    parser.add_argument("--alone", type=int, default=4)
    parser.add_argument("--time-factor", type=float, default=TIME_FACTOR)
    options = parser.parse_args(arguments)
    run_round(options.root, json.load(sys.stdin), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
