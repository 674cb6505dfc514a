"""The fault walk in its short form: a bounded sample finds nothing, and finds what is planted."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

import pytest

from deploy.fault_walk import all_faults, mixed, places_of
from deploy.faultwalk.plan import FIVE, Plan, Step, Way, mark_cancelled, struck, trace, write_plan
from tests.reliability.mutants import MUTANTS, changed, environment
from tests.reliability.mutants.walk import caught, walk

#: One of each boundary: the card and its PIN, a component, the bureau, the server, the claim.
SAMPLE = (
    "iccard/fresh/disk.clear.UPDATE_CONTROLS#1:killed_after",
    "baiwang/fresh/disk.clear.JKHC#1:cancelled",
    "iccard/fresh/disk.report.VERIFY_FISCAL_PIN#1:lost",
    "iccard/unfiled/disk.report.DECLARE_DUTY#1:killed_after",
    "aisino/fresh/bureau.QLJSJGQR#1:lost",
    "baiwang/types/disk.clear.JKHC#2:error",
    "ukey/fresh/server.settle#1:lost",
    "baiwang/fresh/server.claim#1:killed_after",
    "ukey/resumed/server.intend#1:machine_after",
)


#: Places that every fresh month of a kind has, besides those of the kind itself.
COMMON = (
    *("bureau.WLCB#1", "bureau.QLJS#1", "bureau.QLJSJGQR#1"),
    *("server.intend#1", "server.intend#2", "server.keep#1", "server.settle#1"),
)
CARD = ("disk.report.DECLARE_DUTY#1", "disk.clear.UPDATE_CONTROLS#1")
COMPONENT = ("disk.report.SJCB#1", "disk.clear.JKHC#1")
#: Those that a run gets over at once; a hang waits for its limit.
QUICK = (Way.ERROR, Way.LOST, Way.KILLED_BEFORE, Way.KILLED_AFTER)


def drawn(seed: int) -> list[str]:
    """Four more, one per kind of disk."""
    draw = random.Random(seed)
    own = {"iccard": CARD, "baiwang": COMPONENT, "aisino": COMPONENT, "ukey": COMPONENT}
    return [
        f"{kind}/fresh/{draw.choice((*COMMON, *places))}:{draw.choice(QUICK)}"
        for kind, places in own.items()
    ]


@pytest.mark.timeout(600)
def test_a_fault_at_any_boundary_leaves_every_disk_right() -> None:
    """Those of the sample, and some drawn anew each time: ``QINGKA_WALK_SEED`` draws them again."""
    seed = int(os.environ.get("QINGKA_WALK_SEED") or random.SystemRandom().randrange(10**6))
    keys = [*SAMPLE, *(key for key in drawn(seed) if key not in SAMPLE)]
    print(f"QINGKA_WALK_SEED={seed}", *keys[len(SAMPLE) :], sep="\n  ")
    assert walk(keys, dict(os.environ)) == {key: [] for key in keys}, f"seed {seed}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["backup"])
def test_a_rule_that_is_switched_off_is_found_by_the_walk(name: str) -> None:
    """The others: ``python -m tests.reliability.mutants.walk``."""
    found = walk([MUTANTS[name].place], environment(name))
    assert caught(name, found), found


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_fits_the_text_that_it_changes(name: str) -> None:
    edits = MUTANTS[name].edits
    for module in {module for module, _, _ in edits}:
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None
        text = Path(spec.origin).read_text(encoding="utf-8")
        compile(changed(text, module, edits), spec.origin, "exec")


def test_a_mutant_is_caught_by_its_own_violation_alone() -> None:
    place, violation = MUTANTS["intent"].place, MUTANTS["intent"].violation
    assert caught("intent", {place: ["other", f"... ({violation})"]})
    assert not caught("intent", {place: ["没有办完 (not settled): claimed", "(outcome)"]})
    assert not caught("intent", {place: [], "elsewhere": [violation]})


def test_a_fault_strikes_once_whoever_asks_and_places_count_anew_after_it(tmp_path: Path) -> None:
    steps = [Step("bureau.WLCB#1", Way.KILLED_AFTER), Step("bureau.WLCB#2", Way.LOST)]
    write_plan(tmp_path, "1", "m", steps)
    assert Plan(tmp_path, "1").pass_by("bureau.WLCB") is Way.KILLED_AFTER
    after = Plan(tmp_path, "1")  # another process
    assert [after.pass_by("bureau.WLCB") for _ in range(3)] == [None, Way.LOST, None]
    assert struck(tmp_path, "1") == 2
    assert trace(tmp_path, "1", 1) == ["bureau.WLCB#1", "bureau.WLCB#2"]


def test_a_process_learns_that_its_run_is_cancelled(tmp_path: Path) -> None:
    plan, other = Plan(tmp_path, "1"), Plan(tmp_path, "2")
    assert not plan.cancelled
    mark_cancelled(tmp_path, "1")
    assert plan.cancelled and not other.cancelled


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


def test_every_clear_is_cancelled_while_it_is_under_way_once_per_kind() -> None:
    passed = ["disk.report.SJCB#1", "disk.clear.JKHC#1"]
    fresh, other = ({"key": f"ukey/{path}", "places": passed} for path in ("fresh", "resumed"))
    faults = all_faults([fresh, other], thorough=False)
    assert [fault for fault in faults if fault[2] == Way.CANCELLED] == [
        ("ukey/fresh", "disk.clear.JKHC#1", Way.CANCELLED)
    ]


def test_those_that_wait_are_spread_among_the_others_and_begin_before_the_end() -> None:
    wanted = [("ukey/fresh", f"bureau.QLJS#{n}", way) for n in range(40) for way in FIVE]
    ordered = mixed(wanted)
    waits = [way == Way.HANG for _, _, way in ordered]
    assert sorted(ordered) == sorted(wanted)
    assert any(waits[:20]) and any(waits[100:120]) and not any(waits[-20:])
    assert not any(all(waits[at : at + 3]) for at in range(len(waits)))
