"""Every command and file layout of protocol-ic-card.md: lengths, bytes, round trips, garbage."""

from __future__ import annotations

import datetime as dt
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol import iccard, iccard_layouts
from devices.protocol.apdu import Command
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import (
    Application,
    DailyCollect,
    DailySignature,
    DeclareAnswer,
    DeclareDuty,
    FileId,
    InvoiceKind,
    IssueInvoice,
    RegisterNumber,
    UpdateControls,
)
from devices.protocol.iccard_layouts import (
    ControlFile,
    DailyTotals,
    Declaration,
    IdentityFile,
    InvoiceRoll,
    Totals,
    checked,
    is_blank,
    xor,
)


class Layout(Protocol):
    LENGTH: int

    def encode(self) -> bytes: ...


days = st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))
byte = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
six = st.binary(min_size=6, max_size=6)
six_amounts = st.tuples(*[u32] * 6)
totals = st.builds(Totals, six, six_amounts, six_amounts)


def exactly(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


def texts(length: int) -> st.SearchStrategy[str]:
    alphabet = st.sampled_from("税控卷票有限公司ABC019()")
    fits = st.text(alphabet, max_size=length)
    return fits.filter(lambda text: len(text.encode("gb18030")) <= length)


spans = st.tuples(days, days).map(sorted)

LAYOUTS: dict[str, tuple[int, Any, st.SearchStrategy[Any]]] = {
    "EF01": (23, ControlFile, st.builds(ControlFile, days, u32, u32, u32, six, byte)),
    "EF02": (
        103,
        IdentityFile,
        st.builds(
            IdentityFile,
            card_type=byte,
            registered=byte,
            card_no=exactly(8),
            machine_no=exactly(8),
            taxpayer_no=exactly(8),
            tax_id=texts(20),
            valid_from=days,
            valid_to=days,
            application_type=byte,
            version=byte,
            fci=byte,
            taxpayer_name=texts(40),
            office_code=exactly(4),
            declare_mode=byte,
            pin_mode=byte,
        ),
    ),
    "EF03": (76, DailyTotals, st.builds(DailyTotals, days, u16, u16, u16, totals, u32, exactly(8))),
    "EF04": (
        75,
        Declaration,
        spans.flatmap(
            lambda span: st.builds(
                Declaration,
                start=st.just(span[0]),
                end=st.just(span[1]),
                valid_count=u32,
                return_count=u16,
                void_count=u16,
                totals=totals,
                status=st.sampled_from([0, 1]),
                mac1=exactly(4),
            )
        ),
    ),
    "EF05": (19, InvoiceRoll, st.builds(InvoiceRoll, byte, texts(10), u32, u32)),
    "GET_REGISTER_NB": (
        0x10,
        RegisterNumber,
        st.builds(RegisterNumber, exactly(4), exactly(8), exactly(4)),
    ),
    "ISSUE_INVOICE": (
        0x2C,
        IssueInvoice,
        st.builds(
            IssueInvoice,
            days,
            st.sampled_from(InvoiceKind),
            u32,
            st.tuples(*[st.tuples(byte, u32)] * 6),
            u32,
        ),
    ),
    "DECLARE_DUTY": (
        0x47,
        DeclareDuty,
        spans.flatmap(
            lambda span: st.builds(
                DeclareDuty, st.just(span[0]), st.just(span[1]), u32, u16, u16, totals
            )
        ),
    ),
    "DECLARE_DUTY answer": (
        0x8E,
        DeclareAnswer,
        st.builds(DeclareAnswer, u32, u32, byte, exactly(4), exactly(128)),
    ),
    "UPDATE_CONTROLS": (
        0x1D,
        UpdateControls,
        st.builds(UpdateControls, byte, exactly(24), exactly(4)),
    ),
    "DAILY_COLLECT_SIGN": (
        0x41,
        DailyCollect,
        st.builds(DailyCollect, days, u16, u16, u16, totals),
    ),
    "DAILY_COLLECT_SIGN answer": (0x81, DailySignature, st.builds(DailySignature, exactly(128))),
}

CHECKED = {
    "ISSUE_INVOICE",
    "DECLARE_DUTY",
    "DECLARE_DUTY answer",
    "DAILY_COLLECT_SIGN",
    "DAILY_COLLECT_SIGN answer",
}


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_every_layout_has_its_length_and_reads_back(name: str, data: st.DataObject) -> None:
    length, layout, values = LAYOUTS[name]
    value = data.draw(values)
    raw = value.encode()
    assert len(raw) == length == layout.LENGTH
    assert layout.decode(raw) == value


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_no_bytes_make_a_layout_crash(name: str, data: st.DataObject) -> None:
    length, layout, values = LAYOUTS[name]
    near = values.map(lambda value: value.encode()).flatmap(
        lambda raw: st.tuples(st.integers(0, length - 1), byte).map(
            lambda change: raw[: change[0]] + bytes([change[1]]) + raw[change[0] + 1 :]
        )
    )
    raw = data.draw(st.binary(max_size=160) | exactly(length) | near)
    try:
        value = layout.decode(raw)
    except Failure as failure:
        assert failure.code is Code.DEVICE_GARBLED
        assert failure.detail
    else:
        assert len(raw) == length
        assert len(value.encode()) == length


@pytest.mark.parametrize("name", LAYOUTS)
@given(data=st.data())
def test_one_byte_more_or_less_is_refused(name: str, data: st.DataObject) -> None:
    _, layout, values = LAYOUTS[name]
    raw = data.draw(values).encode()
    for wrong in (raw[:-1], raw + b"\0", b""):
        with pytest.raises(Failure):
            layout.decode(wrong)


@pytest.mark.parametrize("name", sorted(CHECKED))
@given(data=st.data())
def test_a_flipped_bit_of_a_checked_structure_is_refused(name: str, data: st.DataObject) -> None:
    length, layout, values = LAYOUTS[name]
    raw = bytearray(data.draw(values).encode())
    raw[data.draw(st.integers(0, length - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Failure) as failure:
        layout.decode(bytes(raw))
    assert failure.value.code is Code.DEVICE_GARBLED


def test_the_control_file_byte_for_byte() -> None:
    raw = bytes.fromhex("20260316 000F423F 05F5E0FF 0000C350 010203000000 01")
    file = ControlFile.decode(raw)
    assert file == ControlFile(
        dt.date(2026, 3, 16), 999_999, 99_999_999, 50_000, bytes.fromhex("010203000000"), 1
    )


def test_a_declaration_byte_for_byte() -> None:
    duty = DeclareDuty(
        dt.date(2026, 2, 1),
        dt.date(2026, 2, 28),
        300,
        2,
        1,
        Totals(b"\x01\0\0\0\0\0", (0x1234, 0, 0, 0, 0, 0), (0, 0, 0, 0, 0, 7)),
    )
    body = bytes.fromhex(
        "20260201 20260228 0000012C 0002 0001 010000000000"
        "00001234 00000000 00000000 00000000 00000000 00000000"
        "00000000 00000000 00000000 00000000 00000000 00000007"
    )
    check = 0
    for one in body:
        check ^= one
    assert duty.encode() == body + bytes([check])
    assert duty.command().encode() == bytes.fromhex("C0F40000 47") + duty.encode() + b"\x8e"


def test_texts_are_gb18030_padded_with_spaces() -> None:
    roll = InvoiceRoll(0, "税控", 1, 2)
    assert roll.encode()[1:11] == "税控".encode("gb18030") + b" " * 6


@pytest.mark.parametrize(
    ("command", "raw"),
    [
        (iccard.select_application(Application.FISCAL), "00A40400 06 5453414D3031 00"),
        (iccard.select_application(Application.USER), "00A40400 05 5449443031 00"),
        (iccard.select_application(Application.INSPECTION), "00A40400 07 434845434B3031 00"),
        (iccard.select_file(FileId.DECLARATIONS), "00A40000 02 EF04 00"),
        (iccard.read_binary(103), "00B00000 67"),
        (iccard.read_binary(4, offset=3), "00B00003 04"),
        (iccard.read_record(3), "00B20304 00"),
        (iccard.get_challenge(), "00840000 08"),
        (iccard.verify(b"1234", 1), "00200001 04 31323334"),
        (iccard.get_register_number(), "C0F00000 10"),
        (iccard.verify_fiscal_pin(b"12345678"), "C0F90000 08 3132333435363738 08"),
        (UpdateControls(1, bytes(24), bytes(4)).command(), "C0F60000 1D 01" + "00" * 28),
    ],
    ids=lambda value: value.encode().hex() if isinstance(value, Command) else "",
)
def test_commands_stand_as_the_standard_writes_them(command: Command, raw: str) -> None:
    assert command.encode() == bytes.fromhex(raw)


@given(totals, days)
def test_the_commands_with_data_carry_their_lengths(amounts: Totals, day: dt.date) -> None:
    lines = tuple((index, fen) for index, fen in enumerate(amounts.valid))
    for command, lc, le in [
        (IssueInvoice(day, InvoiceKind.NORMAL, 1, lines, 2).command(), 0x2C, 0x08),
        (DeclareDuty(day, day, 1, 0, 0, amounts).command(), 0x47, 0x8E),
        (DailyCollect(day, 1, 0, 0, amounts).command(), 0x41, 0x81),
    ]:
        assert (command.cla, len(command.data), command.le) == (0xC0, lc, le)
        assert xor(command.data) == 0


@pytest.mark.parametrize(
    ("raw", "changes", "name"),
    [
        ("00A40400065453414D303100", False, "SELECT TSAM01"),
        ("00A4000002EF0400", False, "SELECT EF04"),
        ("00B2030400", False, "READ_RECORD 3"),
        ("00C0000008", False, "GET_RESPONSE"),
        ("C0F0000010", False, "GET_REGISTER_NB"),
        ("C0F9000008313233343536373808", True, "VERIFY_FISCAL_PIN"),
        ("C0F4000001AA", True, "DECLARE_DUTY"),
        ("C0F6000001AA", True, "UPDATE_CONTROLS"),
        ("C0F2000001AA", True, "ISSUE_INVOICE"),
        ("C0FB000001AA", True, "DAILY_COLLECT_SIGN"),
        ("00A404000754455354FF0203", False, "SELECT"),
        ("00FF0000", False, "?"),
        ("00", False, "?"),
        ("C0F4", True, "?"),
    ],
)
def test_a_command_has_a_name_and_says_whether_it_changes_the_card(
    raw: str, changes: bool, name: str
) -> None:
    apdu = bytes.fromhex(raw)
    assert iccard.changes_card(apdu) is changes
    assert iccard.command_name(apdu) == name


@given(st.binary(max_size=40))
def test_naming_a_command_never_crashes_nor_shows_data(raw: bytes) -> None:
    assert len(iccard.command_name(raw)) < 24
    iccard.changes_card(raw)


def test_the_next_pin_has_eight_bytes_or_is_garbled() -> None:
    assert iccard.decode_next_pin(b"ABCDEFGH") == b"ABCDEFGH"
    for wrong in (b"", b"ABCDEFG", b"ABCDEFGHI"):
        with pytest.raises(Failure) as failure:
            iccard.decode_next_pin(wrong)
        assert failure.value.code is Code.DEVICE_GARBLED
        assert b"ABC" not in str(failure.value).encode()


@given(exactly(8))
def test_a_card_number_is_sixteen_upper_case_hexadecimal_digits(raw: bytes) -> None:
    device_no = iccard.device_no_of(raw)
    assert len(device_no) == 16
    assert device_no == device_no.upper()
    assert iccard.card_no_of(device_no) == raw


@pytest.mark.parametrize("device_no", ["", "12", "00000000000000ab", "0" * 18, "ZZ" * 8, "0 " * 8])
def test_other_texts_are_no_card_number(device_no: str) -> None:
    with pytest.raises(ValueError):
        iccard.card_no_of(device_no)


def test_a_record_never_written_is_blank() -> None:
    assert is_blank(bytes(76))
    assert is_blank(b"\xff" * 76)
    assert not is_blank(b"")
    assert not is_blank(b"\xff" * 75 + b"\0")


@given(st.binary(max_size=80))
def test_a_checked_structure_sums_to_nothing(data: bytes) -> None:
    assert xor(checked(data)) == 0


@pytest.mark.parametrize(
    "value",
    [
        ControlFile(dt.date(2026, 3, 16), 1 << 32, 0, 0),
        ControlFile(dt.date(2026, 3, 16), -1, 0, 0),
        ControlFile(dt.date(2026, 3, 16), 0, 0, 0, b"\x01"),
        InvoiceRoll(0, "税控税控税控", 1, 2),
        Declaration(dt.date(2026, 3, 1), dt.date(2026, 3, 31), 0, 0, 0, status=7),
        Totals(valid=(0,) * 5),
        DailySignature(b""),
    ],
    ids=["amount", "negative", "index", "text", "status", "five slots", "signature"],
)
def test_a_value_that_does_not_fit_is_our_mistake_and_never_sent(value: Layout) -> None:
    with pytest.raises(ValueError, match=r"fit|six|longer|status|bytes"):
        value.encode()


def test_a_declaration_cannot_end_before_it_starts() -> None:
    wrong = Declaration(dt.date(2026, 3, 1), dt.date(2026, 2, 28), 0, 0, 0).encode()
    with pytest.raises(Failure):
        iccard_layouts.Declaration.decode(wrong)
    duty = DeclareDuty(dt.date(2026, 3, 1), dt.date(2026, 2, 28), 0, 0, 0, Totals()).encode()
    with pytest.raises(Failure):
        DeclareDuty.decode(duty)
