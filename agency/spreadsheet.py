"""What a spreadsheet program will open: the one way to write a cell, and to hand the file out.

A program takes a text that begins like a formula for a formula, and runs it in the reader's name.
``put`` is the only way to fill a cell of a workbook that this site hands out; there is no CSV, in
which a text could not be told from a formula at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from django.http import HttpResponse

if TYPE_CHECKING:
    from openpyxl.cell import Cell, MergedCell
    from openpyxl.worksheet.worksheet import Worksheet

XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")  # no XML may hold them
#: Half and full width: programs set to Chinese take both for the beginning of a formula.
_BEGINS_A_FORMULA = tuple("=+-@\t\r\n\0＝＋－＠")


def harmless(text: str) -> str:
    """``text`` with an apostrophe before what a program might take for a formula."""
    return f"'{text}" if text.startswith(_BEGINS_A_FORMULA) else text


def put(sheet: Worksheet, row: int, column: int, text: str) -> Cell | MergedCell:
    """Fill a cell with a text, which stays one. Rows and columns count from 1."""
    cell = sheet.cell(row, column)
    cell.value = _CONTROL.sub("", harmless(text))
    cell.data_type = "s"  # whatever the library took it for
    return cell


def answer(workbook: bytes, file_name: str) -> HttpResponse:
    """The .xlsx file as a download; ``file_name`` is ours, never a person's."""
    response = HttpResponse(workbook, content_type=XLSX)
    response["Content-Disposition"] = f'attachment; filename="{file_name}"'
    return response
