"""Every code has its texts, and every vendor sign of domain.md §7 its code."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol.catalogue import (
    CATALOGUE,
    class_of,
    entry_of,
    from_device_code,
    tries_left_in,
)
from devices.protocol.catalogue.device_entries import DEVICE_ENTRIES
from devices.protocol.catalogue.month_entries import MONTH_ENTRIES
from devices.protocol.failures import Code, FailureClass

HAN = re.compile(r"[\u4e00-\u9fff]")


def test_every_code_has_exactly_one_entry() -> None:
    entries = [entry.code for entry in DEVICE_ENTRIES + MONTH_ENTRIES]
    assert sorted(entries) == sorted(Code)
    assert set(CATALOGUE) == set(Code)


@pytest.mark.parametrize("code", list(Code))
def test_every_entry_says_in_chinese_what_happened_what_next_and_what_not(code: Code) -> None:
    entry = entry_of(code)
    assert HAN.search(entry.title)
    assert not entry.title.endswith("。")
    for text in (entry.happened, entry.next_step, entry.dont):
        assert len(HAN.findall(text)) >= 5, text
        assert text.endswith("。"), text
        assert not re.search(r"[,;:()] ?[\u4e00-\u9fff]", text), f"半角标点: {text}"
    assert entry.dont.startswith("不要")


@pytest.mark.parametrize("code", list(Code))
def test_no_entry_sends_anyone_to_the_wrong_remedy(code: Code) -> None:
    entry = entry_of(code)
    for wrong in ("改电脑时间", "重装", "再次输入口令", "默认口令"):
        assert wrong not in entry.next_step


@pytest.mark.parametrize("code", list(Code))
def test_titles_are_told_apart(code: Code) -> None:
    assert [entry.title for entry in CATALOGUE.values()].count(entry_of(code).title) == 1


def test_only_these_are_treated_as_success() -> None:
    done = {code for code in Code if class_of(code) is FailureClass.DONE}
    assert done == {
        Code.PERIOD_DATA_EXIST,
        Code.NOTHING_TO_REPORT,
        Code.ALREADY_CLEARED,
        Code.TRAINING_DISK,
    }


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (Code.PASSWORD_WRONG, FailureClass.PERSON),
        (Code.PASSWORD_LAST_TRIES, FailureClass.PERSON),
        (Code.PASSWORD_LOCKED, FailureClass.BUREAU),
        (Code.CERTIFICATE_PASSWORD_WRONG, FailureClass.PERSON),
        (Code.PIN_UNKNOWN, FailureClass.PERSON),
        (Code.QUIET_HOURS, FailureClass.RETRY),
        (Code.OUTSIDE_WINDOW, FailureClass.RETRY),
        (Code.NOT_FILED, FailureClass.DATA),
        (Code.DEVICE_REFUSED, FailureClass.SOFTWARE),
        (Code.BUREAU_REFUSED, FailureClass.BUREAU),
    ],
)
def test_whose_move_it_is(code: Code, cls: FailureClass) -> None:
    assert class_of(code) is cls


@pytest.mark.parametrize(
    ("signs", "code"),
    [
        ("4001 163 0x8010000C 0x80100069", Code.DISK_ABSENT),
        ("4002 767 999", Code.SEVERAL_DISKS),
        ("-960032033", Code.WRONG_DISK),
        ("0x8010000B", Code.DISK_IN_USE),
        ("3001 3065 3072 4", Code.NO_ANSWER),
        ("09d1c1 09D1C5 63C2 63cF", Code.PASSWORD_WRONG),
        ("09d10b 6983 238 63C0 09d1c0 9303", Code.PASSWORD_LOCKED),
        ("0963c3 168 -960032031 -960032032", Code.CERTIFICATE_PASSWORD_WRONG),
        ("166 0963c0", Code.CERTIFICATE_PASSWORD_LOCKED),
        ("-960011100 112 97 98 99 100 101 102 103", Code.CERTIFICATE_INVALID),
        ("250 246 781 09d11f 09d120 09d121 09d122", Code.INVOICES_PENDING),
        ("248 未抄报", Code.OTHER_TYPE_OPEN),
        ("245", Code.OLDEST_FIRST),
        ("204", Code.CLEAR_FIRST),
        ("19", Code.REPORT_FIRST),
        ("202 1086", Code.PERIOD_DATA_EXIST),
        ("195 09d11b", Code.NOTHING_TO_REPORT),
        ("09d118", Code.ALREADY_CLEARED),
        ("199 191", Code.OUTSIDE_WINDOW),
        ("21 702 09d109 EE", Code.PAST_DEADLINE),
        ("506 706 时钟校准因子失效", Code.DEVICE_CLOCK_WRONG),
        ("155 156 157 158 159 6988", Code.CLEAR_DATA_MISMATCH),
        ("-960011101 -960011199 95", Code.BUREAU_UNREACHABLE),
        ("241", Code.DEVICE_DAMAGED),
        ("209 222", Code.ROLLS_PENDING),
        ("247 768 769", Code.OFFLINE_LIMIT),
        ("150 151 152 153", Code.DEVICE_AUTH_MISMATCH),
    ],
)
def test_a_vendors_sign_has_its_code(signs: str, code: Code) -> None:
    assert {sign: from_device_code(sign) for sign in signs.split()} == dict.fromkeys(
        signs.split(), code
    )


@pytest.mark.parametrize("raw", ["", "0", "9999", "154", "6F00", "-960011", "63C", "x63C1"])
def test_an_unknown_sign_is_not_guessed(raw: str) -> None:
    assert from_device_code(raw) is Code.DEVICE_REFUSED
    assert class_of(from_device_code(raw)) is FailureClass.SOFTWARE


@pytest.mark.parametrize(
    ("raw", "tries"),
    [("63C2", 2), ("09d1c5", 5), ("0963C0", 0), ("6983", 0), ("238", 0), ("241", None), ("", None)],
)
def test_the_tries_left_are_read_from_the_code(raw: str, tries: int | None) -> None:
    assert tries_left_in(raw) == tries


@given(st.text(max_size=20))
def test_no_sign_makes_it_crash(raw: str) -> None:
    assert from_device_code(raw) in Code
    tries_left_in(raw)
