"""Reads an uploaded table of clients and disks: any bytes become a Sheet or a SheetError.

Owns what a file may be (.xlsx, .csv), the limits on it, and the plain text of each cell. Knows
which row looks like the headings, not what a value means (:mod:`devices.sheet_columns`), and no
database. Cells may hold passwords: none is ever part of an error, a log line or a ``repr``.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import re
import warnings
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import takewhile
from typing import Any

from django.utils.translation import gettext as _
from openpyxl import load_workbook
from openpyxl.utils import get_column_letter

from devices import sheet_guard
from devices.sheet_columns import heading_score
from devices.sheet_guard import SheetError, too_much, unreadable

__all__ = ["Row", "Sheet", "SheetError", "Trouble", "read_sheet"]

MAX_BYTES = 10 * 1024 * 1024
MAX_ROWS = 20_000
MAX_COLUMNS = 100
MAX_SHEETS = 20
MAX_TEXT = 20_000_000  # characters of all cells: one shared text can be shown by every cell
MAX_CELL = 300
HEADER_WITHIN = 20
EXCEL_LAST_ROW = 1_048_576
EXACT_DIGITS = 15

_SIGNS = {
    b"\x89PNG": "picture",
    b"\xff\xd8\xff": "picture",
    b"GIF8": "picture",
    b"BM": "picture",
    b"II*\x00": "picture",
    b"MM\x00*": "picture",
    b"RIFF": "picture",
    b"%PDF": "pdf",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\xd0\xcf\x11\xe0": "ole",
}
_AS_EXCEL_NUMBER = re.compile(r"[0-9](\.[0-9]+)?E\+[0-9]{2,3}")
_FORCED_TEXT = re.compile(r'="(.*)"')  # how programs keep Excel from making numbers of a CSV


class Trouble(StrEnum):
    """Why a cell's text cannot be trusted."""

    FORMULA = "formula"  # no saved result
    LOST_DIGITS = "lost_digits"  # a number of more digits than Excel keeps
    ERROR_VALUE = "error_value"  # #N/A and its kin


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is not empty: its number in the sheet, its texts, and troubles by column index."""

    number: int
    cells: tuple[str, ...] = field(repr=False)
    troubles: dict[int, Trouble] = field(default_factory=dict)

    def text(self, column: int) -> str:
        return self.cells[column] if column < len(self.cells) else ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: headings as they stand in the file (possibly empty) and the rows below them."""

    headings: tuple[str, ...]
    header_row: int
    rows: tuple[Row, ...] = field(repr=False)
    title: str = ""

    def pack(self) -> bytes:
        """For a sealed draft; :meth:`unpack` is its inverse."""
        rows = [[row.number, row.cells, list(row.troubles.items())] for row in self.rows]
        content = [self.headings, self.header_row, rows, self.title]
        return zlib.compress(json.dumps(content, ensure_ascii=False).encode(), 3)

    @classmethod
    def unpack(cls, packed: bytes) -> Sheet:
        headings, header_row, rows, title = json.loads(zlib.decompress(packed))
        return cls(
            tuple(headings),
            header_row,
            tuple(
                Row(number, tuple(cells), {column: Trouble(name) for column, name in troubles})
                for number, cells, troubles in rows
            ),
            title,
        )


def read_sheet(data: bytes, file_name: str, known_headings: Collection[str] = ()) -> Sheet:
    """Read ``data`` (the bytes of a file called ``file_name``) as one table.

    ``known_headings``: further headings that this agency is known to use. Raises SheetError, and
    nothing else, whatever the bytes are.
    """
    if not data:
        raise SheetError(_("文件是空的。"))
    if len(data) > MAX_BYTES:
        raise SheetError(
            _("文件超过 %(size)d MB，请拆成几份分别导入。") % {"size": MAX_BYTES >> 20}
        )
    kind = next((kind for sign, kind in _SIGNS.items() if data.startswith(sign)), "")
    suffix = file_name.lower().rpartition(".")[2]
    if kind == "zip":
        return _read_workbook(data, known_headings)
    if kind == "ole":
        if "EncryptedPackage".encode("utf-16-le") in data:
            raise SheetError(_("文件设有打开密码，请去掉密码后再上传。"))
        raise SheetError(_("这是旧版 .xls 格式，请用 Excel 或 WPS 另存为 .xlsx 后再上传。"))
    if suffix in {"csv", "tsv"} and kind in {"", "picture"} and (text := _decode(data)):
        return _table(_csv_rows(text), known_headings)
    if kind == "picture":
        raise SheetError(
            _("这是图片，不是 Excel 文件。改名不会改变格式，请上传原来的 .xlsx 表格。")
        )
    if kind == "pdf":
        raise SheetError(_("这是 PDF，不是 Excel 文件。请上传原来的 .xlsx 表格。"))
    if data[:1024].lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith((b"<html", b"<!doc", b"<tab")):
        raise SheetError(
            _("这是网页格式的表格（有些系统导出的 .xls 就是这样），请另存为 .xlsx 后再上传。")
        )
    raise SheetError(_("这不是 Excel 文件。请上传 .xlsx 表格，或以 .csv 为扩展名的文本表格。"))


def _read_workbook(data: bytes, known: Collection[str]) -> Sheet:
    try:
        facts = sheet_guard.inspect(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl says what it does not support; no matter
            book = load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
            try:
                return _best_table(book, facts, known)
            finally:
                book.close()
    except SheetError:
        raise
    except (
        Exception
    ):  # openpyxl raises almost anything on a damaged file; nothing of it is for users
        raise unreadable() from None


def _best_table(
    book: Any, facts: dict[str, sheet_guard.SheetFacts], known: Collection[str]
) -> Sheet:
    """The visible worksheet whose first rows look most like ours; the first one of equal ones."""
    best, best_score = None, -1
    for worksheet in book.worksheets[:MAX_SHEETS]:
        if worksheet.sheet_state != "visible":
            continue
        # openpyxl has no public name for it; a test fails should it go.
        about = facts[worksheet._worksheet_path]
        head = list(takewhile(_near_top, _workbook_rows(worksheet, about)))
        score = max((heading_score(row.cells, known) for row in head), default=-1)
        if score > best_score:
            best, best_score = (worksheet, about), score
    if best is None:
        raise SheetError(_("表格是空的：没有一张可见的工作表有内容。"))
    worksheet, about = best
    return _table(_workbook_rows(worksheet, about), known, title=str(worksheet.title)[:60])


def _near_top(row: Row) -> bool:
    return row.number <= HEADER_WITHIN


def _workbook_rows(worksheet: Any, about: sheet_guard.SheetFacts) -> Iterator[Row]:
    """The rows that are not empty."""
    width = min(about.width, MAX_COLUMNS + 1)
    if not width:
        return
    rows = worksheet.iter_rows(max_row=EXCEL_LAST_ROW, max_col=width)
    for number, cells in enumerate(rows, 1):
        texts, troubles = [], {}
        for index, cell in enumerate(cells):
            text, trouble = "", None
            if cell.value is not None:
                text, trouble = _cell_text(cell)
            elif (number, index + 1) in about.unsaved_formulas:
                trouble = Trouble.FORMULA
            texts.append(text)
            if trouble is not None:
                troubles[index] = trouble
        if troubles or any(texts):
            yield _row(number, texts, troubles)


def _cell_text(cell: Any) -> tuple[str, Trouble | None]:
    value = cell.value
    if cell.data_type == "e":
        return clean(str(value)), Trouble.ERROR_VALUE
    if isinstance(value, bool):
        return ("是" if value else "否"), None
    if isinstance(value, int | float):
        return _number_text(value, cell.number_format or "")
    if isinstance(value, dt.datetime):
        midnight = value.time() == dt.time()
        return value.strftime("%Y-%m-%d" if midnight else "%Y-%m-%d %H:%M"), None
    return clean(str(value)), None


def _number_text(value: float, number_format: str) -> tuple[str, Trouble | None]:
    """A number as its owner sees it: no ``.0``, with the leading zeros that its format shows."""
    if not math.isfinite(value):
        return "", Trouble.ERROR_VALUE
    if value != int(value):
        return f"{value:.15g}", None
    whole = int(value)
    if abs(whole) >= 10**EXACT_DIGITS:
        return f"{value:.5E}", Trouble.LOST_DIGITS
    text = str(whole)
    if set(number_format) == {"0"} and whole >= 0:
        text = text.zfill(min(len(number_format), MAX_CELL))
    return text, None


def _decode(data: bytes) -> str:
    """The text of a CSV, or "" when the bytes are no text. Excel in China writes GBK."""
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", text):
            return text
    return ""


def _csv_rows(text: str) -> Iterator[Row]:
    top = text[:20_000]
    delimiter = max(",\t;", key=top.count)
    try:
        for number, values in enumerate(csv.reader(io.StringIO(text), delimiter=delimiter), 1):
            texts = []
            for value in values:
                value = clean(value)
                forced = _FORCED_TEXT.fullmatch(value)
                texts.append(forced[1].strip() if forced else value)
            if any(texts):
                lost = {
                    index: Trouble.LOST_DIGITS
                    for index, value in enumerate(texts)
                    if _AS_EXCEL_NUMBER.fullmatch(value)
                }
                yield _row(number, texts, lost)
    except csv.Error:
        raise SheetError(
            _("文件不是规范的 CSV，请用 Excel 打开，另存为 .xlsx 后再上传。")
        ) from None


def clean(text: str) -> str:
    """One line without invisible characters, at most MAX_CELL long."""
    if not text.isprintable():
        text = "".join(
            c if c.isprintable() else " " if c.isspace() else "" for c in text[: 4 * MAX_CELL]
        )
    return text[: 4 * MAX_CELL].strip()[:MAX_CELL]


def _row(number: int, texts: list[str], troubles: dict[int, Trouble]) -> Row:
    width = len(texts)
    while width and not texts[width - 1] and width - 1 not in troubles:
        width -= 1
    if width > MAX_COLUMNS:
        raise SheetError(
            _("第 %(row)d 行超过 %(columns)d 列，请删去用不到的列。")
            % {"row": number, "columns": MAX_COLUMNS}
        )
    return Row(number, tuple(texts[:width]), troubles)


def _table(rows: Iterable[Row], known: Collection[str], *, title: str = "") -> Sheet:
    """Find the headings within the first rows and take all rows below them."""
    rows = iter(rows)
    head: list[Row] = []
    rest: list[Row] = []
    for row in rows:
        if not _near_top(row):
            rest.append(row)
            break
        head.append(row)
    if not head and not rest:
        raise SheetError(_("表格是空的。"))
    header = _header_of(head, known)
    body = [row for row in head if row.number > header.number] + rest
    characters = sum(len(cell) for row in body for cell in row.cells)
    for row in rows:
        body.append(row)
        characters += sum(map(len, row.cells))
        if len(body) > MAX_ROWS:
            raise SheetError(_("表格超过 %(rows)d 行，请拆成几份分别导入。") % {"rows": MAX_ROWS})
        if characters > MAX_TEXT:
            raise too_much()
    if not body:
        raise SheetError(_("第 %(row)d 行是表头，下面没有数据。") % {"row": header.number})
    width = max(len(header.cells), *(len(row.cells) for row in body))
    headings = header.cells + ("",) * (width - len(header.cells))
    return Sheet(headings, header.number, tuple(body), title)


def _header_of(head: list[Row], known: Collection[str]) -> Row:
    """The row with the most headings that we know; else the first that has two cells filled."""
    best = max(head, key=lambda row: heading_score(row.cells, known), default=None)
    if best is not None and heading_score(best.cells, known) > 0:
        return best
    for row in head:
        if sum(1 for cell in row.cells if cell) >= 2:
            return row
    raise SheetError(
        _("前 %(rows)d 行里没有找到表头（例如“企业名称”“税号”）。") % {"rows": HEADER_WITHIN}
    )


def cell_name(column: int, row: int) -> str:
    """``C7``, as Excel calls it; ``column`` counts from 0."""
    return f"{get_column_letter(column + 1)}{row}"
