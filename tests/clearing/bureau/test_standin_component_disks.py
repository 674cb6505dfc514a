"""The stand-in bureau with component disks: several types, units, the clock in the clear data."""

from __future__ import annotations

import datetime as dt

import pytest

from clearing.bureau.messages import Operation, Reply, Request
from clearing.bureau.port import DiskAddress
from clearing.bureau.refusals import OK, Refusal
from clearing.bureau.standin.rules import Rules
from clearing.bureau.standin.state import State
from devices.drivers.contract import Unit
from devices.drivers.dates import Kind
from devices.protocol.month import Month
from devices.simulator import component_clear, crypto
from devices.simulator.world import World, WorldTaxpayer
from tests.devices.cards import IN_WINDOW, KEY, PERIOD
from tests.devices.components import KINDS, NUMBERS, TAX_ID, TYPES, component_world_disk

JANUARY = Month(2026, 1)


class Desk:
    """The rules over a world of one component disk."""

    def __init__(self, kind: Kind, **changes: object) -> None:
        payer = WorldTaxpayer(TAX_ID, "甲", "1", "模拟税务局", {"2026-02": "filed"})
        disk = component_world_disk(kind, **changes)
        self.kind = kind
        self.rules = Rules(World(KEY.hex(), taxpayers=[payer], disks=[disk]), State())

    def ask(self, operation: Operation, *types: str, period: Month = PERIOD) -> Reply:
        address = DiskAddress(NUMBERS[self.kind], TAX_ID, 0)
        fields = {"sq": "202602", "fphz": "0A"} if types else {}
        unit = Unit(types) if types else None
        request = Request(operation, address, period, unit, fields)
        return self.rules.rule(request, IN_WINDOW).reply

    def status(self, period: Month = PERIOD) -> tuple[str, str]:
        fields = self.ask(Operation.STATUS, period=period).fields
        return fields["reported"], fields["cleared"]


@pytest.mark.parametrize("kind", KINDS)
def test_clear_data_are_made_for_one_unit_of_one_disk(kind: Kind) -> None:
    desk = Desk(kind)
    assert desk.ask(Operation.CLEAR_DATA, "004").code == Refusal.NOT_REPORTED.raw_code
    assert desk.ask(Operation.REPORT, "004").code == OK
    group = desk.ask(Operation.CLEAR_DATA, "004").groups[0]
    number = component_clear.card_number(NUMBERS[kind])
    controls = crypto.open_clear_data(KEY, number, bytes.fromhex(group["fpjkmw"]))
    assert controls.issue_deadline == dt.date(2026, 4, 20)
    assert controls.tax_index == component_clear.mark_of(("004",))
    assert controls.tax_index != component_clear.mark_of(("007",))
    with pytest.raises(crypto.Forged):
        crypto.open_clear_data(KEY, number[::-1], bytes.fromhex(group["fpjkmw"]))


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_baiwang_clear_carries_the_clock(kind: Kind) -> None:
    desk = Desk(kind)
    desk.ask(Operation.REPORT, "004")
    group = desk.ask(Operation.CLEAR_DATA, "004").groups[0]
    assert ("szjkmw" in group) is (kind is Kind.BAIWANG)
    if kind is Kind.BAIWANG:
        number = NUMBERS[kind]
        assert component_clear.open_clock(KEY, number, group["szjkmw"]) == IN_WINDOW
        assert component_clear.open_clock(KEY, number[::-1], group["szjkmw"]) is None
    assert component_clear.open_clock(KEY, NUMBERS[kind], "") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_is_reported_and_cleared_when_its_last_type_is(kind: Kind) -> None:
    desk, types = Desk(kind), TYPES[kind]
    for found in types:
        assert desk.status() == ("0", "0")
        desk.ask(Operation.REPORT, found)
    for found in types:
        assert desk.status() == ("1", "0")
        desk.ask(Operation.CLEAR_DATA, found)
        assert desk.ask(Operation.CONFIRM, found).code == OK
    assert desk.status() == ("1", "1")
    assert desk.ask(Operation.CLEAR_DATA, types[0]).code == Refusal.ALREADY_CLEARED.raw_code


def test_a_type_that_stands_apart_has_its_own_dates() -> None:
    disk = component_world_disk(Kind.BAIWANG)
    disk.types[0].cleared_through = disk.types[0].reported_through = "2026-02-28"
    desk = Desk(Kind.BAIWANG, types=disk.types)
    assert desk.status(JANUARY) == ("1", "1")
    assert desk.status() == ("0", "0")
    assert desk.ask(Operation.CLEAR_DATA, "004").code == Refusal.ALREADY_CLEARED.raw_code
    assert desk.ask(Operation.CLEAR_DATA, "007").code == Refusal.NOT_REPORTED.raw_code
