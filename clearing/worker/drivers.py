"""Which driver opens a disk of which kind, on this machine.

Owns the table of kinds. What has no driver here is ``not_supported`` and becomes work by hand.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field

from clearing.worker.hardware import Hardware
from devices.drivers.contract import CardChannel, PinStore, TaxDisk
from devices.drivers.dates import Kind
from devices.drivers.ic_card import IcCardDisk
from devices.protocol.failures import Code, Failure
from devices.simulator.rack_client import RackChannel

# A card reader has no time limit of its own: a hung call is ended by ending its process. The
# simulated channel's limit only has to be longer than that.
_CHANNEL_FACTOR = 4.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """The disk to be opened. ``device_no``: the one that is expected, empty to ask who is there;
    ``password``: hands out the device password, or raises the Failure that says why there is none.
    """

    kind: str
    slot: str
    call_seconds: float
    host_now: Callable[[], dt.datetime]
    device_no: str = ""
    tax_id: str = ""
    pins: PinStore | None = None
    password: Callable[[], str] = field(default=lambda: "", repr=False)


Opener = Callable[[Hardware, Wanted], TaxDisk]


def open_disk(hardware: Hardware, wanted: Wanted) -> TaxDisk:
    """Open what is in the slot. Raises Failure: not_supported, disk_absent, disk_in_use, …"""
    opener = DRIVERS.get(wanted.kind)
    if opener is None:
        raise Failure(Code.NOT_SUPPORTED, detail=wanted.kind)
    return opener(hardware, wanted)


def kind_in(hardware: Hardware, slot: str) -> str:
    """The kind by which to ask who is in a slot: a card answers, a component has one."""
    component = hardware.component_of(slot)
    return component.kind if component is not None else Kind.IC_CARD.value


def _ic_card(hardware: Hardware, wanted: Wanted) -> TaxDisk:
    reader = hardware.reader_of(wanted.slot)
    channel: CardChannel
    if hardware.pcsc is not None:
        channel = hardware.pcsc.channel(reader)
    elif hardware.rack_socket is not None:
        seconds = wanted.call_seconds * _CHANNEL_FACTOR
        channel = RackChannel(hardware.rack_socket, reader, timeout=seconds)
    else:
        raise Failure(Code.NOT_SUPPORTED, detail=wanted.kind)
    return IcCardDisk(channel, pins=wanted.pins, host_now=wanted.host_now)


def _component(hardware: Hardware, wanted: Wanted) -> TaxDisk:
    from devices.drivers.component import ComponentDisk  # only where there is one
    from devices.drivers.component_http import HttpTransport

    component = hardware.component_of(wanted.slot)
    if component is None or component.kind != wanted.kind:
        raise Failure(Code.NOT_SUPPORTED, detail=wanted.kind)
    return ComponentDisk(
        HttpTransport(component.address),
        kind=Kind(wanted.kind),
        device_no=wanted.device_no or component.device_no,
        tax_id=wanted.tax_id,
        password=wanted.password,
        call_seconds=wanted.call_seconds,
    )


DRIVERS: dict[str, Opener] = {
    Kind.IC_CARD: _ic_card,
    Kind.BAIWANG: _component,
    Kind.AISINO: _component,
    Kind.UKEY: _component,
}
