"""Which disk is plugged in where, right now."""

from __future__ import annotations

from collections.abc import Iterable

from agency.clock import real_now
from devices.selectors import present_slots


def places_of(device_numbers: Iterable[str]) -> dict[str, str]:
    """Device number → "machine slot", for those of fresh presence reports (one query)."""
    slots = present_slots(real_now()).filter(device_no__in=[no for no in device_numbers if no])
    return {
        slot.device_no: f"{slot.machine.name} {slot.name}"
        for slot in slots.select_related("machine")
    }
