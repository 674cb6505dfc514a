"""The person's way out of a PIN in doubt, as the machine sees it.

Each decision is a new generation.

Real children, a real disk killed in the window, and a server that says what a person decided.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clearing.worker.deliver import flush
from clearing.worker.pinbook import PinState
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.house import House

WRONG = "00000000"


class Doubt:
    """Alice's disk after a kill in the window; runs are numbered."""

    def __init__(self, house: House, mode: Mode) -> None:
        self.house = house
        self._run = 1
        house.hang(mode, "VERIFY_FISCAL_PIN")
        child = house.child(house.order())
        house.wait_until_hanging()
        child.kill()
        house.wait_until_free()
        house.rack.clear_faults(house.alices.device_no)
        with house.client() as client:
            flush(house.journal, client)
        assert house.server.pins_of(child.order.attempt) == [{"generation": 1, "unknown": True}]

    def run(self, **decided: Any) -> dict[str, Any]:
        """One more run under an order as the server now makes it; how it settled."""
        self._run += 1
        self.house.child(self.house.order(self._run, **decided)).finish()
        outcome: dict[str, Any] = self.house.server.of("settle")[-1].body["outcome"]
        return outcome

    @property
    def tries(self) -> int:
        return self.house.disk().tries

    @property
    def last_told(self) -> dict[str, Any]:
        attempt = self.house.server.of("settle")[-1].body["attempt"]
        return self.house.server.pins_of(attempt)[-1]


@pytest.fixture
def not_rolled(house: House) -> Doubt:
    """The card never saw the command: the last PIN is still right."""
    return Doubt(house, Mode.HANG_BEFORE)


@pytest.fixture
def rolled(house: House) -> Doubt:
    """The card rolled, and its answer was lost: the last PIN is wrong now."""
    return Doubt(house, Mode.HANG_AFTER)


def test_nothing_is_tried_by_itself(not_rolled: Doubt) -> None:
    for _ in range(2):
        assert not_rolled.run()["code"] == "pin_unknown"
    told = {"password_usable": False, "password_code": "pin_unknown"}
    assert not_rolled.run(**told)["code"] == "pin_unknown"
    assert not_rolled.tries == 3
    assert not_rolled.house.writes() == []


def test_the_last_pin_is_tried_once_and_was_right(not_rolled: Doubt) -> None:
    assert not_rolled.run(pin_generation=2)["end"] == "done"
    assert not_rolled.last_told["generation"] == 4  # two rolls on from the decision
    assert not_rolled.house.holds_pin(bytes.fromhex(not_rolled.last_told["pin"]))


def test_the_last_pin_is_tried_once_and_was_wrong(rolled: Doubt) -> None:
    assert rolled.run(pin_generation=2)["code"] == "password_wrong"
    assert rolled.tries == 2
    assert rolled.last_told == {"generation": 2, "refused": True}
    # Once: a server that has not understood does not get it sent again.
    assert rolled.run(pin_generation=2)["code"] == "password_wrong"
    assert rolled.tries == 2


def test_another_pin_is_entered(rolled: Doubt) -> None:
    right = rolled.house.pin()
    assert rolled.run(pin_generation=2, device_password=right)["end"] == "done"
    assert rolled.last_told["generation"] == 4
    assert rolled.tries == 3


def test_another_pin_is_entered_and_is_wrong_too(rolled: Doubt) -> None:
    assert rolled.run(pin_generation=2, device_password=WRONG)["code"] == "password_wrong"
    assert rolled.run(pin_generation=2, device_password=WRONG)["code"] == "password_wrong"
    assert rolled.tries == 2  # one try for one decision
    right = rolled.house.pin()
    assert rolled.run(pin_generation=3, device_password=right)["end"] == "done"


@pytest.fixture
def other_machine(tmp_path: Path) -> Path:
    """A second machine's folder: what the first one's journal says is lost with the machine."""
    return tmp_path / "other"


def test_the_machine_is_declared_lost_and_another_goes_on(
    not_rolled: Doubt, other_machine: Path
) -> None:
    house = not_rolled.house
    config = replace(house.config, data_dir=other_machine)
    house.child(house.order(9, intent="report", pin_generation=2), config).finish()
    assert house.server.of("settle")[-1].body["outcome"]["end"] == "done"
    newest = not_rolled.last_told
    assert newest["generation"] == 3

    # The lost machine turns up, its window still open: the order's PIN is newer than that.
    entry = house.journal.pins.get(house.alices.device_no)
    assert entry is not None and (entry.state, entry.generation) == (PinState.OPEN, 1)
    assert not_rolled.run(pin_generation=3, device_password=newest["pin"])["end"] == "done"
    assert house.disk().clears == 1
    assert not_rolled.tries == 3


def test_a_lost_machine_s_older_roll_never_replaces_what_was_decided(
    house: House, other_machine: Path
) -> None:
    """It had rolled, told nobody, and is found again after somebody entered a PIN elsewhere."""
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY")
    child = house.child(house.order())
    house.wait_until_hanging()
    child.kill()
    house.wait_until_free()
    house.rack.clear_faults(house.alices.device_no)
    held = house.journal.pins.get(house.alices.device_no)
    assert held is not None and (held.state, held.generation) == (PinState.ROLLED, 2)

    config = replace(house.config, data_dir=other_machine)
    entered = house.order(2, intent="report", pin_generation=3, device_password=house.pin())
    house.child(entered, config).finish()
    newest = house.server.pins_of(entered.attempt)[-1]
    assert newest["generation"] == 4

    again = house.order(3, pin_generation=4, device_password=newest["pin"])
    house.child(again).finish()
    assert house.server.of("settle")[-1].body["outcome"]["end"] == "done"
    assert house.disk().clears == 1
    assert house.disk().tries == 3
