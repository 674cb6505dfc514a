"""Simulated cards for tests: a world, cards in the test's own process, a PIN store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from devices.drivers.contract import ClearData, Pin
from devices.drivers.ic_card import UNIT, IcCardDisk
from devices.protocol.apdu import Command, Response
from devices.protocol.control import BEIJING
from devices.protocol.iccard import (
    Application,
    command_name,
    select_application,
    verify_fiscal_pin,
)
from devices.protocol.iccard_layouts import ControlFile
from devices.protocol.month import Month
from devices.simulator import crypto
from devices.simulator.card import SimulatedCard
from devices.simulator.card_state import CardState
from devices.simulator.world import World, WorldDisk

KEY = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
DEVICE_NO = "00000000000A0001"
OTHER_NO = "00000000000A0002"
FIRST_PIN = "PIN00000"

PERIOD = Month(2026, 2)
NEXT_DEADLINE = dt.date(2026, 4, 15)
IN_WINDOW = dt.datetime(2026, 3, 5, 9, 30, tzinfo=BEIJING)

INVOICES: list[dict[str, Any]] = [
    {"date": "2026-01-31", "valid": 9, "valid_fen": 99_00},
    {"date": "2026-02-01", "valid": 3, "returned": 1, "valid_fen": 1200_50, "return_fen": 20_00},
    {"date": "2026-02-28", "valid": 2, "voided": 1, "valid_fen": 300_00},
    {"date": "2026-03-01", "valid": 7, "valid_fen": 77_00},
]


def world_disk(device_no: str = DEVICE_NO, **changes: Any) -> WorldDisk:
    """A disk of period 2026-02, neither reported nor cleared."""
    facts: dict[str, Any] = {
        "tax_id": "91440101MA5CA1B2X7",
        "taxpayer_name": "广州测试商贸有限公司",
        "machine": "m1",
        "slot": f"S-{device_no[-2:]}",
        "pin": FIRST_PIN,
        "issue_deadline": "2026-03-16",
        "cleared_through": "2026-01-31",
        "reported_through": "2026-01-31",
        "invoices": INVOICES,
    }
    return WorldDisk(device_no=device_no, **{**facts, **changes})


def world_of(*disks: WorldDisk, stage_ms: int = 0) -> World:
    return World(key=KEY.hex(), stage_ms=stage_ms, disks=list(disks))


def clear_data(
    deadline: dt.date = NEXT_DEADLINE, device_no: str = DEVICE_NO, key: bytes = KEY
) -> ClearData:
    """What a bureau would hand out."""
    controls = ControlFile(deadline, 10_000_000, 1_000_000_000, 100_000_000, b"\1\2\3\0\0\0")
    data = crypto.make_clear_data(key, device_no, controls.encode())
    return ClearData(UNIT, {"fpjkmw": data.hex().upper()})


@dataclass
class KeptPins:
    """A PIN store in memory that writes down what it was asked, and when to refuse."""

    pin: Pin = field(default_factory=lambda: Pin(FIRST_PIN.encode(), 0))
    calls: list[str] = field(default_factory=list)
    on_begin: Callable[[], None] = lambda: None
    on_rolled: Callable[[], None] = lambda: None

    @property
    def intent_open(self) -> bool:
        return bool(self.calls) and self.calls[-1] == "begin"

    def current(self) -> Pin:
        return self.pin

    def begin(self) -> None:
        self.on_begin()
        self.calls.append("begin")

    def rolled(self, new: bytes) -> None:
        self.on_rolled()
        self.calls.append("rolled")
        self.pin = Pin(new, self.pin.generation + 1)

    def refused(self) -> None:
        self.calls.append("refused")


class Loopback:
    """A channel to a card in this process. ``before`` sees the name of each command first and may
    raise; ``after`` may change the answer."""

    def __init__(self, card: SimulatedCard) -> None:
        self.card = card
        self.sent: list[str] = []
        self.closed = False
        self.before: Callable[[str], None] = lambda name: None
        self.after: Callable[[str, bytes], bytes] = lambda name, answer: answer

    def transmit(self, apdu: bytes) -> bytes:
        name = command_name(apdu)
        self.sent.append(name)
        self.before(name)
        return self.after(name, self.card.transmit(apdu).response)

    def close(self) -> None:
        self.closed = True


def card_of(disk: WorldDisk | None = None, *, announces: bool = False) -> SimulatedCard:
    state = CardState.of_world(disk or world_disk())
    return SimulatedCard(state, KEY, now=lambda: IN_WINDOW, announces=announces)


@dataclass
class Bench:
    """A card, its channel, its PINs and the driver over them."""

    card: SimulatedCard
    channel: Loopback
    pins: KeptPins
    disk: IcCardDisk


def bench(
    world: WorldDisk | None = None, *, now: dt.datetime = IN_WINDOW, announces: bool = False
) -> Bench:
    card = card_of(world, announces=announces)
    channel, pins = Loopback(card), KeptPins()
    return Bench(card, channel, pins, IcCardDisk(channel, pins=pins, host_now=lambda: now))


def send(card: SimulatedCard, command: Command) -> Response:
    return Response.decode(card.transmit(command.encode()).response)


def select(card: SimulatedCard) -> SimulatedCard:
    assert send(card, select_application(Application.FISCAL)).ok
    return card


def roll(card: SimulatedCard) -> bytes:
    response = send(card, verify_fiscal_pin(card.state.pin))
    assert response.ok
    return response.data


def ready(card: SimulatedCard | None = None) -> SimulatedCard:
    """A card that is selected and whose PIN is verified."""
    card = select(card or card_of())
    roll(card)
    return card
