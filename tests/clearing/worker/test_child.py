"""A run in its own process against real simulated disks, killed for real."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clearing.worker.deliver import flush
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.fake_server import TOKEN, Answer, Call
from tests.clearing.worker.house import LIMITS, PIN, Child, House


def flushed(house: House) -> int:
    with house.client() as client:
        return flush(house.journal, client)


def calls_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["name"] for event in events if event["event"] == "call"]


def test_a_run_reports_and_clears_and_tells_everything(house: House) -> None:
    child = house.child(house.order())
    events = child.finish()

    assert child.process.returncode == 0
    assert events[-1] == {"event": "settled", "end": "done", "code": ""}
    assert (house.disk().declares, house.disk().clears) == (1, 1)
    attempt = child.order.attempt
    assert house.server.of("settle")[0].body["outcome"]["end"] == "done"
    numbers = [fact["number"] for fact in house.server.facts_of(attempt)]
    assert numbers == list(range(1, len(numbers) + 1))
    first, second = house.server.pins_of(attempt)
    assert (first["generation"], second["generation"]) == (2, 3)
    assert house.holds_pin(bytes.fromhex(second["pin"]))
    assert house.server.facts_of(attempt, "package")[0]["data"]["unit"] == "025"
    assert house.journal_files() == []
    assert len(house.server.calls) <= 7
    assert "disk.clear" in calls_of(events)


def test_no_secret_stands_in_arguments_environment_or_events(house: House) -> None:
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY")
    child = house.child(house.order())
    house.wait_until_hanging()
    process = Path(f"/proc/{child.process.pid}")
    visible = process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes()
    child.process.kill()
    said = str(child.finish())
    for secret in (PIN.decode(), TOKEN):
        assert secret not in said
        assert secret.encode() not in visible


@pytest.mark.parametrize(
    ("mode", "command", "writes", "pin"),
    [
        (Mode.HANG_BEFORE, "VERIFY_FISCAL_PIN", [], "unknown"),
        (Mode.HANG_AFTER, "VERIFY_FISCAL_PIN", ["VERIFY_FISCAL_PIN"], "unknown"),
        (Mode.HANG_BEFORE, "DECLARE_DUTY", ["VERIFY_FISCAL_PIN"], "pin"),
        (Mode.HANG_AFTER, "DECLARE_DUTY", ["VERIFY_FISCAL_PIN", "DECLARE_DUTY"], "pin"),
        (
            Mode.HANG_AFTER,
            "UPDATE_CONTROLS",
            ["VERIFY_FISCAL_PIN", "DECLARE_DUTY", "VERIFY_FISCAL_PIN", "UPDATE_CONTROLS"],
            "pin",
        ),
    ],
)
def test_killed_at_a_command_the_journal_tells_what_became_of_the_pin(
    house: House, mode: Mode, command: str, writes: list[str], pin: str
) -> None:
    house.hang(mode, command)
    child = house.child(house.order())
    house.wait_until_hanging()
    child.kill()
    house.wait_until_free()

    assert flushed(house) == 1
    assert house.writes() == writes
    release = house.server.of("release")[0]
    assert release.body["attempt"] == child.order.attempt
    last = house.server.pins_of(child.order.attempt)[-1]
    assert pin in last
    if pin == "pin":
        assert house.holds_pin(bytes.fromhex(last["pin"]))
    assert house.journal_files() == []


def test_killed_after_the_clear_the_next_run_reads_and_does_not_write_again(house: House) -> None:
    house.hang(Mode.HANG_AFTER, "UPDATE_CONTROLS")
    child = house.child(house.order())
    house.wait_until_hanging()
    child.kill()
    flushed(house)

    house.child(house.order(2, pin_generation=1)).finish()

    assert house.server.of("settle")[0].body["outcome"]["end"] == "done"
    assert house.disk().clears == 1


def test_after_an_open_window_no_pin_is_sent_until_a_person_has_decided(house: House) -> None:
    house.hang(Mode.HANG_BEFORE, "VERIFY_FISCAL_PIN")
    child = house.child(house.order())
    house.wait_until_hanging()
    child.kill()
    flushed(house)
    house.rack.clear_faults(house.alices.device_no)

    # The server, told or not, hands out the same PIN: this machine knows better.
    house.child(house.order(2)).finish()
    assert house.server.of("settle")[0].body["outcome"]["code"] == "pin_unknown"
    assert house.writes() == []

    # A person entered a PIN: the generation went on, and the window is over.
    house.child(house.order(3, pin_generation=2)).finish()
    assert house.server.of("settle")[1].body["outcome"]["end"] == "done"
    assert house.disk().clears == 1


def test_a_refused_pin_is_told_and_costs_one_try(house: House) -> None:
    child = house.child(house.order(device_password="00000000"))
    child.finish()
    assert house.server.of("settle")[0].body["outcome"]["code"] == "password_wrong"
    assert house.server.pins_of(child.order.attempt) == [{"generation": 1, "refused": True}]
    assert house.server.facts_of(child.order.attempt, "password")[0]["data"]["tries_left"] == 2
    assert house.disk().tries == 2


@pytest.mark.parametrize("stage", ["report", "clear"])
@pytest.mark.parametrize(
    "answer",
    [
        (409, {"granted": False, "reason": "lease_lost"}),
        (409, {"granted": False, "reason": "of a newer server"}),
        (403, {"error": "machine_revoked"}),
    ],
)
def test_without_permission_nothing_is_written_and_the_run_is_given_back(
    house: House, stage: str, answer: Answer
) -> None:
    house.server.scripts["intend"] = lambda c: answer if c.body["stage"] == stage else None
    house.child(house.order()).finish()
    done = [] if stage == "report" else ["VERIFY_FISCAL_PIN", "DECLARE_DUTY"]
    assert house.writes() == done
    assert house.server.verbs()[-1] == "release"
    assert "settle" not in house.server.verbs()


def test_a_permission_shorter_than_the_command_writes_nothing(house: House) -> None:
    house.server.grant_seconds = LIMITS.call - 0.5
    child = house.child(house.order())
    child.finish()
    assert house.writes() == []
    assert house.server.of("release")[0].body["detail"].startswith("permission")
    # The server's own intent to roll is closed: the card kept its PIN.
    assert house.server.pins_of(child.order.attempt) == [
        {"generation": 1, "refused": True, "sent": False}
    ]


def test_a_wrong_clock_asks_for_nothing_and_writes_nothing(house: House) -> None:
    house.server.clock_offset = dt.timedelta(minutes=10)
    house.child(house.order()).finish()
    assert "intend" not in house.server.verbs()
    assert house.writes() == []
    assert house.server.of("settle")[0].body["outcome"]["code"] == "clock_wrong"


def test_a_second_child_for_the_same_disk_refuses(house: House) -> None:
    house.hang(Mode.HANG_BEFORE, "SELECT EF02")
    first = house.child(house.order(1))
    house.wait_until_hanging()
    sent = house.commands()

    events = house.child(house.order(2)).finish()
    assert {"event": "busy"} in events
    assert house.server.of("release")[0].run_id == 2
    assert house.commands() == sent
    first.kill()


def test_a_marked_slot_is_not_opened(house: House) -> None:
    house.places.mark(house.alices.slot)
    house.child(house.order()).finish()
    assert house.server.verbs() == ["release"]
    assert house.commands() == []


def test_the_wrong_disk_in_the_slot_is_sent_no_pin(house: House) -> None:
    house.rack.swap(house.alices.slot, house.bobs.device_no)
    house.child(house.order()).finish()
    assert house.server.of("settle")[0].body["outcome"]["code"] == "wrong_disk"
    assert house.writes() == house.writes(house.bobs) == []


def test_a_child_does_not_outlive_its_worker_even_inside_a_hung_command(house: House) -> None:
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY")
    child = house.child(house.order())
    house.wait_until_hanging()
    assert child.process.stdin is not None
    child.process.stdin.close()  # what the kernel does when the worker is killed
    child.finish()
    assert child.process.returncode != 0
    house.wait_until_free()
    assert house.disk().declares == 0


def test_asked_to_stop_it_ends_before_the_next_permission(house: House) -> None:
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY", seconds=1)
    child = house.child(house.order())
    house.wait_until_hanging()
    child.say(b"stop\n")
    child.finish()
    assert house.writes() == ["VERIFY_FISCAL_PIN", "DECLARE_DUTY"]  # not cut
    assert house.server.of("release")[0].body["detail"].endswith("the worker is stopping")


def test_what_could_not_be_settled_is_delivered_later_exactly_in_order(house: House) -> None:
    down = True

    def script(call: Call) -> Answer | None:
        return (503, {}) if down else None

    house.server.scripts["settle"] = script
    child = house.child(house.order(limits=replace(LIMITS, bureau=2.0)))
    events = child.finish()
    assert events[-1]["event"] == "unsettled"
    assert len(house.journal_files()) == 1

    down = False
    assert flushed(house) == 1
    settle = house.server.of("settle")[0]
    numbers = [fact["number"] for fact in settle.body["facts"]]
    assert settle.body["outcome"]["end"] == "done"
    assert numbers == sorted(numbers) and numbers
    told = [fact["number"] for fact in house.server.facts_of(child.order.attempt)]
    assert told == list(range(1, numbers[-1] + 1))
    assert house.journal_files() == []


def test_a_server_out_of_reach_permits_nothing(house: House) -> None:
    house.server.scripts["intend"] = lambda call: (503, {})
    short = replace(LIMITS, grant=LIMITS.call)  # asks for two seconds, then gives up
    child: Child = house.child(house.order(limits=short))
    child.finish()
    assert house.writes() == []
    assert house.server.verbs()[-1] == "release"
