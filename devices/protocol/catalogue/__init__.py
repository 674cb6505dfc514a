"""The catalogue of failures: for every code whose move it is, and three texts for an accountant.

Owns the table of domain.md §7 as the program uses it: :data:`CATALOGUE` (code → entry) and
:func:`from_device_code` (a vendor's raw code → code). What the *bureau* says is mapped where the
bureau is spoken to.

Must never: lose a raw code (it stays in the Failure), or hold a text that asks someone to repeat a
password, change a computer's clock or reinstall a driver.
"""

from __future__ import annotations

from collections.abc import Mapping

from devices.protocol.catalogue.device_entries import DEVICE_ENTRIES
from devices.protocol.catalogue.entry import Entry
from devices.protocol.catalogue.month_entries import MONTH_ENTRIES
from devices.protocol.catalogue.vendor_codes import from_device_code, tries_left_in
from devices.protocol.failures import Code, FailureClass

__all__ = ["CATALOGUE", "Entry", "class_of", "entry_of", "from_device_code", "tries_left_in"]

CATALOGUE: Mapping[Code, Entry] = {entry.code: entry for entry in DEVICE_ENTRIES + MONTH_ENTRIES}


def entry_of(code: Code) -> Entry:
    """The entry of ``code``; every code has one."""
    return CATALOGUE[code]


def class_of(code: Code) -> FailureClass:
    """Who moves next."""
    return CATALOGUE[code].cls
