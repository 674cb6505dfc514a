"""Sheets as agencies write them, and short ways through an import, for the tests beside."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping, Sequence
from typing import Any

from openpyxl import Workbook

from agency.models import Agency
from devices import imports
from devices.import_types import PlannedRow
from devices.import_write import ImportResult
from devices.models import ImportDraft
from devices.sheet_columns import COLUMNS
from tests.conftest import (
    NOW,
    fictional_tax_id,
)

NAMES = [column.name for column in COLUMNS]
LATER = NOW + dt.timedelta(hours=1)
SECRET = "S3cret99"
CERTIFICATE = "C3rt1f99"


def workbook(*rows: Sequence[Any], formats: dict[str, str] | None = None) -> bytes:
    """An .xlsx with one sheet; ``formats``: number formats by cell name."""
    book = Workbook()
    sheet = book.worksheets[0]
    for row in rows:
        sheet.append(list(row))
    for cell, number_format in (formats or {}).items():
        sheet[cell].number_format = number_format
    return saved(book)


def saved(book: Workbook) -> bytes:
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


def line(**values: Any) -> dict[str, Any]:
    """A row of the sheet by our own headings, for a made-up company unless told otherwise."""
    return {"企业名称": "武汉虚构有限公司", "税号": fictional_tax_id(), **values}


def sheet(*lines: Mapping[str, Any]) -> bytes:
    return workbook(NAMES, *[[row.get(name) for name in NAMES] for row in lines])


def upload(agency: Agency, data: bytes, *, user: int = 0, now: dt.datetime = NOW) -> ImportDraft:
    return imports.draft_from_upload(
        agency_id=agency.pk, user_id=user, file_name="客户.xlsx", data=data, now=now
    )


def planned(agency: Agency, *lines: Mapping[str, Any], user: int = 0) -> list[PlannedRow]:
    """The rows of the preview, in the order of the sheet."""
    found = imports.preview(upload(agency, sheet(*lines), user=user))
    return sorted(found.rows, key=lambda row: row.number)


def run(agency: Agency, *lines: Mapping[str, Any], user: int = 0) -> ImportResult:
    return imports.confirm(upload(agency, sheet(*lines), user=user), now=LATER)


def errors(agency: Agency, *lines: Mapping[str, Any], user: int = 0) -> list[str]:
    """The one error of each row, "" for a good one."""
    rows = planned(agency, *lines, user=user)
    assert all(len(row.errors) <= 1 for row in rows), [row.errors for row in rows]
    return [row.errors[0] if row.errors else "" for row in rows]


def own_sheet() -> bytes:
    return workbook(
        ["客户清册"],
        ["内部号", "单位", "识别号码", "盘密", "手机", "电话"],
        ["7", "武汉虚构有限公司", fictional_tax_id(), SECRET, "1", "2"],
    )
