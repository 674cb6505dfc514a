"""The simulated card's files, its answers in parts, and the commands beside the month's own."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest

from devices.protocol import iccard
from devices.protocol.apdu import SW, Command, Response
from devices.protocol.iccard import (
    Application,
    DailyCollect,
    DailySignature,
    FileId,
    InvoiceKind,
    IssueInvoice,
    RegisterNumber,
)
from devices.protocol.iccard_layouts import ControlFile, Declaration, IdentityFile, Totals
from devices.simulator import crypto
from tests.devices.cards import DEVICE_NO, FIRST_PIN, KEY, card_of, ready, select, send, world_disk

D = dt.date
PIN = FIRST_PIN.encode()


# --- files -------------------------------------------------------------------------------------


def test_files_are_read_after_the_card_is_selected() -> None:
    card = card_of()
    assert send(card, iccard.select_file(FileId.CONTROL)).sw == SW.NOT_FOUND
    select(card)
    assert send(card, iccard.read_binary(23)).sw == SW.NO_CURRENT_FILE
    assert send(card, iccard.select_file(FileId.CONTROL)).ok
    controls = ControlFile.decode(send(card, iccard.read_binary(23)).data)
    assert controls.issue_deadline == D(2026, 3, 16)
    assert send(card, iccard.read_binary(4)).data == bytes.fromhex("20260316")
    assert send(card, iccard.read_binary(19, offset=4)).data == controls.encode()[4:]
    assert send(card, iccard.read_binary(24)).sw == 0x6C17
    assert send(card, iccard.read_binary(1, offset=23)).sw == SW.WRONG_OFFSET
    assert send(card, iccard.read_record(1)).sw == SW.NO_CURRENT_FILE


def test_records_are_numbered_from_one_and_end() -> None:
    card = select(card_of(world_disk(reported_through="2026-02-28")))
    send(card, iccard.select_file(FileId.DECLARATIONS))
    first = Declaration.decode(send(card, iccard.read_record(1)).data)
    second = Declaration.decode(send(card, iccard.read_record(2)).data)
    assert (first.end, first.cleared) == (D(2026, 1, 31), True)
    assert (second.start, second.end, second.cleared) == (D(2026, 2, 1), D(2026, 2, 28), False)
    assert second.valid_count == 5
    assert send(card, iccard.read_record(3)).sw == SW.NO_RECORD
    assert send(card, Command(0, 0xB2, 1, 0x05, le=256)).sw == SW.WRONG_P1_P2
    assert send(card, Command(0, 0xB2, 1, 0x04, le=10)).sw == 0x6C4B


def test_the_identity_says_whose_card_it_is_without_a_pin() -> None:
    card = select(card_of(world_disk(terminal_no=3, training=True, taxpayer_name="长" * 30)))
    send(card, iccard.select_file(FileId.IDENTITY))
    identity = IdentityFile.decode(send(card, iccard.read_binary(103)).data)
    assert iccard.device_no_of(identity.card_no) == DEVICE_NO
    assert identity.card_type == 0x81
    assert identity.machine_no == bytes(7) + b"\x03"
    assert identity.taxpayer_name == "长" * 20


@pytest.mark.parametrize("name", [Application.USER, Application.INSPECTION])
def test_it_is_no_user_or_inspection_card(name: Application) -> None:
    assert send(card_of(), iccard.select_application(name)).sw == SW.NOT_FOUND


# --- 61xx --------------------------------------------------------------------------------------


def test_without_le_the_answer_waits_and_is_handed_out_in_parts() -> None:
    card = select(card_of())
    send(card, iccard.select_file(FileId.CONTROL))
    waiting = send(card, Command(0x00, 0xB0))
    assert (waiting.data, waiting.sw) == (b"", 0x6117)
    part = send(card, Command(0x00, 0xC0, le=4))
    assert (part.data, part.sw) == (bytes.fromhex("20260316"), 0x6113)
    rest = send(card, Command(0x00, 0xC0, le=19))
    assert (len(rest.data), rest.sw) == (19, SW.OK)
    assert send(card, Command(0x00, 0xC0, le=1)).sw == SW.NOT_IN_THIS_STATE


def test_another_command_forgets_the_waiting_answer() -> None:
    card = select(card_of())
    assert send(card, replace(iccard.get_register_number(), le=None)).more == 16
    send(card, iccard.get_challenge())
    assert send(card, Command(0x00, 0xC0, le=16)).sw == SW.NOT_IN_THIS_STATE


def test_a_card_that_announces_does_so_for_the_pin_too_and_rolls_once() -> None:
    card = card_of(announces=True)
    assert send(card, iccard.select_application(Application.FISCAL)).more
    assert send(card, iccard.verify_fiscal_pin(PIN)).more == 8
    assert send(card, Command(0x00, 0xC0, le=8)).data == card.state.pin
    assert card.state.generation == 1


def test_a_wrong_le_is_told_before_anything_happens() -> None:
    card = select(card_of())
    assert send(card, replace(iccard.verify_fiscal_pin(PIN), le=9)).sw == 0x6C08
    assert (card.state.pin, card.state.written) == (PIN, 0)


# --- the other commands ------------------------------------------------------------------------


def invoice(**changes: object) -> IssueInvoice:
    lines = ((1, 113_00), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0))
    facts = {
        "day": D(2026, 2, 28),
        "kind": InvoiceKind.NORMAL,
        "number": 8,
        "lines": lines,
        "total": 113_00,
    }
    return IssueInvoice(**{**facts, **changes})  # type: ignore[arg-type]


def test_an_invoice_goes_into_the_totals_of_its_day() -> None:
    card = select(card_of())
    assert len(send(card, invoice().command()).data) == 8
    assert send(card, invoice(kind=InvoiceKind.RETURN, number=9).command()).ok
    assert send(card, invoice(kind=InvoiceKind.VOID, number=10).command()).ok
    day = next(found for found in card.state.daily if found.day == D(2026, 2, 28))
    assert (day.valid_count, day.return_count, day.void_count) == (3, 1, 2)
    assert (day.totals.valid[0], day.totals.returned[0]) == (413_00, 113_00)
    assert day.last_invoice_no == 10


@pytest.mark.parametrize(
    ("wrong", "sw"),
    [
        (invoice(day=D(2026, 3, 17)), SW.NOT_IN_THIS_STATE),
        (invoice(total=10_000_001), SW.OUT_OF_RANGE),
        (invoice(lines=((9, 1),) + ((0, 0),) * 5), SW.OUT_OF_RANGE),
    ],
    ids=["after the deadline", "above the limit", "unknown tax index"],
)
def test_an_invoice_the_card_may_not_issue_is_refused(wrong: IssueInvoice, sw: int) -> None:
    card = select(card_of())
    assert send(card, wrong.command()).sw == sw
    assert card.state.written == 0


def test_a_days_totals_are_signed_and_nothing_is_written() -> None:
    card = ready()
    answer = card.transmit(DailyCollect(D(2026, 2, 1), 3, 1, 0, Totals()).command().encode())
    assert len(DailySignature.decode(answer.response[:-2]).signature) == 128
    assert answer.write is None


def test_the_register_number_names_the_card() -> None:
    card = select(card_of())
    found = RegisterNumber.decode(send(card, iccard.get_register_number()).data)
    assert iccard.device_no_of(found.card_no) == DEVICE_NO
    assert found.mac1 == crypto.register_mac(KEY, DEVICE_NO, found.random)


@pytest.mark.parametrize(
    ("raw", "sw"),
    [
        ("", SW.WRONG_LENGTH),
        ("00A404", SW.WRONG_LENGTH),
        ("80CA0000", SW.UNKNOWN_CLA),
        ("00CA0000", SW.UNKNOWN_INS),
        ("C0FF0000", SW.UNKNOWN_INS),
        ("00200001083132333435363738", SW.NO_SUCH_REFERENCE),
    ],
)
def test_what_the_card_does_not_know_it_says(raw: str, sw: int) -> None:
    card = select(card_of())
    assert Response.decode(card.transmit(bytes.fromhex(raw)).response).sw == sw
