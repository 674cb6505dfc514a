"""What the stand-in remembers, whatever moment it was killed at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clearing.bureau.standin import State, read_log, read_state
from clearing.bureau.standin.state import (
    LOG_FILE,
    STATE_FILE,
    Confirmed,
    Issued,
    Modes,
    Reported,
    Store,
)
from tests.clearing.bureau.world import ALICE, ALICES, BOBS, FEBRUARY, MARCH, make_world

TAKEN = Reported("2026-03-10T09:30:00+08:00", "MN1", "ab")


def full_state() -> State:
    state = State(modes=Modes(slow_ms=5, maintenance=True))
    state.filings[ALICE] = {FEBRUARY: ("filed", "2026-03-10T08:00:00+08:00")}
    state.faults[ALICE] = [{"op": "WLCB", "mode": "lost", "times": 2}]
    record = state.open_record(ALICES.device_no, FEBRUARY)
    record.reported["025"] = TAKEN
    record.issued["025"] = Issued("2026-03-10T09:31:00+08:00", "2026-04-20", 3)
    record.confirmed["025"] = Confirmed("2026-03-10T09:32:00+08:00", "MQ1", "2026-04-20")
    state.open_record(BOBS.device_no, MARCH).reported["025"] = TAKEN
    state.open_record(BOBS.device_no, FEBRUARY).issued["025"] = record.issued["025"]
    state.tail = [{"seq": 1, "op": "WLCB"}]
    return state


def test_a_state_reads_back_as_it_was_written() -> None:
    assert State.parse(full_state().dump()) == full_state()


def test_checkers_see_what_was_reported_and_confirmed_per_disk_and_period() -> None:
    state = full_state()
    assert state.reported() == {
        (ALICES.device_no, FEBRUARY): {"025": TAKEN},
        (BOBS.device_no, MARCH): {"025": TAKEN},
    }
    assert state.confirmed().keys() == {(ALICES.device_no, FEBRUARY)}


def test_a_directory_nobody_used_is_empty(tmp_path: Path) -> None:
    assert read_state(tmp_path) == State()
    assert read_log(tmp_path) == []


def test_looking_something_up_leaves_no_trace(tmp_path: Path) -> None:
    state = State()
    state.record(ALICES.device_no, FEBRUARY).reported["025"] = TAKEN
    assert state == State()


def test_a_commit_is_found_again_by_the_next_start(tmp_path: Path) -> None:
    store = Store(tmp_path, make_world())
    store.state.open_record(ALICES.device_no, FEBRUARY).reported["025"] = TAKEN
    store.commit([{"op": "WLCB"}], changed=True)
    store.commit([{"op": "SBZTCX"}], changed=False)
    again = Store(tmp_path, make_world())
    assert again.state.reported() == {(ALICES.device_no, FEBRUARY): {"025": TAKEN}}
    again.commit([{"op": "QLJS"}], changed=True)
    assert [(entry["seq"], entry["op"]) for entry in read_log(tmp_path)] == [
        (1, "WLCB"),
        (2, "SBZTCX"),
        (3, "QLJS"),
    ]


@pytest.mark.parametrize("kept", [0, 7], ids=["before the log", "in the middle of a line"])
def test_a_kill_between_state_and_log_loses_no_entry(tmp_path: Path, kept: int) -> None:
    store = Store(tmp_path, make_world())
    store.commit([{"op": "WLCB"}], changed=True)
    before = (tmp_path / LOG_FILE).read_bytes()
    store.commit([{"op": "QLJS"}, {"op": "QLJS"}], changed=True)
    after = (tmp_path / LOG_FILE).read_bytes()
    (tmp_path / LOG_FILE).write_bytes(after[: len(before) + kept])
    assert [entry["op"] for entry in read_log(tmp_path)] == ["WLCB"]

    again = Store(tmp_path, make_world())
    assert (tmp_path / LOG_FILE).read_bytes() == after
    again.commit([{"op": "SBZTCX"}], changed=False)
    assert [entry["seq"] for entry in read_log(tmp_path)] == [1, 2, 3, 4]


def test_a_kill_while_the_state_was_being_written_leaves_the_old_one(tmp_path: Path) -> None:
    store = Store(tmp_path, make_world())
    store.state.modes.down = True
    store.commit([], changed=True)
    (tmp_path / (STATE_FILE + ".tmp")).write_text('{"modes":', encoding="utf-8")
    assert Store(tmp_path, make_world()).state.modes.down


def test_the_world_first_seen_wins_and_newcomers_are_added(tmp_path: Path) -> None:
    first = make_world()
    bobs_disk = first.disks.pop()
    Store(tmp_path, first)

    later = make_world()
    later.bureau_ms = 99
    later.disks[0].issue_deadline = "2026-04-20"
    later.taxpayers[0].filings = {}
    world = Store(tmp_path, later).world
    assert world.disks[0].issue_deadline == "2026-03-16"
    assert world.taxpayers[0].filings == {"2026-02": "filed"}
    assert world.disks[-1] == bobs_disk
    assert len(world.taxpayers) == 2
    assert Store(tmp_path, first).world == world


def test_the_log_holds_one_json_object_a_line(tmp_path: Path) -> None:
    store = Store(tmp_path, make_world())
    store.commit([{"op": "WLCB", "note": "两\n行"}], changed=False)
    lines = (tmp_path / LOG_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["note"] for line in lines] == ["两\n行"]
