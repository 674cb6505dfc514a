"""The journal under SIGKILL, torn writes and hands that meddle; and how it is delivered."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clearing.wire import End, FactKind, Outcome
from clearing.worker.client import ServerClient, ServerError
from clearing.worker.deliver import flush
from clearing.worker.journal import AttemptLog, Busy, Journal
from clearing.worker.pinbook import PinEntry, PinState
from devices.protocol.failures import Failure
from tests.clearing.worker.fake_server import TOKEN, Call, FakeServer

DEVICE = "A1B2C3D4E5F60718"


def filled(journal: Journal, count: int, attempt: str = "a1", run_id: int = 7) -> AttemptLog:
    log = journal.open(run_id, attempt, DEVICE)
    for number in range(1, count + 1):
        log.add(FactKind.STAGE, {"at": number})
    return log


def dead_facts(journal: Journal) -> list[Any]:
    found = []
    for log in journal.dead():
        with log:
            found += [fact["data"]["at"] for fact in log.undelivered]
    return found


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path)


@pytest.fixture
def client(server: FakeServer) -> Any:
    with ServerClient(server.url, TOKEN) as made:
        yield made


def test_facts_are_there_after_the_process_is_gone(journal: Journal, tmp_path: Path) -> None:
    filled(journal, 3).close()
    assert dead_facts(Journal(tmp_path)) == [1, 2, 3]


def test_cut_anywhere_the_log_holds_whole_facts_and_takes_new_ones(
    journal: Journal, tmp_path: Path
) -> None:
    """Power loss leaves any prefix of the last write; earlier ones were fsync'd."""
    filled(journal, 3).close()
    path = tmp_path / "journal" / "7-a1.log"
    whole = path.read_bytes()
    ends = [index + 1 for index, byte in enumerate(whole) if byte == ord("\n")]
    for cut in [*range(0, len(whole), 7), *ends]:
        path.write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends)
        with journal.open(7, "a1", DEVICE) as log:
            assert len(log.undelivered) == max(0, complete - 1)  # the first line is the start
            log.add(FactKind.STAGE, {"at": "after"})
        with journal.open(7, "a1", DEVICE) as log:
            assert log.undelivered[-1]["data"]["at"] == "after"
            assert [fact["number"] for fact in log.undelivered] == list(
                range(1, len(log.undelivered) + 1)
            )


def test_lines_that_were_swapped_do_not_open_and_are_kept_aside(
    journal: Journal, tmp_path: Path
) -> None:
    filled(journal, 3).close()
    path = tmp_path / "journal" / "7-a1.log"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[2], lines[1], lines[3]]))
    assert dead_facts(journal) == []
    assert (tmp_path / "undeliverable" / "7-a1.log.damaged").exists()


def test_nothing_in_the_folder_is_readable(journal: Journal, tmp_path: Path) -> None:
    log = filled(journal, 1)
    log.add(FactKind.PIN, {"generation": 2, "pin": b"MARKER01".hex()})
    log.close()
    journal.pins.put(DEVICE, PinEntry(PinState.ROLLED, 2, b"MARKER01", 7, "a1"))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.stat().st_mode & 0o077 == 0, path
            content = path.read_bytes()
            assert b"MARKER01" not in content and b"MARKER01".hex().encode() not in content


def test_the_key_is_made_once_however_many_start_together(tmp_path: Path) -> None:
    code = "import pathlib, sys; from clearing.worker.journal import Journal as J; "
    command = [sys.executable, "-c", code + "J(pathlib.Path(sys.argv[1]))", str(tmp_path)]
    started = [subprocess.Popen(command) for _ in range(3)]
    key = None
    for process in started:
        assert process.wait(90) == 0
        found = (tmp_path / "journal.key").read_bytes()
        assert key in {None, found}
        key = found


def test_a_live_log_is_left_alone_and_a_second_owner_refused(
    journal: Journal, tmp_path: Path, client: ServerClient, server: FakeServer
) -> None:
    with filled(journal, 1):
        assert flush(Journal(tmp_path), client) == 0
        with pytest.raises(Busy):
            Journal(tmp_path).open(7, "a1", DEVICE)
    assert server.calls == []
    assert flush(journal, client) == 1


def test_dead_attempts_are_given_back_with_their_facts_in_order(
    journal: Journal, client: ServerClient, server: FakeServer, tmp_path: Path
) -> None:
    filled(journal, 12).close()
    assert flush(journal, client) == 1
    (call,) = server.calls
    assert (call.verb, call.run_id) == ("release", 7)
    assert [fact["data"]["at"] for fact in call.body["facts"]] == list(range(1, 13))
    assert list((tmp_path / "journal").iterdir()) == []
    assert flush(journal, client) == 0


def test_what_was_confirmed_is_not_sent_again(
    journal: Journal, client: ServerClient, server: FakeServer
) -> None:
    with filled(journal, 5) as log:
        log.mark_sent(3)
        log.end(Outcome(End.DONE))
    flush(journal, client)
    (call,) = server.calls
    assert call.verb == "settle"
    assert [fact["number"] for fact in call.body["facts"]] == [4, 5]


@pytest.mark.parametrize("status", [401, 403, 426, 503])
def test_nothing_is_dropped_before_the_server_took_it(
    journal: Journal, client: ServerClient, server: FakeServer, status: int
) -> None:
    filled(journal, 2).close()
    server.scripts["*"] = lambda call: (status, {})
    with pytest.raises(ServerError):
        flush(journal, client, within=0.3)
    server.scripts.clear()
    assert flush(journal, client) == 1
    assert len(server.facts["a1"]) == 2


def test_one_attempt_the_server_stumbles_over_holds_up_no_other(
    journal: Journal, client: ServerClient, server: FakeServer
) -> None:
    filled(journal, 1, "a1", run_id=7).close()
    filled(journal, 1, "a2", run_id=8).close()
    server.scripts["*"] = lambda call: (500, {}) if call.run_id == 7 else None
    with pytest.raises(ServerError):
        flush(journal, client, within=0.3)
    assert [call.run_id for call in server.calls] == [8]
    server.scripts.clear()
    assert flush(journal, client) == 1


def test_a_lost_lease_takes_the_facts_and_ends_the_log(
    journal: Journal, client: ServerClient, server: FakeServer
) -> None:
    filled(journal, 2).close()
    server.scripts["release"] = lambda call: (409, {"reason": "lease_lost"})
    assert flush(journal, client) == 1
    assert len(server.facts["a1"]) == 2
    assert dead_facts(journal) == []


def test_facts_the_server_cannot_take_do_not_hold_up_the_pin(
    journal: Journal, client: ServerClient, server: FakeServer, tmp_path: Path
) -> None:
    with filled(journal, 1) as log:
        log.add(FactKind.PIN, {"generation": 2, "pin": "00"})

    def script(call: Call) -> tuple[int, dict[str, Any]] | None:
        strange = any(fact["kind"] == "stage" for fact in call.body["facts"])
        return (422, {}) if strange else None

    server.scripts["*"] = script
    flush(journal, client)
    assert server.pins_of("a1") == [{"generation": 2, "pin": "00"}]
    assert server.verbs() == ["record", "release"]
    assert (tmp_path / "undeliverable" / "7-a1.log").exists()


def test_an_attempt_id_that_is_no_file_name_is_refused(journal: Journal) -> None:
    with pytest.raises(Failure):
        journal.open(7, "../../etc/x", DEVICE)


# --- PINs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "state", "told"),
    [
        (None, None, []),
        (3, None, [{"generation": 3, "refused": True, "sent": False}]),
        (3, PinState.OPEN, [{"generation": 3, "unknown": True}]),
        (3, PinState.REFUSED, [{"generation": 3, "refused": True}]),
        (3, PinState.ROLLED, [{"generation": 4, "pin": b"87654321".hex()}]),
    ],
)
def test_a_dead_attempt_s_pin_is_told_from_the_book(
    journal: Journal,
    client: ServerClient,
    server: FakeServer,
    asked: int | None,
    state: PinState | None,
    told: list[dict[str, Any]],
) -> None:
    """Killed between the book and the fact: the fact is made up for."""
    with filled(journal, 1) as log:
        if asked is not None:
            log.ask_roll(asked)
        if state is not None:
            generation = 4 if state == PinState.ROLLED else 3
            journal.pins.put(DEVICE, PinEntry(state, generation, b"87654321", 7, "a1"))
    flush(journal, client)
    assert server.pins_of("a1") == told


def test_a_window_of_another_attempt_is_not_this_one_s(
    journal: Journal, client: ServerClient, server: FakeServer
) -> None:
    journal.pins.put(DEVICE, PinEntry(PinState.OPEN, 3, b"87654321", 6, "other"))
    filled(journal, 1).close()
    flush(journal, client)
    assert server.pins_of("a1") == []


class Crash(BaseException):
    """The power goes."""


Step = Callable[[pytest.MonkeyPatch], None]


def _crash(*_: object, **__: object) -> None:
    raise Crash


STEPS: dict[str, tuple[str, PinState]] = {
    "write_all": ("clearing.worker.durable.write_all", PinState.OPEN),
    "fsync": ("clearing.worker.durable.os.fsync", PinState.OPEN),
    "replace": ("clearing.worker.durable.os.replace", PinState.OPEN),
    "sync_dir": ("clearing.worker.durable.sync_dir", PinState.ROLLED),
}


@pytest.mark.parametrize("step", STEPS)
def test_power_lost_at_any_step_leaves_the_old_pin_or_the_new_one(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    window = PinEntry(PinState.OPEN, 3, b"12345678", 7, "a1")
    journal.pins.put(DEVICE, window)
    target, expected = STEPS[step]
    with monkeypatch.context() as patch:
        patch.setattr(target, _crash)
        with pytest.raises(Crash):
            journal.pins.put(DEVICE, PinEntry(PinState.ROLLED, 4, b"87654321", 7, "a1"))
    found = journal.pins.get(DEVICE)
    assert found is not None and found.state == expected


def test_every_step_to_the_disk_is_taken_in_order(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What power loss may reorder is pinned down by fsync: file, rename, folder."""
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_fsync(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        fsync(descriptor)

    def note_replace(source: Any, target: Any) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr("clearing.worker.durable.os.fsync", note_fsync)
    monkeypatch.setattr("clearing.worker.durable.os.replace", note_replace)
    journal.pins.put(DEVICE, PinEntry(PinState.OPEN, 3, b"12345678", 7, "a1"))
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    with journal.open(8, "new", DEVICE) as log:
        assert steps == ["folder", "file"]  # the name, then the first line
        log.add(FactKind.STAGE, {})
        assert steps == ["folder", "file", "file"]


def test_a_pin_file_that_does_not_open_is_not_taken_for_none(
    journal: Journal, tmp_path: Path
) -> None:
    (tmp_path / "pins" / DEVICE).write_bytes(b"garbage")
    with pytest.raises(Failure):
        journal.pins.get(DEVICE)


# --- SIGKILL --------------------------------------------------------------------------------------

_WRITER = f"""
import sys
from pathlib import Path
from clearing.wire import FactKind
from clearing.worker.journal import Journal
from clearing.worker.pinbook import PinEntry, PinState
journal = Journal(Path(sys.argv[1]))
log = journal.open(7, "a1", "{DEVICE}")
for n in range(1, 10_000):
    log.add(FactKind.STAGE, {{"at": n}})
    print("fact", n, flush=True)
    journal.pins.put("{DEVICE}", PinEntry(PinState.OPEN, n, b"%08d" % n, 7, "a1"))
    print("begun", n, flush=True)
    journal.pins.put("{DEVICE}", PinEntry(PinState.ROLLED, n + 1, b"%08d" % (n + 1), 7, "a1"))
    print("rolled", n + 1, flush=True)
"""


@pytest.mark.parametrize("round_", range(6))
def test_killed_at_any_moment_what_was_promised_is_there(
    tmp_path: Path, client: ServerClient, server: FakeServer, round_: int
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(random.Random(round_).randint(1, 90))]
    process.kill()
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    said = [(word, int(number)) for word, number in map(bytes.split, lines)]
    facts = max((n for word, n in said if word == b"fact"), default=0)
    rolled = max((n for word, n in said if word == b"rolled"), default=0)
    begun = max((n for word, n in said if word == b"begun"), default=0)

    journal = Journal(tmp_path)
    entry = journal.pins.get(DEVICE)
    if rolled or begun:
        assert entry is not None
        assert entry.value == b"%08d" % entry.generation
        assert entry.generation >= max(rolled, begun)
    flush(journal, client)
    told = [fact["data"]["at"] for fact in server.facts_of("a1", "stage")]
    assert told == list(range(1, len(told) + 1))
    assert len(told) >= facts
    if entry is not None:
        last = json.dumps(server.pins_of("a1")[-1])
        assert ("unknown" in last) == (entry.state == PinState.OPEN)
