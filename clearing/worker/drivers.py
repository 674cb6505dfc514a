"""Which driver opens a disk of which kind, on this machine.

Owns the table of kinds. What has no driver here is ``not_supported`` and becomes work by hand.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

from devices.drivers.contract import PinStore, TaxDisk
from devices.drivers.dates import Kind
from devices.drivers.ic_card import IcCardDisk
from devices.protocol.failures import Code, Failure
from devices.simulator.rack_client import RackChannel

# A card reader has no time limit of its own: a hung call is ended by ending its process. The
# simulated channel's limit only has to be longer than that.
_CHANNEL_FACTOR = 4.0


def open_disk(
    kind: str,
    slot: str,
    *,
    rack_socket: Path | None,
    call_seconds: float,
    pins: PinStore | None,
    host_now: Callable[[], dt.datetime],
) -> TaxDisk:
    """Open what is in the slot. Raises Failure: not_supported, disk_absent, disk_in_use, …"""
    if kind != Kind.IC_CARD or rack_socket is None:
        raise Failure(Code.NOT_SUPPORTED, detail=kind)
    channel = RackChannel(rack_socket, slot, timeout=call_seconds * _CHANNEL_FACTOR)
    return IcCardDisk(channel, pins=pins, host_now=host_now)
