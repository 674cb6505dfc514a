"""What a kind cannot do waits for a person: no driver, or a driver that has not the capability."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from clearing.worker.inventory import Inventory
from clearing.worker.runner import Runner
from tests.clearing.worker.house import House

#: A child whose table of drivers has one more kind: the card, which refuses what it cannot do.
_CHILD = """
import sys
from clearing.worker import drivers
from clearing.worker.child import main
from devices.drivers.contract import Capabilities

class HalfDisk:
    capabilities = Capabilities(**{lacks})

    def __init__(self, disk):
        self._disk = disk

    def __getattr__(self, name):
        return getattr(self._disk, name)

drivers.DRIVERS["half"] = lambda *wanted: HalfDisk(drivers.DRIVERS["ic_card"](*wanted))
sys.exit(main())
"""


def settled(house: House, kind: str, lacks: str = "{}") -> dict[str, object]:
    command = (sys.executable, "-c", _CHILD.replace("{lacks}", lacks))
    house.server.orders = [house.order(kind=kind)]
    with house.client() as client:
        runner = Runner(house.config, client, house.journal, house.places, command=command)
        runner.work()
    (settle,) = house.server.of("settle")
    outcome: dict[str, object] = settle.body["outcome"]
    return outcome


@pytest.mark.parametrize("kind", ["of_tomorrow", "ukey"])
def test_a_kind_without_a_driver_here_waits_for_a_person(house: House, kind: str) -> None:
    """The second has a driver, and this machine no component for its slot."""
    outcome = settled(house, kind)
    assert (outcome["end"], outcome["reason"]) == ("waiting", "by_hand")
    assert (outcome["code"], outcome["detail"]) == ("not_supported", kind)
    assert house.commands() == []


@pytest.mark.parametrize(("lacks", "intents"), [("report", []), ("clear", ["report"])])
def test_a_step_that_a_kind_cannot_do_waits_for_a_person_and_asks_for_no_permission(
    house: House, lacks: str, intents: list[str]
) -> None:
    outcome = settled(house, "half", f"{{'{lacks}': False, 'rolls_pin': True}}")
    assert (outcome["end"], outcome["reason"]) == ("waiting", "by_hand")
    assert (outcome["code"], outcome["detail"]) == ("not_supported", lacks)
    assert [call.body["stage"] for call in house.server.of("intend")] == intents
    assert house.disk().clears == 0
    assert house.disk().declares == len(intents)


def test_only_named_slots_are_asked_and_told(house: House) -> None:
    config = replace(house.config, only_slots=(house.bobs.slot,))
    with house.client() as client:
        runner = Runner(config, client, house.journal, house.places)
        inventory = Inventory(config, client, house.places, runner)
        inventory.step()
        assert inventory._prober is not None
        inventory._prober.join()
        inventory.step()
    (slot,) = house.server.of("presence")[-1].body["slots"]
    assert slot["device_no"] == house.bobs.device_no
    assert house.commands() == []  # Alice's was not touched
