"""The rolling PIN of the disk in a run: the PinStore over the order and the machine's journal.

Owns the answer to "which PIN may be sent" and the durable steps around a roll. The server's half of
the intent was made by ``intend(rolls_pin=True)`` just before; without that grant nothing begins.
Must never: send anybody a PIN whose state is in doubt, or return from ``rolled`` before the new
one is on the disk of this machine.
"""

from __future__ import annotations

from clearing.stages import Denied
from clearing.wire import Denial, FactKind, Order
from clearing.worker.grant import Grant
from clearing.worker.journal import AttemptLog, pin_fact
from clearing.worker.pinbook import PinBook, PinEntry, PinState
from devices.drivers.contract import Pin
from devices.protocol.failures import Code, Failure

_HEX_PIN = 16  # an 8-byte PIN, as facts carry it


class JournalPinStore:
    """The PIN of one order's disk (``devices.drivers.contract.PinStore``)."""

    def __init__(self, order: Order, log: AttemptLog, book: PinBook, grant: Grant) -> None:
        self._order = order
        self._log = log
        self._book = book
        self._grant = grant
        # What this run itself learnt; it goes before everything in the order.
        self._ours: PinEntry | None = None

    def current(self) -> Pin:
        """The PIN to send. Raises Failure: pin_unknown while a window is open here, what the order
        says of an unusable password, password_missing, machine_fault (unreadable journal).

        The newer of the journal's and the order's PIN counts. A window is closed by an order whose
        generation is newer than the window's: a person has decided, and the server counted on.
        """
        if self._ours is not None:
            return self._usable(self._ours)
        if not self._order.password_usable:
            raise unusable(self._order)
        generation = self._order.pin_generation
        entry = self._book.get(self._order.device_no)
        if entry is not None and entry.generation >= generation and entry.state == PinState.OPEN:
            raise Failure(Code.PIN_UNKNOWN)
        if entry is not None and entry.generation > generation:
            return Pin(entry.value, entry.generation)
        if not self._order.device_password:
            raise Failure(Code.PASSWORD_MISSING)
        pin = Pin(_pin_bytes(self._order.device_password), generation)
        if entry is not None and entry.state == PinState.REFUSED and _is_of(entry, pin):
            raise Failure(Code.PASSWORD_WRONG)  # the card has said no to it once
        return pin

    def begin(self) -> None:
        """Make the intent durable. Raises Denied when the server has not just permitted this roll
        (or the permission is over), Failure as :meth:`current`."""
        pin = self.current()
        if self._log.asked_roll != pin.generation:
            raise Denied(Denial.LEASE_LOST, "no permission to roll this PIN")
        self._grant.check(0.0)
        self._keep(PinState.OPEN, pin.value, pin.generation)

    def rolled(self, new: bytes) -> None:
        """Keep the new PIN; when this returns it is safe, and the server learns it with the next
        call."""
        window = self._window()
        self._note(self._keep(PinState.ROLLED, new, window.generation + 1))

    def refused(self) -> None:
        """The card kept its PIN: the window is closed."""
        window = self._window()
        self._note(self._keep(PinState.REFUSED, window.value, window.generation))

    def _usable(self, entry: PinEntry) -> Pin:
        if entry.state == PinState.OPEN:
            raise Failure(Code.PIN_UNKNOWN)
        if entry.state == PinState.REFUSED:  # never the same one twice by ourselves
            raise Failure(Code.PASSWORD_WRONG)
        return Pin(entry.value, entry.generation)

    def _window(self) -> PinEntry:
        if self._ours is None or self._ours.state != PinState.OPEN:
            raise RuntimeError("a PIN was answered that nobody began to roll")
        return self._ours

    def _keep(self, state: PinState, value: bytes, generation: int) -> PinEntry:
        entry = PinEntry(state, generation, value, self._order.run_id, self._order.attempt)
        try:
            self._book.put(self._order.device_no, entry)
        except OSError as error:
            raise Failure(Code.MACHINE_FAULT, detail=f"journal: {error.strerror}") from None
        self._ours = entry
        return entry

    def _note(self, entry: PinEntry) -> None:
        self._log.add(FactKind.PIN, pin_fact(entry))


def usable_password(order: Order) -> str:
    """The device password of a kind that rolls none; empty where there is none. Raises the Failure
    that says why it must not be sent."""
    if not order.password_usable:
        raise unusable(order)
    return order.device_password


def unusable(order: Order) -> Failure:
    """Why the order's password must not be sent."""
    try:
        code = Code(order.password_code)
    except ValueError:
        code = Code.PIN_UNKNOWN
    return Failure(code, tries_left=order.tries_left)


def _is_of(entry: PinEntry, pin: Pin) -> bool:
    """Whether nobody has decided anything since the entry: a new decision has a new generation."""
    return entry.generation == pin.generation and entry.value == pin.value


def _pin_bytes(text: str) -> bytes:
    """A PIN as a person entered it, or in hexadecimal as it once came from this machine."""
    if len(text) == _HEX_PIN:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    return text.encode()
