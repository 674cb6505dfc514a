"""Looks at an uploaded workbook before a library builds anything from it.

An .xlsx is a zip of XML files: a few kilobytes can unpack to gigabytes, one row can hold millions
of cells, an entity can expand without end. Every member is walked once with expat, which keeps
nothing, and counted; only what passed is handed to openpyxl. Macros, files within the file and
members with odd or doubled names are refused. The same walk notes the formula cells whose result
was never saved, which openpyxl cannot tell from empty ones. Never evaluates a formula, never
follows a link, never writes a member to a disk.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from typing import IO
from xml.parsers import expat

from django.utils.translation import gettext as _

from agency.errors import ServiceError

MAX_MEMBERS = 2_000
MAX_UNPACKED = 60 * 1024 * 1024
MAX_CELL_ELEMENTS = 2_500_000  # elements of rows and of the table of texts, all sheets together
MAX_OTHER_ELEMENTS = 100_000  # styles, links, validations …: each becomes an object in openpyxl
MAX_CELLS_PER_ROW = 16_384  # Excel's own limit
MAX_UNSAVED_FORMULAS = 100_000
MAX_DEPTH = 60

_CHUNK = 64 * 1024
_MACROS = ("vbaproject.bin", "vbadata.xml", "vbaprojectsignature.bin")
#: First bytes of archives and of OLE files, in which more files can be.
_ARCHIVES = (b"PK\x03\x04", b"PK\x05\x06", b"\xd0\xcf\x11\xe0", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf")


class SheetError(ServiceError):
    """A file that cannot be read as a table; the text says why and what to do, without contents."""


@dataclass(slots=True)
class SheetFacts:
    """What the walk saw in one worksheet: (row, column) from 1."""

    unsaved_formulas: set[tuple[int, int]] = field(default_factory=set)
    width: int = 0  # the last column that holds a value


def inspect(data: bytes) -> dict[str, SheetFacts]:
    """Facts of each member by its path in the zip. Raises SheetError for what must stay closed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        _check_kind({member.filename for member in members})
        _check_names([member.filename for member in members])
        # zipfile never unpacks more of a member than its directory entry declares.
        if len(members) > MAX_MEMBERS or sum(m.file_size for m in members) > MAX_UNPACKED:
            raise too_much()
        if any(member.flag_bits & 0x1 for member in members):
            raise SheetError(_("文件设有打开密码，请去掉密码后再上传。"))
        budget = _Budget()
        facts = {}
        for member in members:
            with archive.open(member) as stream:
                facts[member.filename] = _walk(
                    stream, budget, must_be_xml=member.filename.lower().endswith((".xml", ".rels"))
                )
    return facts


def with_macros() -> SheetError:
    return SheetError(_("文件含有宏，不能导入。请用 Excel 或 WPS 另存为不含宏的 .xlsx 后再上传。"))


def too_much() -> SheetError:
    return SheetError(
        _("文件的内容过多，无法读取。请只保留要导入的那张表，或把表拆成几份分别导入。")
    )


def unreadable() -> SheetError:
    return SheetError(
        _("文件已损坏或不是标准的 Excel 文件。请用 Excel 或 WPS 打开，另存为 .xlsx 后再上传。")
    )


def _check_kind(names: set[str]) -> None:
    """Say which other kind of zip this is, when it is not a workbook of XML files."""
    if "xl/workbook.bin" in names:
        raise SheetError(_("这是 .xlsb 格式，请用 Excel 另存为 .xlsx 后再上传。"))
    if any(name.startswith("xl/") for name in names):
        return
    if any(name.startswith("word/") for name in names):
        raise SheetError(_("这是 Word 文档，不是 Excel 文件。请上传 .xlsx 表格。"))
    if "content.xml" in names:
        raise SheetError(_("这是 OpenDocument 文件，请另存为 .xlsx 后再上传。"))
    raise SheetError(_("这是压缩包，不是 Excel 文件。请先解压，再上传里面的 .xlsx 表格。"))


def _check_names(names: list[str]) -> None:
    """No macros, and no name that says another place or that two members share."""
    if any(name.lower().endswith(_MACROS) for name in names):
        raise with_macros()
    if len({name.lower() for name in names}) < len(names):
        raise unreadable()
    for name in names:
        if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
            raise unreadable()


@dataclass(slots=True)
class _Budget:
    cells: int = MAX_CELL_ELEMENTS
    others: int = MAX_OTHER_ELEMENTS
    formulas: int = MAX_UNSAVED_FORMULAS


def _walk(stream: IO[bytes], budget: _Budget, *, must_be_xml: bool) -> SheetFacts:
    """Walk one member. A picture or another binary part ends at its first bytes, unharmed."""
    walker = _Walker(budget)
    head = stream.read(_CHUNK)
    if head.startswith(_ARCHIVES):
        raise SheetError(_("文件里夹带着别的文件。请把要导入的那张表另存为新的 .xlsx 后再上传。"))
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = walker.start
    parser.EndElementHandler = walker.end
    parser.CharacterDataHandler = walker.text
    parser.StartDoctypeDeclHandler = walker.doctype
    try:
        chunk = head
        while chunk:
            parser.Parse(chunk, False)
            chunk = stream.read(_CHUNK)
        parser.Parse(b"", True)
    except expat.ExpatError:
        if must_be_xml:
            raise unreadable() from None
    return walker.facts


class _Walker:
    """The handlers of one member's walk."""

    def __init__(self, budget: _Budget) -> None:
        self.facts = SheetFacts()
        self._budget = budget
        self._depth = 0
        self._in_cells = 0  # depth at which the table of rows or texts began
        self._row = self._column = 0
        self._cells_in_row = 0
        self._formula = self._value = self._in_value = self._text_result = False

    def doctype(self, *_: object) -> None:
        """No workbook has one; it is where entities would be declared."""
        raise unreadable()

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise unreadable()
        name = name.rpartition(" ")[2]
        if "macroEnabled" in attributes.get("ContentType", ""):
            raise with_macros()
        if not self._in_cells:
            self._budget.others -= 1
            if self._budget.others < 0:
                raise too_much()
            if name in {"sheetData", "sst"}:
                self._in_cells = self._depth
            return
        self._budget.cells -= 1
        if self._budget.cells < 0:
            raise too_much()
        if name == "c":
            self._start_cell(attributes)
        elif name in {"v", "is"}:
            self._in_value = True
        elif name == "f":
            self._formula = True
        elif name == "row":
            self._row = _position(attributes.get("r", ""), self._row + 1)
            self._column = self._cells_in_row = 0

    def _start_cell(self, attributes: dict[str, str]) -> None:
        letters = attributes.get("r", "").rstrip("0123456789")
        self._column = _column_number(letters) or self._column + 1
        self._cells_in_row += 1
        if self._cells_in_row > MAX_CELLS_PER_ROW:
            raise too_much()
        self._formula = self._value = self._in_value = False
        self._text_result = attributes.get("t") == "str"  # an empty text is a result too

    def text(self, data: str) -> None:
        if self._in_value and data:
            self._value = True

    def end(self, name: str) -> None:
        name = name.rpartition(" ")[2]
        if self._in_cells == self._depth:
            self._in_cells = 0
        elif name in {"v", "is"}:
            self._in_value = False
        elif name == "c":
            if self._value:
                self.facts.width = max(self.facts.width, self._column)
            elif self._formula and not self._text_result:
                self._budget.formulas -= 1
                if self._budget.formulas < 0:
                    raise too_much()
                self.facts.unsaved_formulas.add((self._row, self._column))
                self.facts.width = max(self.facts.width, self._column)
        self._depth -= 1


def _position(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 7 else default


def _column_number(letters: str) -> int:
    """``A`` → 1, ``AA`` → 27; 0 for what names no column."""
    number = 0
    if len(letters) > 3 or not (letters.isascii() and letters.isalpha()):
        return 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - 64
    return number
