"""What every driver of a tax disk offers, and what it needs.

A driver hides how its kind speaks, what it treats together (a *unit*: one invoice type, a group,
or all of them) and by how many days its dates are off. It never decides: it reads, reports and
writes when told, and says what came back. Errors leave a driver only as
:class:`devices.protocol.failures.Failure`, with the raw code attached.

No Django here, no database, no server: a driver can be read and tested alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from devices.protocol.control import ControlData
from devices.protocol.month import Month


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a kind can do through its interface; what it cannot becomes ``by_hand``."""

    identify: bool = True  # without a password
    read: bool = True
    report: bool = True
    clear: bool = True
    rolls_pin: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the disk says it is, asked without sending a password.

    ``device_no``: 12 digits, or 16 hexadecimal digits (upper case) for an IC card.
    ``tax_id`` and ``taxpayer_name`` are empty where a kind tells them only after a password.
    ``terminal_no``: 0 for the main machine, or None where the disk does not say.
    """

    device_no: str
    tax_id: str
    taxpayer_name: str
    kind: str
    terminal_no: int | None = None
    training: bool = False
    retired: bool = False
    raw: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unit:
    """What the kind reports and clears together: the invoice types, in ascending order."""

    types: tuple[str, ...]

    @property
    def key(self) -> str:
        """A stable name of the unit in messages and tables, e.g. ``025`` or ``004+007``."""
        return "+".join(self.types)


@dataclass(frozen=True, slots=True)
class ReportPackage:
    """The disk's closed period, as it goes to the bureau (WLCB).

    ``fields`` are the texts of the message by their own names (``sq``, ``fphz``, ``qtxx`` …);
    binary parts are hexadecimal. ``statistics`` are counts, and amounts in fen, of the period.
    """

    unit: Unit
    period: Month
    fields: Mapping[str, str]
    statistics: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClearRequest:
    """What the bureau wants to see before it gives clear data; opaque (copy time, lock date)."""

    unit: Unit
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ClearData:
    """The bureau's control ciphertext (QLJS), passed on unread. ``fields``: fpjkmw, szjkmw …"""

    unit: Unit
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Pin:
    """A rolling PIN. Each roll makes the next generation; an older one never replaces a newer."""

    value: bytes = field(repr=False)
    generation: int


class PinStore(Protocol):
    """Where a rolling PIN lives while a driver uses it; implemented by who runs the driver.

    The order is: :meth:`begin`, then the command that rolls, then :meth:`rolled` before any other
    command is sent. A driver that gets no answer to the rolling command, or a garbled one, calls
    nothing more: the open intent in the journal says that the PIN is in doubt.
    """

    def current(self) -> Pin:
        """The PIN to send. Raises Failure(pin_unknown) or Failure(pin_held)."""

    def begin(self) -> None:
        """Make the intent to roll durable here and at the server, or raise Failure: no roll."""

    def rolled(self, new: bytes) -> None:
        """Keep the new PIN; returns only after it is safe on the disk of this machine."""

    def refused(self) -> None:
        """The card answered that it did not take the PIN: nothing rolled, the intent is closed."""


class TaxDisk(Protocol):
    """One open disk. Every call may raise :class:`devices.protocol.failures.Failure`."""

    @property
    def capabilities(self) -> Capabilities: ...

    def identify(self) -> Identity:
        """Who are you; sends no password."""

    def units(self, types: Sequence[str]) -> list[Unit]:
        """Group invoice types as this kind treats them, in the order to be worked in."""

    def read_control(self) -> dict[str, ControlData]:
        """Control data per invoice type, dates normalised (domain rule); changes nothing."""

    def pending_uploads(self) -> int:
        """Invoices not yet uploaded (or not yet collected): must be 0 before a report."""

    def export(self) -> bytes:
        """Everything that can be read without changing the disk: canonical JSON (UTF-8)."""

    def report(self, unit: Unit, period: Month) -> ReportPackage:
        """Close ``period`` on the disk and hand out its summary. Changes the disk."""

    def clear_request(self, unit: Unit) -> ClearRequest:
        """What the bureau needs to make clear data for this disk; changes nothing."""

    def clear(self, unit: Unit, data: ClearData) -> None:
        """Write the bureau's control data. A return without error proves nothing: read again."""

    def close(self) -> None:
        """Let go of the disk; safe to call twice, raises nothing."""


class CardChannel(Protocol):
    """A connection to one card. ``transmit`` raises Failure: ``disk_absent``, ``disk_in_use``,
    ``no_answer`` (with ``outcome_unknown=True`` when the command may have taken effect)."""

    def transmit(self, apdu: bytes) -> bytes:
        """Send one command APDU; the whole response: data and the two status bytes SW1 SW2."""

    def close(self) -> None:
        """Give the card back; safe to call twice."""
