"""``deploy/fault-walk``: a fault at every place of a run, and after each the judge.

    deploy/fault-walk                        every place, every way
    deploy/fault-walk --sample 60 --seed 7   some of them, drawn by the seed
    deploy/fault-walk --only iccard/fresh/disk.clear.UPDATE_CONTROLS#1:killed_after

First every path is run once without a fault: the calls it makes are the places, and nobody types
them. Then each place is struck in each way, on a disk of its own, in rounds of one stack each: real
PostgreSQL, Valkey, server, racks, bureau and worker processes. The system is left to recover, and
the judge looks at disks, bureau and tables. Ends with 0 only where nothing is violated.

What keeps it short, and leaves nothing out: limits and leases are scaled by one factor, which is
printed; with more than eight jobs two rounds are under way at a time, so that one starts and ends
while the other works; those that only wait (a hang, a stall) are spread among those that compute;
and the process of a run is forked, not read from its files anew (:mod:`deploy.faultwalk.nursery`).
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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deploy.faultwalk.paths import all_paths
from deploy.faultwalk.plan import CLAIM, FIVE, OF_MACHINE, Way
from deploy.faultwalk.round import TIME_FACTOR

Wanted = tuple[str, str, str]
Result = dict[str, Any]

#: With more jobs than this, two rounds are under way at a time.
_ONE_ROUND = 8
#: The numbers of simulated disks are short.
_LONGEST_ROUND = 800
#: Machines of each round that runs share, and such as are killed themselves.
_SHARED, _ALONE = 4, 6
#: These wait for a time limit or a lease.
_WAITING = (Way.HANG, Way.STALLED)
#: The part of a round in which they begin.
_EARLY = 0.75
#: Driver calls that change a disk: every command in them is a place of its own.
_CHANGING = ("report", "clear")
#: A claim is given back where a probe has the slot for that moment, after a child was killed.
_BY_CHANCE = frozenset({"server.release"})
#: Where the whole worker is killed, too: around everything that lasts.
_RECORDED = ("intend", "keep", "settle", "WLCB", "QLJSJGQR")
_WRITTEN = ("SJCB", "JKHC", "VERIFY_FISCAL_PIN", "DECLARE_DUTY", "UPDATE_CONTROLS")
_LASTING = frozenset((*_RECORDED, *_WRITTEN))
#: The commands that clear a disk.
_CLEARS = ("disk.clear.JKHC", "disk.clear.UPDATE_CONTROLS")


def places_of(passed: Sequence[str], *, thorough: bool) -> Iterator[str]:
    """The places among what a clean run passed by. A driver call that only reads is one place, at
    its first command; ``thorough``: every command of it. What is passed by chance is none: the next
    run would not come there."""
    before = ""
    for place in passed:
        if place.partition("#")[0] in _BY_CHANCE:
            continue
        head, call = place.split(".")[:2]
        if thorough or head != "disk" or call in _CHANGING or call != before:
            yield place
        before = call if head == "disk" else ""


def all_faults(clean: Iterable[Result], *, thorough: bool) -> list[Wanted]:
    """Every place in every way; around what lasts, the whole worker is killed as well, and once
    per kind at its claim. A clear is also cancelled by a person while it is under way."""
    found: list[Wanted] = []
    for result in clean:
        name, fresh = result["key"], result["key"].endswith("/fresh")
        for place in places_of(result["places"], thorough=thorough):
            found += [(name, place, way) for way in FIVE]
            if fresh and place.partition("#")[0].rpartition(".")[2] in _LASTING:
                found += [(name, place, way) for way in OF_MACHINE]
            if fresh and place.partition("#")[0] in _CLEARS:
                found.append((name, place, Way.CANCELLED))
        if fresh:
            found += [(name, f"{CLAIM}#1", way) for way in FIVE]
    return found


def mixed(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Those that only wait, evenly among the others: the processors always have something to do,
    and nobody's wait is left for the end."""
    waiting = [each for each in wanted if each[2] in _WAITING]
    others = [each for each in wanted if each[2] not in _WAITING]
    at = [(_EARLY * number / len(waiting), each) for number, each in enumerate(waiting)]
    at += [(number / len(others), each) for number, each in enumerate(others)]
    return [each for _, each in sorted(at, key=lambda placed: placed[0])]


def play(wanted: Sequence[Wanted], options: argparse.Namespace, what: str) -> list[Result]:
    """Run them in rounds. Raises SystemExit for a round that did not come to its end."""
    ordered = mixed(wanted)
    count = max(1, -(-len(ordered) // options.round))
    at_once = min(count, 1 if options.jobs <= _ONE_ROUND else 2)
    skipped = options.from_round - 1 if what == "walk" else 0
    parallel = max(1, options.jobs // _SHARED // at_once)
    with (
        tempfile.TemporaryDirectory(prefix="qingka-walk-") as folder,
        ThreadPoolExecutor(at_once) as together,
    ):
        root = Path(options.keep or folder)
        rounds = [
            together.submit(
                _round,
                root / f"{what}-{number + 1}",
                ordered[number::count],
                ["--parallel", str(parallel), "--time-factor", str(options.time_factor)],
                f"{what} {number + 1}/{count}",
            )
            for number in range(skipped, count)
        ]
        return [result for each in rounds for result in each.result()]


def _round(root: Path, these: Sequence[Wanted], size: Sequence[str], what: str) -> list[Result]:
    root.mkdir(parents=True, mode=0o700)
    command = [sys.executable, "-m", "deploy.faultwalk.round", "--root", str(root), *size]
    command += ["--shared", str(_SHARED), "--alone", str(_ALONE)]
    found, told = [], 0.0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
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
        raise SystemExit(f"fault-walk: {what} ended with {process.returncode}")
    wrong = [result["key"] for result in found if result["violations"]]
    print(f"  {what}: {len(found)} runs, violations in {wrong}", file=sys.stderr, flush=True)
    return found


def _parse_key(text: str) -> Wanted:
    """``kind/path/place:way`` as a report writes it."""
    path, _, fault = text.rpartition("/")
    place, _, way = fault.rpartition(":")
    if path not in {each.name for each in all_paths()} or way not in set(Way):
        raise argparse.ArgumentTypeError(f"{text}: kind/path/place:way")
    return path, place, way


def _size(text: str) -> int:
    if not 1 <= (size := int(text)) <= _LONGEST_ROUND:
        raise argparse.ArgumentTypeError(f"1 … {_LONGEST_ROUND}")
    return size


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="deploy/fault-walk")
    parser.add_argument("--only", type=_parse_key, action="append", metavar="KEY")
    parser.add_argument("--sample", type=int, metavar="N", help="only so many, drawn by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=16, help="runs at a time (default: 16)")
    parser.add_argument(
        "--time-factor",
        type=float,
        default=TIME_FACTOR,
        metavar="F",
        help=f"on every limit and lease of an order (default: {TIME_FACTOR})",
    )
    parser.add_argument("--round", type=_size, default=400, metavar="N", help="runs in a round")
    parser.add_argument(
        "--from-round", type=int, default=1, metavar="N", help="go on with a walk that was cut off"
    )
    parser.add_argument("--thorough", action="store_true", help="every command of a reading call")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the run folders there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result there")
    options = parser.parse_args(arguments)
    start = time.monotonic()
    print(f"time factor {options.time_factor}: on every limit and lease of an order", flush=True)
    results: list[Result] = []
    faults: list[Wanted] = options.only or []
    if not faults:
        results = play([(path.name, "", "") for path in all_paths()], options, "clean")
        faults = all_faults(results, thorough=options.thorough)
    if not options.only:
        places = {(name, place) for name, place, _ in faults}
        whole, cancelled = (
            sum(way in ways for _, _, way in faults) for ways in (OF_MACHINE, {Way.CANCELLED})
        )
        print(
            f"{len(places)} places × {len(FIVE)} ways, {whole} with the whole worker,"
            f" {cancelled} cancelled by a person",
            flush=True,
        )
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
