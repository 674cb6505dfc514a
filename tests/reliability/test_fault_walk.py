"""The fault walk in its short form: a bounded sample finds nothing, and finds what is planted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demonstration.child import ROOT
from deploy.fault_walk import all_faults, mixed, places_of
from deploy.faultwalk.plan import FIVE, Plan, Step, Way, struck, trace, write_plan
from tests.reliability.mutants import MUTANTS, environment

#: One of each boundary: the card and its PIN, a component, the bureau, the server, the claim.
SAMPLE = (
    "iccard/fresh/disk.clear.UPDATE_CONTROLS#1:killed_after",
    "iccard/fresh/disk.report.VERIFY_FISCAL_PIN#1:lost",
    "iccard/unfiled/disk.report.DECLARE_DUTY#1:killed_after",
    "aisino/fresh/bureau.QLJSJGQR#1:lost",
    "baiwang/types/disk.clear.JKHC#2:error",
    "ukey/fresh/server.settle#1:lost",
    "baiwang/fresh/server.claim#1:killed_after",
    "ukey/resumed/server.intend#1:machine_after",
)


def walk(keys: tuple[str, ...], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    only = [word for key in keys for word in ("--only", key)]
    return subprocess.run(
        [sys.executable, "-m", "deploy.fault_walk", *only],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(600)
def test_a_fault_at_any_boundary_leaves_every_disk_right() -> None:
    done = walk(SAMPLE, dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 runs with violations" in done.stdout


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["backup"])
def test_a_promise_that_is_switched_off_is_found_by_the_walk(name: str) -> None:
    """The others: ``python -m tests.reliability.mutants.walk``."""
    done = walk(MUTANTS[name].places, environment(name))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no backup before the clear" in done.stdout


def test_a_fault_strikes_once_whoever_asks_and_places_count_anew_after_it(tmp_path: Path) -> None:
    steps = [Step("bureau.WLCB#1", Way.KILLED_AFTER), Step("bureau.WLCB#2", Way.LOST)]
    write_plan(tmp_path, "1", "m", steps)
    assert Plan(tmp_path, "1").pass_by("bureau.WLCB") is Way.KILLED_AFTER
    after = Plan(tmp_path, "1")  # another process
    assert [after.pass_by("bureau.WLCB") for _ in range(3)] == [None, Way.LOST, None]
    assert struck(tmp_path, "1") == 2
    assert trace(tmp_path, "1", 1) == ["bureau.WLCB#1", "bureau.WLCB#2"]


def test_a_disk_without_a_plan_has_no_faults(tmp_path: Path) -> None:
    assert Plan(tmp_path, "1").pass_by("bureau.WLCB") is None


def test_a_reading_call_is_one_place_and_a_changing_one_has_many() -> None:
    passed = ["disk.identify.A#1", "disk.identify.B#1", "disk.report.A#1", "disk.report.B#1"]
    assert list(places_of(passed, thorough=False)) == [passed[0], *passed[2:]]
    assert list(places_of(passed, thorough=True)) == passed


def test_a_claim_given_back_by_chance_is_no_place() -> None:
    passed = ["server.intend#1", "server.release#1", "server.settle#1"]
    assert list(places_of(passed, thorough=True)) == ["server.intend#1", "server.settle#1"]


def test_every_place_is_struck_in_every_way() -> None:
    result = {"key": "ukey/types", "places": ["server.settle#1", "bureau.QLJS#1"]}
    faults = all_faults([result], thorough=False)
    assert len(faults) == len(set(faults)) == 10


def test_those_that_wait_are_spread_among_the_others_and_begin_before_the_end() -> None:
    wanted = [("ukey/fresh", f"bureau.QLJS#{n}", way) for n in range(40) for way in FIVE]
    ordered = mixed(wanted)
    waits = [way == Way.HANG for _, _, way in ordered]
    assert sorted(ordered) == sorted(wanted)
    assert any(waits[:20]) and any(waits[100:120]) and not any(waits[-20:])
    assert not any(all(waits[at : at + 3]) for at in range(len(waits)))
