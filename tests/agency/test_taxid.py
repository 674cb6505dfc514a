"""Tax ids as people type and paste them. All numbers are invented or public examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.cn import uscc

from agency.taxid import TaxId, TaxIdError, check_tax_id

BODY = "91420106MA05AMP1X"
GOOD = BODY + uscc.calc_check_digit(BODY)


def with_check_digit(body: str) -> str:
    """A fictional credit code: 17 characters and the digit that fits."""
    return body + uscc.calc_check_digit(body)


def test_a_public_example_of_the_standard_is_accepted() -> None:
    assert check_tax_id("91110000600037341L") == TaxId("91110000600037341L", legacy=False)


@pytest.mark.parametrize(
    "typed",
    [
        GOOD,
        GOOD.lower(),
        f"  {GOOD}\n",
        f"{GOOD[:4]} {GOOD[4:10]}\u3000{GOOD[10:]}",
        f"'{GOOD}",
        f"\ufeff{GOOD}\u200b",
        f"\u00a0{GOOD}",
        "".join(chr(ord(c) + 0xFEE0) for c in GOOD),
        "".join(chr(ord(c) + 0xFEE0) for c in GOOD.lower()),
    ],
)
def test_spaces_case_and_full_width_do_not_matter(typed: str) -> None:
    assert check_tax_id(typed) == TaxId(GOOD)


@pytest.mark.parametrize("authority", ["A1", "N2", "Y1", "52", "12"])
def test_every_registration_authority_of_the_standard_is_accepted(authority: str) -> None:
    number = with_check_digit(authority + "420106" + "MA0AAMP1X")
    assert check_tax_id(number) == TaxId(number)


@pytest.mark.parametrize(
    "number", ["420106123456789", "42010612345678X", "4201061234567890A123", "C2010612345678901234"]
)
def test_older_numbers_are_accepted_and_marked(number: str) -> None:
    assert check_tax_id(number) == TaxId(number, legacy=True)


def test_an_all_digit_code_that_really_ends_in_zeros_is_accepted() -> None:
    # Found, not typed: bodies that end in 00 whose check digit is 0 too.
    number = next(
        with_check_digit(body)
        for body in (f"914201{n:09d}00" for n in range(123456, 124456))
        if uscc.calc_check_digit(body) == "0"
    )
    assert number.endswith("000")
    assert check_tax_id(number) == TaxId(number)


WRONG = {
    "empty": ("", "税号为空"),
    "only spaces": (" \u3000\t", "税号为空"),
    "one short": (GOOD[:-1], "现为 17 位"),
    "one long": (GOOD + "1", "现为 19 位"),
    "sixteen": ("9142010612345678", "现为 16 位"),
    "check digit": (BODY + ("1" if GOOD[-1] != "1" else "2"), f"末位应为 {GOOD[-1]}"),
    "letter O": (GOOD[:9] + "O" + GOOD[10:], "第 10 位是字母 O"),
    "letters I and Z": ("9I420106MA05AMPZX1", "第 2、16 位是字母 I、Z"),
    "letter S": (GOOD[:16] + "S" + GOOD[17:], "第 17 位是字母 S"),
    "letter V": (GOOD[:16] + "V" + GOOD[17:], "第 17 位是字母 V"),
    "first place": ("0" + GOOD[1:], "第 1 位 “0”"),
    "region not digits": (GOOD[:4] + "A" + GOOD[5:], "第 5 位 “A”"),
    "scientific": ("9.14201E+17", "Excel"),
    "scientific, lower case": ("9.14201e17", "Excel"),
    "scientific, full width": ("\uff19\uff0e\uff11\uff14E+17", "Excel"),
    "a float": ("914201061234567000.0", "Excel"),
    "eighteen digits rounded": ("914201061234567000", "第 16 位起全是 0"),
    "twenty digits rounded": ("42010612345678900000", "第 16 位起全是 0"),
    "seventeen digits rounded": ("42010612345678900", "第 16 位起全是 0"),
    "hyphen": ("91420106-MA0AAMP1X", "“-”"),
    "Chinese text": ("武汉某某公司", "“武” “汉” “某” “公” “司”"),
    "identity card": ("11010519491231002X", "身份证号"),
    "fifteen, no region": ("ABC106123456789", "ABC106"),
    "fifteen zeros": ("0" * 15, "每一位都是 0"),
}


@pytest.mark.parametrize(("typed", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_said_in_one_sentence(typed: str, sentence: str) -> None:
    with pytest.raises(TaxIdError) as caught:
        check_tax_id(typed)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith("。")
    assert str(caught.value) == caught.value.template.format(**caught.value.params)


def test_any_single_wrong_character_is_noticed() -> None:
    alphabet = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    for place in range(18):
        for character in set(alphabet) - {GOOD[place]}:
            with pytest.raises(TaxIdError):
                check_tax_id(GOOD[:place] + character + GOOD[place + 1 :])


@given(st.text(max_size=40))
def test_any_text_is_either_a_tax_id_or_an_error(text: str) -> None:
    try:
        answer = check_tax_id(text)
    except TaxIdError:
        return
    assert answer.value.isascii()
    assert check_tax_id(answer.value) == answer


@given(st.from_regex(r"[1-9ANY][0-9]{7}[0-9A-HJ-NPQRTUWXY]{9}", fullmatch=True))
def test_every_well_formed_body_has_exactly_one_check_digit(body: str) -> None:
    assert check_tax_id(with_check_digit(body)) == TaxId(with_check_digit(body))
