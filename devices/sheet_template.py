"""The sheet that an agency can download and fill in: our headings, and one example to delete."""

from __future__ import annotations

import io

from django.utils.translation import gettext as _
from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from agency import spreadsheet
from devices.sheet_columns import COLUMNS

# Made up; its check digit is right. Left in the sheet, the row is refused as the example.
EXAMPLE_TAX_ID = "91310000MA1K35Y991"
_EXAMPLE = {
    "short_name": "示例（请删除本行）",
    "name": "示例商贸有限公司",
    "tax_id": EXAMPLE_TAX_ID,
    "taxpayer_kind": "小规模纳税人",
    "filing_frequency": "按季",
    "clear_policy": "申报后清卡",
    "terminal_no": "0",
    "kind": "税控盘",
}
_LISTS = {
    "taxpayer_kind": "一般纳税人,小规模纳税人",
    "filing_frequency": "按月,按季",
    "clear_policy": "申报后清卡,直接尝试",
    "kind": "金税盘,税控盘,税务UKey,税控IC卡,数电",
}
_LAST_ROW = 20_000
_AS_TEXT = "@"


def template_workbook() -> bytes:
    """The .xlsx file. Every column is formatted as text, so that Excel spoils no number."""
    book = Workbook()
    book.remove(book.worksheets[0])
    sheet = book.create_sheet(_("客户与税盘"))
    sheet.freeze_panes = "A2"
    for index, column in enumerate(COLUMNS, 1):
        letter = get_column_letter(index)
        sheet.column_dimensions[letter].number_format = _AS_TEXT
        sheet.column_dimensions[letter].width = 24 if column.key in {"name", "tax_id"} else 14
        spreadsheet.put(sheet, 1, index, column.name).font = Font(bold=True)
        spreadsheet.put(sheet, 2, index, _EXAMPLE.get(column.key, "")).number_format = _AS_TEXT
        if column.key in _LISTS:
            allowed = DataValidation(
                type="list", formula1=f'"{_LISTS[column.key]}"', showErrorMessage=False
            )
            allowed.add(f"{letter}2:{letter}{_LAST_ROW}")
            sheet.add_data_validation(allowed)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()
