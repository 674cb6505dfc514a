"""``deploy/fault-walk``: a fault at every place of a run, and after each the judge.

    deploy/fault-walk                        every place, every way
    deploy/fault-walk --sample 60 --seed 7   some of them, drawn by the seed
    deploy/fault-walk --only iccard/fresh/disk.clear.UPDATE_CONTROLS#1:killed_after

First every path is run once without a fault: the calls it makes are the places, and nobody types
them. Then each place is struck in each way, on a disk of its own, in rounds of one stack each: real
PostgreSQL, Valkey, server, racks, bureau and worker processes. The system is left to recover, and
the judge looks at disks, bureau and tables. Ends with 0 only where nothing is violated.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deploy.faultwalk.paths import all_paths
from deploy.faultwalk.plan import CLAIM, FIVE, OF_MACHINE
from deploy.faultwalk.round import TIME_FACTOR

Wanted = tuple[str, str, str]
Result = dict[str, Any]

_ROUND = 400
_SHARED = 4
#: Driver calls that change a disk: every command in them is a place of its own.
_CHANGING = ("report", "clear")
#: Where the whole worker is killed, too: around everything that lasts.
_RECORDED = ("intend", "keep", "settle", "WLCB", "QLJSJGQR")
_WRITTEN = ("SJCB", "JKHC", "VERIFY_FISCAL_PIN", "DECLARE_DUTY", "UPDATE_CONTROLS")
_LASTING = frozenset((*_RECORDED, *_WRITTEN))


def places_of(passed: Sequence[str], *, thorough: bool) -> Iterator[str]:
    """The places among what a clean run passed by. A driver call that only reads is one place, at
    its first command; ``thorough``: every command of it."""
    before = ""
    for place in passed:
        head, call = place.split(".")[:2]
        if thorough or head != "disk" or call in _CHANGING or call != before:
            yield place
        before = call if head == "disk" else ""


def all_faults(clean: Iterable[Result], *, thorough: bool) -> list[Wanted]:
    """Every place in every way; around what lasts, the whole worker is killed as well, and once
    per kind at its claim."""
    found: list[Wanted] = []
    for result in clean:
        name, fresh = result["key"], result["key"].endswith("/fresh")
        for place in places_of(result["places"], thorough=thorough):
            found += [(name, place, way) for way in FIVE]
            if fresh and place.partition("#")[0].rpartition(".")[2] in _LASTING:
                found += [(name, place, way) for way in OF_MACHINE]
        if fresh:
            found += [(name, f"{CLAIM}#1", way) for way in FIVE]
    return found


def play(wanted: Sequence[Wanted], options: argparse.Namespace, what: str) -> list[Result]:
    """Run them in rounds. Raises SystemExit for a round that did not come to its end."""
    found: list[Result] = []
    # Who only waits goes first, so that the others need not wait for it.
    ordered = sorted(wanted, key=lambda each: each[2] != "hang")
    rounds = [ordered[at : at + _ROUND] for at in range(0, len(ordered), _ROUND)]
    for number, these in enumerate(rounds, 1):
        with tempfile.TemporaryDirectory(prefix="qingka-walk-") as folder:
            root = Path(options.keep or folder) / f"{what}-{number}"
            root.mkdir(parents=True, mode=0o700)
            found += _round(root, these, options, f"{what} {number}/{len(rounds)}", len(found))
    return found


def _round(
    root: Path, these: Sequence[Wanted], options: argparse.Namespace, what: str, before: int
) -> list[Result]:
    command = [sys.executable, "-m", "deploy.faultwalk.round", "--root", str(root)]
    command += ["--parallel", str(max(1, options.jobs // _SHARED)), "--shared", str(_SHARED)]
    found, told = [], 0.0
    with subprocess.Popen(
        [*command, "--alone", str(_SHARED)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101 - pipes
        process.stdin.write(json.dumps(these).encode())
        process.stdin.close()
        for line in process.stdout:
            said = json.loads(line)
            if "key" in said:
                found.append(said)
            elif time.monotonic() - told > 10:
                told = time.monotonic()
                print(f"  {what}: {said['ended']}/{len(these)}", file=sys.stderr, flush=True)
    if process.returncode or len(found) < len(these):
        raise SystemExit(f"fault-walk: {what} ended with {process.returncode} after {before}")
    return found


def _parse_key(text: str) -> Wanted:
    """``kind/path/place:way`` as a report writes it."""
    path, _, fault = text.rpartition("/")
    place, _, way = fault.rpartition(":")
    if path not in {each.name for each in all_paths()} or way not in {*FIVE, *OF_MACHINE}:
        raise argparse.ArgumentTypeError(f"{text}: kind/path/place:way")
    return path, place, way


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deploy/fault-walk")
    parser.add_argument("--only", type=_parse_key, action="append", metavar="KEY")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=8, help="runs at a time (default: 8)")
    parser.add_argument("--thorough", action="store_true", help="every command of a reading call")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the run folders there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result there")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    print(f"time factor {TIME_FACTOR}: on every limit and lease of an order", flush=True)
    results: list[Result] = []
    faults: list[Wanted] = options.only or []
    if not faults:
        results = play([(path.name, "", "") for path in all_paths()], options, "clean")
        faults = all_faults(results, thorough=options.thorough)
    if not options.only:
        places = {(name, place) for name, place, _ in faults}
        more = len(faults) - len(places) * len(FIVE)
        print(f"{len(places)} places × {len(FIVE)} ways, {more} with the whole worker", flush=True)
    if options.sample is not None:
        faults = random.Random(options.seed).sample(faults, min(options.sample, len(faults)))  # noqa: S311 - a draw of runs
        print(f"a sample of {len(faults)}, seed {options.seed}", flush=True)
    results += play(faults, options, "walk")
    if options.json:
        options.json.write_text(json.dumps(results, ensure_ascii=False, indent=1))
    return report(results, time.monotonic() - start)


def report(results: Sequence[Result], seconds: float) -> int:
    """Print what was violated, with how to see it again; 1 where anything was."""
    wrong = [result for result in results if result["violations"]]
    for result in wrong:
        print(f"\n{result['key']}")
        for text in result["violations"]:
            print(f"  {text}")
        if ":" in result["key"]:
            print(f"  again: deploy/fault-walk --only '{result['key']}'")
    in_doubt = sum(result["pin"] for result in results)
    print(
        f"{len(results)} runs in {seconds:.0f} s, {in_doubt} PINs in doubt found out by a person,"
        f" {len(wrong)} runs with violations"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
