"""The simulated fiscal card (模拟): answers APDUs byte for byte as protocol-ic-card.md says.

Owns the card's behaviour: files, the rolling PIN, the session rule, declarations, the clear. It is
pure: state in, response out, and a note of every write; nothing is kept here and nothing waits.

Must never: note a PIN, or change its state for a command it refuses (a wrong PIN excepted: that
costs a try). It counts its writes so that "twice" can be seen.
"""

from __future__ import annotations

import datetime as dt
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from devices.protocol.apdu import SW, Command, Response
from devices.protocol.failures import Failure
from devices.protocol.iccard import (
    FISCAL_CLA,
    ISO_CLA,
    PIN_BYTES,
    Application,
    DailyCollect,
    DailySignature,
    DeclareAnswer,
    DeclareDuty,
    FileId,
    Ins,
    IssueInvoice,
    RegisterNumber,
    UpdateControls,
    device_no_of,
)
from devices.protocol.iccard_choices import CLEARED
from devices.protocol.iccard_layouts import (
    DailyTotals,
    Declaration,
    InvoiceRoll,
    Totals,
    open_start,
)
from devices.protocol.month import Month
from devices.simulator import crypto
from devices.simulator.card_state import MAX_TRIES, CardState, sums, with_invoice

T = TypeVar("T")

#: Files keep this many records, as a card's file has an end; older ones make room.
_KEEP = 120


@dataclass(frozen=True, slots=True)
class Answer:
    """The response, and the write it stands for: a line of the write log, or None."""

    response: bytes
    write: dict[str, Any] | None = None


class _Refused(Exception):
    """Ends a command with a status word; nothing was changed."""

    def __init__(self, sw: int) -> None:
        super().__init__(sw)
        self.sw = sw


class SimulatedCard:
    """One card in its reader. ``state`` is replaced, never changed, when something is written.

    ``announces``: answer every command that has data both ways with ``61xx``, as T=0 cards do.
    """

    def __init__(
        self,
        state: CardState,
        master_key: bytes,
        *,
        now: Callable[[], dt.datetime],
        announces: bool = False,
    ) -> None:
        self.state = state
        self.device_no = device_no_of(state.identity.card_no)
        self._key = master_key
        self._now = now
        self._announces = announces
        self._write: dict[str, Any] | None = None
        self.reset()

    def reset(self) -> None:
        """Power off and on: selection, verified PIN and a waiting answer are gone."""
        self._selected = False
        self._file: FileId | None = None
        self._verified = False
        self._waiting = b""

    def transmit(self, apdu: bytes) -> Answer:
        """One command. Any bytes get an answer."""
        self._write = None
        try:
            response = self._deliver(Command.decode(apdu))
        except ValueError:
            response = Response(b"", SW.WRONG_LENGTH)
        except _Refused as refused:
            response = Response(b"", refused.sw)
        return Answer(response.encode(), self._write)

    # --- delivery: Le, 61xx, GET RESPONSE --------------------------------------------------------

    def _deliver(self, command: Command) -> Response:
        if (command.cla, command.ins) == (ISO_CLA, Ins.GET_RESPONSE):
            return self._hand_out(command.le or 256)
        self._waiting = b""
        data = self._perform(command)
        if data and (command.le is None or (self._announces and command.data)):
            self._waiting = data
            return Response(b"", 0x6100 | len(data) & 0xFF)
        return Response(data, SW.OK)

    def _hand_out(self, length: int) -> Response:
        if not self._waiting:
            raise _Refused(SW.NOT_IN_THIS_STATE)
        data, self._waiting = self._waiting[:length], self._waiting[length:]
        return Response(data, 0x6100 | len(self._waiting) & 0xFF if self._waiting else SW.OK)

    def _perform(self, command: Command) -> bytes:
        match command.cla, command.ins:
            case (0x00, Ins.SELECT):
                return self._select(command)
            case (0x00, Ins.READ_BINARY):
                return self._read_binary(command)
            case (0x00, Ins.READ_RECORD):
                return self._read_record(command)
            case (0x00, Ins.GET_CHALLENGE):
                return secrets.token_bytes(8)
            case (0x00, Ins.VERIFY):
                raise _Refused(SW.NO_SUCH_REFERENCE)  # this card has no user PIN
            case (0xC0, _):
                return self._fiscal(command)
        raise _Refused(SW.UNKNOWN_CLA if command.cla not in (0x00, FISCAL_CLA) else SW.UNKNOWN_INS)

    def _fiscal(self, command: Command) -> bytes:
        if not self._selected:
            raise _Refused(SW.NOT_IN_THIS_STATE)
        match command.ins:
            case Ins.GET_REGISTER_NB:
                return self._register_number()
            case Ins.VERIFY_FISCAL_PIN:
                return self._verify_pin(command)
            case Ins.ISSUE_INVOICE:
                return self._issue(command)
            case Ins.DECLARE_DUTY:
                return self._declare(command)
            case Ins.UPDATE_CONTROLS:
                return self._update(command)
            case Ins.DAILY_COLLECT_SIGN:
                return self._collect(command)
        raise _Refused(SW.UNKNOWN_INS)

    # --- files -----------------------------------------------------------------------------------

    def _select(self, command: Command) -> bytes:
        if command.p1 == 0x04:
            if command.data != Application.FISCAL.value:
                raise _Refused(SW.NOT_FOUND)
            self.reset()
            self._selected = True
            return bytes([0x6F, 2 + len(command.data), 0x84, len(command.data)]) + command.data
        wanted = int.from_bytes(command.data, "big")
        if command.p1 != 0x00 or not self._selected or wanted not in list(FileId):
            raise _Refused(SW.NOT_FOUND)
        self._file = FileId(wanted)
        return bytes([0x6F, 0x04, 0x83, 0x02]) + command.data

    def _read_binary(self, command: Command) -> bytes:
        match self._file:
            case FileId.CONTROL:
                content = self.state.controls.encode()
            case FileId.IDENTITY:
                content = self.state.identity.encode()
            case _:
                raise _Refused(SW.NO_CURRENT_FILE)
        offset = command.p1 << 8 | command.p2
        if offset >= len(content):
            raise _Refused(SW.WRONG_OFFSET)
        length = command.le or 256
        rest = len(content) - offset
        if length != 256 and length > rest:
            raise _Refused(0x6C00 | rest)
        return content[offset : offset + length]

    def _read_record(self, command: Command) -> bytes:
        records: Sequence[DailyTotals | Declaration | InvoiceRoll]
        match self._file:
            case FileId.DAILY:
                records = self.state.daily
            case FileId.DECLARATIONS:
                records = self.state.declarations
            case FileId.ROLLS:
                records = self.state.rolls
            case _:
                raise _Refused(SW.NO_CURRENT_FILE)
        if command.p2 != 0x04:
            raise _Refused(SW.WRONG_P1_P2)
        if not 1 <= command.p1 <= len(records):
            raise _Refused(SW.NO_RECORD)
        content = records[command.p1 - 1].encode()
        if command.le not in (None, 256, len(content)):
            raise _Refused(0x6C00 | len(content))
        return content

    # --- fiscal commands -------------------------------------------------------------------------

    def _register_number(self) -> bytes:
        self._not_locked()
        random = secrets.token_bytes(4)
        mac1 = crypto.register_mac(self._key, self.device_no, random)
        return RegisterNumber(random, self.state.identity.card_no, mac1).encode()

    def _verify_pin(self, command: Command) -> bytes:
        """Right: the PIN rolls and the next one goes out. Wrong: a try is gone."""
        self._lengths(command, PIN_BYTES, PIN_BYTES)
        state = self.state
        if state.tries == 0:
            raise _Refused(SW.PIN_LOCKED)
        if not hmac.compare_digest(command.data, state.pin):
            self._verified = False
            tries = state.tries - 1
            self._commit(replace(state, tries=tries), command, result="wrong", tries=tries)
            raise _Refused(0x63C0 | tries)
        generation = state.generation + 1
        pin = crypto.next_pin(self._key, self.device_no, generation)
        rolled = replace(state, pin=pin, tries=MAX_TRIES, generation=generation)
        self._commit(rolled, command, result="rolled", generation=generation)
        self._verified = True
        return pin

    def _declare(self, command: Command) -> bytes:
        self._allowed(command, DeclareDuty.LENGTH, DeclareAnswer.LENGTH)
        duty = _decoded(DeclareDuty.decode, command.data)
        state = self.state
        start = open_start(state.declarations, state.identity.valid_from)
        if duty.start != start or duty.end > state.controls.issue_deadline:
            raise _Refused(SW.NOT_IN_THIS_STATE)
        _, valid, returned = sums(state.daily, duty.start, duty.end)
        if max(valid, returned) > 0xFFFFFFFF:
            raise _Refused(SW.OUT_OF_RANGE)
        answer = crypto.sign_declaration(self._key, self.device_no, duty, valid, returned)
        record = Declaration(
            duty.start,
            duty.end,
            duty.valid_count,
            duty.return_count,
            duty.void_count,
            duty.totals,
            answer.status,
            answer.mac1,
        )
        kept = [found for found in state.declarations if found.cleared][1 - _KEEP :]
        self._commit(
            replace(state, declarations=[*kept, record]),
            command,
            period=str(Month.of(duty.start)),
            start=duty.start.isoformat(),
            end=duty.end.isoformat(),
        )
        return answer.encode()

    def _update(self, command: Command) -> bytes:
        """The clear: only newer control data of this card, and only for what is declared.

        A deadline that moves within the window's month (a holiday extension) is taken and clears
        nothing.
        """
        self._allowed(command, UpdateControls.LENGTH, None)
        try:
            controls = crypto.open_clear_data(self._key, self.device_no, command.data)
        except crypto.Forged:
            raise _Refused(SW.MAC_WRONG) from None
        state = self.state
        if command.data.hex() == state.accepted:
            raise _Refused(SW.NOT_IN_THIS_STATE)
        if controls.issue_deadline < state.controls.issue_deadline:
            raise _Refused(SW.NOT_IN_THIS_STATE)
        open_ = [found for found in state.declarations if not found.cleared]
        cleared = [
            found
            for found in open_
            if Month.of(controls.issue_deadline) > Month.of(found.end).window
        ]
        extension = Month.of(controls.issue_deadline) == Month.of(state.controls.issue_deadline)
        if not cleared and not extension:
            raise _Refused(SW.NOT_IN_THIS_STATE)
        self._commit(
            replace(
                state,
                controls=controls,
                accepted=command.data.hex(),
                declarations=[
                    replace(found, status=CLEARED) if found in cleared else found
                    for found in state.declarations
                ],
            ),
            command,
            period=str(Month.of(cleared[-1].start)) if cleared else "",
            deadline=controls.issue_deadline.isoformat(),
        )
        return b""

    def _collect(self, command: Command) -> bytes:
        """Signs the totals of one day; remembers nothing, so it is no write."""
        self._allowed(command, DailyCollect.LENGTH, DailySignature.LENGTH)
        collect = _decoded(DailyCollect.decode, command.data)
        return DailySignature(crypto.sign(self._key, self.device_no, collect.encode())).encode()

    def _issue(self, command: Command) -> bytes:
        """An invoice into the totals of its day; none after the deadline or above the limit."""
        self._not_locked()
        self._lengths(command, IssueInvoice.LENGTH, IssueInvoice.ANSWER_LENGTH)
        invoice = _decoded(IssueInvoice.decode, command.data)
        state = self.state
        if invoice.day > state.controls.issue_deadline:
            raise _Refused(SW.NOT_IN_THIS_STATE)
        if invoice.total > state.controls.single_limit:
            raise _Refused(SW.OUT_OF_RANGE)
        code = crypto.fiscal_code(self._key, self.device_no, command.data)
        found = {day.day: day for day in state.daily}
        index = state.controls.tax_index
        before = found.get(invoice.day, DailyTotals(invoice.day, 0, 0, 0, Totals(index)))
        try:
            found[invoice.day] = with_invoice(before, invoice, code)
            found[invoice.day].encode()
        except ValueError:
            raise _Refused(SW.OUT_OF_RANGE) from None
        daily = [found[day] for day in sorted(found)][-_KEEP:]
        self._commit(
            replace(state, daily=daily), command, day=invoice.day.isoformat(), no=invoice.number
        )
        return code

    # --- rules -----------------------------------------------------------------------------------

    def _allowed(self, command: Command, lc: int, le: int | None) -> None:
        """The session rule: PIN verified since this card was selected; then length and check."""
        self._not_locked()
        if not self._verified:
            raise _Refused(SW.PIN_REQUIRED)
        self._lengths(command, lc, le)

    def _not_locked(self) -> None:
        if self.state.tries == 0:
            raise _Refused(SW.CARD_LOCKED)

    def _lengths(self, command: Command, lc: int, le: int | None) -> None:
        """Before anything happens: exact data, and an Le that is open or right."""
        if len(command.data) != lc or (le is None and command.le is not None):
            raise _Refused(SW.WRONG_LENGTH)
        if le is not None and command.le not in (None, 256, le):
            raise _Refused(0x6C00 | le)

    def _commit(self, state: CardState, command: Command, **facts: Any) -> None:
        """Make ``state`` the card's, and note the write: number, time, command, and the facts."""
        name = Ins(command.ins).name
        number = state.written + 1
        self._write = {"n": number, "at": self._now().isoformat(), "command": name, **facts}
        counts = {**state.counts, name: state.counts.get(name, 0) + 1}
        self.state = replace(state, written=number, counts=counts, last_write=dict(self._write))


def _decoded(decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except Failure:
        raise _Refused(SW.WRONG_DATA) from None
