"""The tax-control IC card as a tax disk: identify, read, report, clear over any card channel.

Owns the month on the card as in protocol-ic-card.md. What public sources leave open is listed in
``devices/protocol/iccard_choices.py``; the card has no clock, so the host's is taken and said so.

Must never: send a PIN a second time, send any command between the roll of a PIN and
``PinStore.rolled``, declare a month that is not over, repeat a command that changes the card, or
hide that a command may have taken effect (``outcome_unknown``).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from typing import NoReturn

from devices.drivers import dates
from devices.drivers.contract import (
    Capabilities,
    CardChannel,
    ClearData,
    ClearRequest,
    Identity,
    PinStore,
    ReportPackage,
    Unit,
)
from devices.drivers.ic_card_totals import declaration_of, statistics_of
from devices.protocol import iccard, iccard_choices
from devices.protocol.apdu import SW, Command, Response, fetching, plain, repeating
from devices.protocol.catalogue import from_device_code
from devices.protocol.control import ControlData, beijing
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import Application, DeclareAnswer, FileId, UpdateControls
from devices.protocol.iccard_layouts import (
    ControlFile,
    DailyTotals,
    Declaration,
    IdentityFile,
    encode_bcd_date,
    is_blank,
    open_start,
)
from devices.protocol.month import Month

KIND = dates.Kind.IC_CARD
UNIT = Unit((iccard_choices.INVOICE_TYPE,))

_LENGTHS = {FileId.CONTROL: ControlFile.LENGTH, FileId.IDENTITY: IdentityFile.LENGTH}
_RECORD_FILES = (FileId.DAILY, FileId.DECLARATIONS, FileId.ROLLS)


class IcCardDisk:
    """One card in one channel. ``pins`` may be None where nothing but reading is wanted.

    ``host_now``: the host's clock, Beijing time. Every method raises only Failure.
    """

    def __init__(
        self,
        channel: CardChannel,
        *,
        pins: PinStore | None,
        host_now: Callable[[], dt.datetime],
    ) -> None:
        self._channel = channel
        self._pins = pins
        self._host_now = host_now
        self._answers = 0  # how many APDUs of this session were answered
        self._act = fetching(plain(self._transmit))
        self._read = fetching(repeating(plain(self._transmit)))
        self._identity: IdentityFile | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(rolls_pin=True)

    def units(self, types: Sequence[str]) -> list[Unit]:
        """One unit: the card has a single set of control data. Other types: not_supported."""
        for invoice_type in types:
            if invoice_type != iccard_choices.INVOICE_TYPE:
                raise Failure(Code.NOT_SUPPORTED, detail=invoice_type)
        return [UNIT] if types else []

    def close(self) -> None:
        self._channel.close()

    # --- reading: changes nothing, sends no PIN --------------------------------------------------

    def identify(self) -> Identity:
        """SELECT TSAM01 and EF02. Anything that is no fiscal card is ``foreign_card``."""
        self._select_card()
        raw = self._binary(FileId.IDENTITY)
        file = self._identity = IdentityFile.decode(raw)
        return Identity(
            device_no=iccard.device_no_of(file.card_no),
            tax_id=file.tax_id,
            taxpayer_name=file.taxpayer_name,
            kind=KIND.value,
            terminal_no=iccard_choices.terminal_no_of(file.machine_no),
            training=file.card_type == iccard_choices.CARD_TRAINING,
            retired=file.registered == iccard_choices.DEREGISTERED,
            raw={"ef02": raw.hex()},
        )

    def read_control(self) -> dict[str, ControlData]:
        self._select_card()
        controls, declarations = self._controls(), self._declarations()
        start = self._start(declarations)
        last = declarations[-1] if declarations else None
        raw = {"ef01": controls.encode().hex(), "clock": "host"}
        if last is not None:
            raw["ef04"] = last.encode().hex()
        return {
            iccard_choices.INVOICE_TYPE: ControlData(
                invoice_type=iccard_choices.INVOICE_TYPE,
                issue_deadline=dates.issue_deadline(KIND, encode_bcd_date(controls.issue_deadline)),
                period_start=start,
                period_end=Month.of(start).last,
                last_reported_on=(
                    None
                    if last is None
                    else dates.last_reported_on(KIND, encode_bcd_date(last.end))
                ),
                device_clock=beijing(self._host_now()),
                clock_source="host",
                uncleared_through=None if last is None or last.cleared else last.end,
                limits={
                    "single": controls.single_limit,
                    "total": controls.total_limit,
                    "return": controls.return_limit,
                },
                raw=raw,
            )
        }

    def pending_uploads(self) -> int:
        """Always 0: what the card issued is in its daily totals, nothing is sent one by one."""
        return 0

    def export(self) -> bytes:
        """Every record of EF01 … EF05 in hexadecimal, with the identity: canonical JSON.

        The same card in the same state gives the same bytes. No PIN is in any file of the card.
        """
        identity = self.identify()
        files: dict[str, str | list[str]] = {
            "EF01": self._binary(FileId.CONTROL).hex(),
            "EF02": identity.raw["ef02"],
        }
        for file in _RECORD_FILES:
            files[f"{file:04X}"] = [record.hex() for record in self._records(file)]
        content = {
            "format": "qingka/ic_card/1",
            "device_no": identity.device_no,
            "tax_id": identity.tax_id,
            "taxpayer_name": identity.taxpayer_name,
            "files": files,
        }
        text = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return text.encode()

    def clear_request(self, unit: Unit) -> ClearRequest:
        """``qtxx``: copy time ◇; ``skph``: the card number; ``mac1``: of the last declaration."""
        _check(unit)
        self._select_card()
        declarations = self._declarations()
        if not declarations:
            raise Failure(Code.REPORT_FIRST)
        last = declarations[-1]
        return ClearRequest(
            unit,
            {
                "qtxx": iccard_choices.copy_time(last.end),
                "skph": iccard.device_no_of(self._who().card_no),
                "mac1": last.mac1.hex().upper(),
            },
        )

    # --- changing: the PIN rolls, then one command -----------------------------------------------

    def report(self, unit: Unit, period: Month) -> ReportPackage:
        """DECLARE_DUTY of ``period``, from the day after the last cleared declaration.

        Fields: ``sq`` start and end, 14 digits each; ``fphz`` the 0x47 bytes declared and ``qtxx``
        the card's 0x8E bytes of answer, hexadecimal. A declared, uncleared period may be declared
        again. Before any PIN is sent: training_disk, oldest_first, already_cleared,
        outside_window (the month is not over), past_deadline.
        """
        _check(unit)
        self._select_card()
        controls, declarations = self._controls(), self._declarations()
        start = self._start(declarations)
        self._check_period(start, period)
        end = min(period.last, controls.issue_deadline)
        if end < start:
            raise Failure(Code.PAST_DEADLINE, detail=controls.issue_deadline.isoformat())
        daily = [DailyTotals.decode(record) for record in self._records(FileId.DAILY)]
        duty = declaration_of(daily, start, end, controls.tax_index)

        self._roll_pin()
        response = self._change(duty.command())
        if not response.ok:
            _refuse(response, "DECLARE_DUTY")
        try:
            answer = DeclareAnswer.decode(response.data)
        except Failure as failure:
            raise _in_doubt(failure) from failure
        if (answer.total_valid, answer.total_return) != (
            sum(duty.totals.valid),
            sum(duty.totals.returned),
        ):
            raise Failure(Code.DEVICE_GARBLED, detail="DECLARE_DUTY totals", outcome_unknown=True)
        return ReportPackage(
            unit,
            period,
            {
                "sq": f"{start:%Y%m%d}000000{end:%Y%m%d}235959",
                "fphz": duty.encode().hex().upper(),
                "qtxx": answer.encode().hex().upper(),
            },
            statistics_of(duty),
        )

    def clear(self, unit: Unit, data: ClearData) -> None:
        """UPDATE_CONTROLS with ``fpjkmw`` (0x1D bytes, hexadecimal) as the bureau made it."""
        _check(unit)
        try:
            update = UpdateControls.decode(bytes.fromhex(data.fields.get("fpjkmw", "")))
        except (Failure, ValueError):
            raise Failure(Code.BUREAU_GARBLED, detail="fpjkmw") from None
        self._select_card()
        self._check_usable()

        self._roll_pin()
        response = self._change(update.command())
        if response.sw in (SW.NOT_IN_THIS_STATE, SW.MAC_WRONG, SW.WRONG_DATA):
            raise Failure(Code.CLEAR_DATA_MISMATCH, raw_code=response.raw_code)
        if not response.ok:
            _refuse(response, "UPDATE_CONTROLS")

    def _roll_pin(self) -> None:
        """VERIFY_FISCAL_PIN: intent, command, new PIN kept. Stops at the first wrong answer.

        Where the card's word is missing, garbled or unclear the store is told nothing more: its
        open intent is what says that the PIN is in doubt.
        """
        if self._pins is None:
            raise Failure(Code.PASSWORD_MISSING)
        pin = self._pins.current()
        try:
            command = iccard.verify_fiscal_pin(pin.value)
        except ValueError:
            raise Failure(Code.PASSWORD_MISSING, detail="PIN") from None
        self._pins.begin()
        response = self._change(command)
        if response.tries_left is not None and not response.data:
            self._pins.refused()
            raise Failure(
                Code.PASSWORD_WRONG if response.tries_left else Code.PASSWORD_LOCKED,
                raw_code=response.raw_code,
                tries_left=response.tries_left,
            )
        if not response.ok:
            code = from_device_code(response.raw_code)
            raise Failure(code, raw_code=response.raw_code, outcome_unknown=True)
        try:
            new = iccard.decode_next_pin(response.data)
        except Failure as failure:
            raise _in_doubt(failure) from failure
        self._pins.rolled(new)

    def _check_period(self, start: dt.date, period: Month) -> None:
        self._check_usable()
        opened = Month.of(start)
        if period < opened:
            raise Failure(Code.ALREADY_CLEARED, detail=str(period))
        if period > opened:
            raise Failure(Code.OLDEST_FIRST, detail=str(opened))
        if Month.of(beijing(self._host_now())) < period.window:
            raise Failure(Code.OUTSIDE_WINDOW, detail=period.window.first.isoformat())

    def _check_usable(self) -> None:
        identity = self._who()
        if identity.card_type == iccard_choices.CARD_TRAINING:
            raise Failure(Code.TRAINING_DISK)
        if identity.registered == iccard_choices.DEREGISTERED:
            raise Failure(Code.RETIRED_DISK)

    # --- files -----------------------------------------------------------------------------------

    def _select_card(self) -> None:
        """Each stage selects anew: whatever happened in between, the PIN is unverified again."""
        response = self._read(iccard.select_application(Application.FISCAL))
        if response.sw in (SW.NOT_FOUND, SW.UNKNOWN_INS, SW.UNKNOWN_CLA, SW.WRONG_P1_P2):
            raise Failure(Code.FOREIGN_CARD, raw_code=response.raw_code)
        if not response.ok:
            _refuse(response, "SELECT")

    def _who(self) -> IdentityFile:
        """The identity of this session's card; a channel never changes its card."""
        if self._identity is None:
            self._identity = IdentityFile.decode(self._binary(FileId.IDENTITY))
        return self._identity

    def _controls(self) -> ControlFile:
        return ControlFile.decode(self._binary(FileId.CONTROL))

    def _declarations(self) -> list[Declaration]:
        records = self._records(FileId.DECLARATIONS)
        return sorted((Declaration.decode(r) for r in records), key=lambda found: found.end)

    def _start(self, declarations: Sequence[Declaration]) -> dt.date:
        return open_start(declarations, self._who().valid_from)

    def _binary(self, file: FileId) -> bytes:
        self._expect(iccard.select_file(file), "SELECT")
        return self._expect(iccard.read_binary(_LENGTHS[file]), f"READ {file:04X}")

    def _records(self, file: FileId) -> list[bytes]:
        """All written records of ``file``, in the card's order."""
        self._expect(iccard.select_file(file), "SELECT")
        found: list[bytes] = []
        for number in range(1, iccard.MAX_RECORDS + 1):
            response = self._read(iccard.read_record(number))
            if response.sw in (SW.NO_RECORD, SW.WRONG_P1_P2):
                break
            if not response.ok:
                _refuse(response, f"READ {file:04X}")
            if not is_blank(response.data):
                found.append(response.data)
        return found

    # --- the wire --------------------------------------------------------------------------------

    def _transmit(self, apdu: bytes) -> bytes:
        answer = self._channel.transmit(apdu)
        self._answers += 1
        return answer

    def _expect(self, command: Command, name: str) -> bytes:
        response = self._read(command)
        if not response.ok:
            _refuse(response, name)
        return response.data

    def _change(self, command: Command) -> Response:
        """Send a command that changes the card, once.

        A failure after any byte came back is in doubt, whatever the channel says of the APDU that
        failed: the command was taken, only its answer was lost. Before that the channel knows.
        """
        before = self._answers
        try:
            response = self._act(command)
        except Failure as failure:
            if self._answers == before:
                raise
            raise _in_doubt(failure) from failure
        if not response.ok and self._answers - before > 1:  # an error after 61xx
            raise Failure(
                Code.DEVICE_GARBLED,
                raw_code=response.raw_code,
                detail="GET RESPONSE",
                outcome_unknown=True,
            )
        return response


def _check(unit: Unit) -> None:
    if unit != UNIT:
        raise Failure(Code.NOT_SUPPORTED, detail=unit.key)


def _refuse(response: Response, name: str) -> NoReturn:
    """The failure of a status word that is not 9000; ``name`` says which command."""
    raise Failure(
        from_device_code(response.raw_code),
        raw_code=response.raw_code,
        detail=name,
        tries_left=response.tries_left,
        outcome_unknown=name in ("DECLARE_DUTY", "UPDATE_CONTROLS") and not response.surely_refused,
    )


def _in_doubt(failure: Failure) -> Failure:
    """The same failure, saying that the command may have taken effect."""
    return Failure(
        failure.code,
        raw_code=failure.raw_code,
        raw_text=failure.raw_text,
        detail=failure.detail,
        outcome_unknown=True,
        tries_left=failure.tries_left,
    )
