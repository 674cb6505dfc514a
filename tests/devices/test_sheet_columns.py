"""How agencies call the columns, and what a cell of each may say."""

from __future__ import annotations

import io

import pytest
from openpyxl import load_workbook

from devices.sheet_columns import BY_KEY, COLUMNS, CellError, parse_cell, recognise
from devices.sheet_template import EXAMPLE_TAX_ID, template_workbook
from devices.sheets import Row, read_sheet
from tests.devices.import_sheets import NAMES, SECRET

# — Headings and values


@pytest.mark.parametrize(
    ("heading", "key"),
    [
        ("*税号（必填）", "tax_id"),
        ("纳税人识别号", "tax_id"),
        ("统一社会信用代码/纳税人识别号", "tax_id"),
        ("公司 名称：", "name"),
        ("客户名称", "name"),
        ("负责会计", "accountant"),
        ("税控盘号", "device_no"),
        ("分机号", "terminal_no"),
        ("UKey密码", "device_password"),
        ("证书密码", "certificate_password"),
        ("主管税务所", "bureau"),
        ("手 机", "phone"),
        ("备注", ""),
        ("", ""),
    ],
)
def test_a_heading_is_known_by_its_synonyms(heading: str, key: str) -> None:
    assert recognise([heading], {}) == {0: key}


def test_the_better_synonym_gets_the_column_and_required_ones_choose_first() -> None:
    assert list(recognise(["手机", "联系电话"], {}).values()) == ["", "phone"]
    assert list(recognise(["客户名称", "企业名称"], {}).values()) == ["short_name", "name"]


def test_what_the_agency_decided_before_comes_first() -> None:
    remembered = {"盘密": "device_password", "口令": "", "编号": "gone_key"}
    assert list(recognise(["口令", "盘密", "编号"], remembered).values()) == [
        "",
        "device_password",
        "",
    ]


def test_every_synonym_stands_for_some_column_and_keys_are_unique() -> None:
    assert len(BY_KEY) == len(COLUMNS)
    for column in COLUMNS:
        for word in (column.name, *column.synonyms.split()):
            assert recognise([word], {})[0], word


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("taxpayer_kind", "一般", "general"),
        ("taxpayer_kind", "小规模 纳税人", "small"),
        ("filing_frequency", "季报", "quarterly"),
        ("filing_frequency", "按月", "monthly"),
        ("clear_policy", "直接尝试", "try"),
        ("kind", "白盘", "baiwang"),
        ("kind", "黑盘（航信）", "aisino"),
        ("kind", "税务ＵＫＥＹ", "ukey"),
        ("kind", "税控 IC 卡", "ic_card"),
        ("kind", "数电", "none"),
        ("terminal_no", "主机", "0"),
        ("terminal_no", "分机2", "2"),
        ("terminal_no", "3号分机", "3"),
        ("device_no", "6612 3456-7890", "661234567890"),
        ("device_no", "66190000abcd0001", "66190000ABCD0001"),
        ("device_password", "１２３４５６７８", "12345678"),
        ("tax_id", " 91310000ma1k35y991 ", EXAMPLE_TAX_ID),
    ],
)
def test_a_value_is_understood_in_the_words_of_the_trade(key: str, text: str, value: str) -> None:
    assert parse_cell(key, text) == value


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("taxpayer_kind", "大规模", "一般纳税人、小规模纳税人"),
        ("device_no", "12345", "开头的 0"),
        ("device_no", "66123456789X", "12 位"),
        ("terminal_no", "第一台", "数字"),
        ("tax_id", "91310000MA1K35Y992", "校验位"),
        ("tax_id", "9.1310E+17", "后几位已经丢失"),
        ("name", "长" * 101, "100"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_would_do(
    key: str, text: str, words: str
) -> None:
    with pytest.raises(CellError, match=words):
        parse_cell(key, text)


@pytest.mark.parametrize("text", ["1234567", SECRET + "x", "口令" + SECRET[2:], "1234 678"])
def test_a_password_that_cannot_be_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(CellError) as caught:
        parse_cell("device_password", text)
    assert text not in str(caught.value)
    assert text.strip() not in repr(caught.value)


def test_the_template_is_read_back_with_all_columns_and_formats_them_as_text() -> None:
    sheet = read_sheet(template_workbook(), "qingka-import.xlsx")
    assert list(sheet.headings) == NAMES
    assert sheet.rows[0].text(2) == EXAMPLE_TAX_ID
    written = load_workbook(io.BytesIO(template_workbook())).worksheets[0]
    assert written.column_dimensions["K"].number_format == "@"


def test_a_row_has_an_empty_text_beyond_its_end() -> None:
    assert Row(1, ("a",)).text(5) == ""
