"""The recovery ladder: its order, its bounds, and that no neighbour is cut."""

from __future__ import annotations

import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clearing.worker import ladder as ladder_module
from clearing.worker.config import MachineConfig
from clearing.worker.gate import Gate
from clearing.worker.ladder import RESTARTS_PER_HOUR, Found, Ladder
from clearing.worker.places import Places
from clearing.worker.prober import probe_slots
from clearing.worker.rungs import PROBLEM_LABELS, Rung
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.fake_server import TOKEN
from tests.clearing.worker.house import Child, House

SLOT = "A-01"
HUNG: Found = {"problem": "no_answer", "hung": True}
QUIET: Found = {"problem": "no_answer"}
WELL: Found = {"problem": "", "device_no": "D1"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder_module, "_SETTLE_PAUSE", 0.01)
    monkeypatch.setattr(ladder_module, "SETTLE_SECONDS", 0.3)


class Bench:
    """A ladder whose commands write down that they ran, and whose probe is scripted."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.log = folder / "ran"
        self.answers: list[Found] = []
        self.told: list[tuple[str, str | None]] = []
        self.config = replace(
            MachineConfig(
                server="http://h",
                token=TOKEN,
                data_dir=folder,
                restart_service=self.writes("restart"),
                power_cycle=self.writes("power {slot}"),
                ladder_seconds=0.2,
            ),
            **changes,
        )
        self.places = Places(folder)
        self.ladder = Ladder(self.config, self.places, probe=self.probe, told=self.tell)

    def writes(self, text: str) -> tuple[str, ...]:
        code = f"open({str(self.log)!r}, 'a').write({text + chr(10)!r})"
        return (sys.executable, "-c", code)

    def probe(self, config: MachineConfig, slots: list[str], places: Places) -> Mapping[str, Found]:
        answer = self.answers.pop(0) if self.answers else HUNG
        if answer is WELL:
            places.unmark(slots[0])
        return {slots[0]: answer}

    def tell(self, slot: str, found: Found | None) -> None:
        rung = self.places.rung(slot)
        self.told.append((slot, None if rung is None else rung.name))

    def climb(self, *slots: str) -> None:
        for slot in slots:
            self.places.mark(slot)
            self.ladder.take(slot)
        self.ladder.wait()

    @property
    def ran(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


Made = Callable[..., Bench]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    benches: list[Bench] = []

    def make(**changes: Any) -> Bench:
        benches.append(Bench(tmp_path, **changes))
        return benches[-1]

    yield make
    for bench in benches:
        bench.ladder.stop()
        bench.ladder.wait()


def test_rung_by_rung_up_to_a_person(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = made()
    bench.climb(SLOT)
    assert bench.ran == ["restart", f"power {SLOT}"]
    assert [rung for _, rung in bench.told] == ["CONTEXT", "SERVICE", "POWER", "PERSON"]
    assert bench.places.rung(SLOT) == Rung.PERSON
    for rung in ("context", "service", "power"):
        assert f"slot {SLOT}: ladder: {rung}" in caplog.text
    assert "a person must look" in caplog.text


@pytest.mark.parametrize(
    ("answers", "ran"),
    [
        ([WELL], []),
        ([HUNG, WELL], ["restart"]),
        ([HUNG, QUIET, QUIET, WELL], ["restart"]),  # readers that are not back at once
        ([HUNG, HUNG, WELL], ["restart", f"power {SLOT}"]),
    ],
)
def test_it_ends_where_the_disk_answers(made: Made, answers: list[Found], ran: list[str]) -> None:
    bench = made()
    bench.answers = list(answers)
    bench.climb(SLOT)
    assert bench.ran == ran
    assert not bench.places.is_marked(SLOT)
    assert bench.told[-1] == (SLOT, None)
    assert bench.ladder.climbing() == frozenset()


def test_without_commands_a_person_comes_sooner(made: Made) -> None:
    bench = made(restart_service=(), power_cycle=())
    bench.climb(SLOT)
    assert [rung for _, rung in bench.told] == ["CONTEXT", "PERSON"]


def test_what_was_given_up_is_not_climbed_for_again(made: Made) -> None:
    bench = made()
    bench.climb(SLOT)
    bench.ladder.take(SLOT)
    bench.ladder.wait()
    assert len(bench.ran) == 2


def test_a_worker_that_starts_again_goes_on_where_it_was(made: Made) -> None:
    bench = made()
    bench.places.climb(SLOT, Rung.SERVICE)
    bench.ladder.take(SLOT)
    bench.ladder.wait()
    assert bench.ran == [f"power {SLOT}"]


def test_a_disk_that_was_pulled_out_is_left_in_peace(made: Made) -> None:
    bench = made()
    bench.ladder.take(SLOT)  # the inventory took the mark away when the slot was empty
    bench.ladder.wait()
    assert bench.ran == []
    assert not bench.places.is_marked(SLOT)


def test_one_restart_is_for_all_that_hang(made: Made) -> None:
    bench = made(power_cycle=())
    held = threading.Event()
    original = bench.probe

    def probe(config: MachineConfig, slots: list[str], places: Places) -> Mapping[str, Found]:
        held.wait(90)
        return original(config, slots, places)

    bench.ladder._probe = probe
    for slot in (SLOT, "A-02", "A-03"):
        bench.places.mark(slot)
        bench.ladder.take(slot)
    held.set()
    bench.ladder.wait()
    assert bench.ran == ["restart"]
    assert bench.places.rung("A-03") == Rung.PERSON


def test_there_are_only_so_many_restarts_an_hour(made: Made) -> None:
    bench = made(power_cycle=())
    for number in range(RESTARTS_PER_HOUR + 2):
        bench.climb(f"A-{number}")
    assert bench.ran == ["restart"] * RESTARTS_PER_HOUR


@pytest.mark.parametrize("command", [("/nowhere/restart",), (sys.executable, "-c", "exit(3)")])
def test_a_command_that_fails_is_no_help_and_no_end(made: Made, command: tuple[str, ...]) -> None:
    bench = made(restart_service=command)
    bench.climb(SLOT)
    assert bench.ran == [f"power {SLOT}"]
    assert bench.places.rung(SLOT) == Rung.PERSON


def test_a_neighbour_that_is_written_too_long_is_not_cut(made: Made) -> None:
    bench = made()
    neighbour = Gate(bench.config.data_dir).pass_through("A-02")
    assert neighbour is not None
    bench.climb(SLOT)
    assert bench.ran == []
    assert bench.places.rung(SLOT) == Rung.PERSON


def test_power_of_one_reader_alone_need_not_wait(made: Made) -> None:
    bench = made(power_cycle_alone=True)
    neighbour = Gate(bench.config.data_dir).pass_through("A-02")
    assert neighbour is not None
    bench.climb(SLOT)
    assert bench.ran == [f"power {SLOT}"]


def test_every_rung_has_a_problem_that_fits_and_a_text() -> None:
    problems = [rung.problem for rung in Rung]
    assert len(set(problems)) == len(problems)
    assert max(map(len, problems)) <= 32
    assert set(PROBLEM_LABELS) == set(problems) - {"no_answer"}
    assert all(rung.label for rung in Rung)


# --- real children on the rack --------------------------------------------------------------------


class Restart:
    """A restart command that says that it began, and ends when it may."""

    def __init__(self, folder: Path) -> None:
        self.began, self.may_end = folder / "began", folder / "may-end"
        wait = f"while [ ! -e {shlex.quote(str(self.may_end))} ]; do sleep 0.02; done"
        self.command = ("sh", "-c", f"touch {shlex.quote(str(self.began))}; {wait}")

    def allow(self) -> None:
        self.may_end.touch()

    def wait_until_begun(self) -> None:
        done = threading.Event()
        for _ in range(1000):
            if self.began.exists():
                return
            done.wait(0.02)
        raise AssertionError("the service was not restarted")


@pytest.fixture
def restart(tmp_path: Path) -> Restart:
    return Restart(tmp_path)


@pytest.fixture
def climbing(house: House, restart: Restart) -> Iterator[Ladder]:
    """Alice's reader hangs; the ladder is to restart the service of both."""

    def probe(config: MachineConfig, slots: list[str], places: Places) -> Mapping[str, Found]:
        return (
            {slots[0]: HUNG} if not restart.may_end.exists() else probe_slots(config, slots, places)
        )

    config = replace(house.config, restart_service=restart.command, ladder_seconds=60.0)
    house.places.mark(house.alices.slot)
    ladder = Ladder(config, house.places, probe=probe, told=lambda slot, found: None)
    yield ladder
    restart.allow()
    ladder.stop()
    ladder.wait()


def bobs(house: House) -> Child:
    return house.child(
        house.order(
            2, device_no=house.bobs.device_no, tax_id=house.bobs.tax_id, slot=house.bobs.slot
        )
    )


def test_a_neighbour_between_intent_and_read_back_is_never_cut(
    house: House, restart: Restart, climbing: Ladder
) -> None:
    house.rack.fault(house.bobs.device_no, Mode.HANG_AFTER, command="DECLARE_DUTY", seconds=1.0)
    neighbour = bobs(house)
    house.rack.wait_until_hanging(house.bobs.device_no, timeout=20)
    climbing.take(house.alices.slot)
    restart.wait_until_begun()
    # What Bob's disk had been sent when the restart began: the write, and its read-back.
    sent = house.rack.commands(house.bobs.device_no)
    assert "READ_BINARY" in sent[sent.index("DECLARE_DUTY") :]
    assert Gate(house.data_dir).writing() == []
    restart.allow()
    neighbour.finish()
    climbing.wait()
    assert house.disk(house.bobs).clears == 1
    assert not house.places.is_marked(house.alices.slot)


def test_while_the_service_is_restarted_nobody_begins_to_write(
    house: House, restart: Restart, climbing: Ladder
) -> None:
    climbing.take(house.alices.slot)
    restart.wait_until_begun()
    neighbour = bobs(house)
    said: list[bytes] = []
    assert neighbour.process.stdout is not None
    while not (said and b'"gate"' in said[-1]):
        said.append(neighbour.process.stdout.readline())
        assert said[-1], "the child did not wait at the gate"
    assert "intend" not in house.server.verbs()
    assert house.writes(house.bobs) == []
    restart.allow()
    neighbour.finish()
    assert "intend" in house.server.verbs()
    assert house.disk(house.bobs).clears == 1
