"""What a person has typed is never a formula in a sheet that this site hands out."""

from __future__ import annotations

import io

import pytest
from openpyxl import Workbook, load_workbook

from agency import spreadsheet

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\0=1",
    "＝1+1",
    "＋1",
    "－1",
    "＠x",
]


def written(text: str) -> tuple[str, str]:
    """Type and text of the cell, as another program reads the file."""
    book = Workbook()
    spreadsheet.put(book.worksheets[0], 1, 1, text)
    target = io.BytesIO()
    book.save(target)
    cell = load_workbook(io.BytesIO(target.getvalue())).worksheets[0].cell(1, 1)
    return str(cell.data_type), str(cell.value)


@pytest.mark.parametrize("text", FORMULAS)
def test_what_begins_like_a_formula_is_a_text_with_an_apostrophe(text: str) -> None:
    kind, value = written(text)
    assert kind == "s"
    assert value.startswith("'")
    assert value.strip("'\t\r\n ") == text.strip("\t\r\n\0")


@pytest.mark.parametrize("text", ["武汉虚构有限公司", "a=b", "13800000000", "A-1", "'x", "#N/A"])
def test_any_other_text_stays_as_it_is(text: str) -> None:
    assert written(text) == ("s", text)


def test_openpyxl_alone_would_write_a_formula() -> None:
    """So that the tests above can fail."""
    sheet = Workbook().worksheets[0]
    sheet.cell(1, 1, FORMULAS[0])
    assert sheet.cell(1, 1).data_type == "f"
