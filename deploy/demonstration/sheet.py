"""Writes the sample as the Excel sheet that an agency would bring (客户与税盘, 模拟)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from openpyxl import Workbook
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter

from deploy.demonstration.scenario import Client

HEADINGS = (
    "客户简称",
    "企业名称",
    "税号",
    "纳税人类型",
    "申报周期",
    "主管税务机关",
    "清卡时机",
    "记账会计",
    "联系人",
    "电话",
    "盘号",
    "开票机号",
    "设备类型",
    "设备口令",
    "证书口令",
)
_WIDE = {"企业名称": 30, "税号": 22, "主管税务机关": 40, "盘号": 20}
_AS_TEXT = "@"


def write_sheet(clients: Iterable[Client], path: Path) -> None:
    """One row per disk; every cell is a text, so that Excel spoils no number."""
    book = Workbook()
    book.remove(book.worksheets[0])
    sheet = book.create_sheet("客户与税盘(模拟)")
    sheet.append(HEADINGS)
    for client in clients:
        sheet.append(_cells(client))
    for index, heading in enumerate(HEADINGS, 1):
        letter = get_column_letter(index)
        sheet.column_dimensions[letter].width = _WIDE.get(heading, 13)
        sheet.cell(1, index).font = Font(bold=True)
        for row in range(2, sheet.max_row + 1):
            sheet.cell(row, index).number_format = _AS_TEXT
    sheet.freeze_panes = "A2"
    book.save(path)


def _cells(client: Client) -> list[str]:
    disk = (
        [
            client.device_no,
            str(client.terminal_no),
            client.device_type,
            client.sheet_pin,
            client.certificate,
        ]
        if client.has_disk
        else ["", "", "数电", "", ""]
    )
    return [
        client.short_name,
        client.name,
        client.tax_id,
        client.taxpayer_kind,
        client.frequency,
        client.bureau_name,
        client.policy,
        client.accountant,
        client.contact,
        client.phone,
        *disk,
    ]
