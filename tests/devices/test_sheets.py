"""Any file an agency may upload, and what is read from it."""

from __future__ import annotations

import contextlib
import gzip
import io
import warnings
import zipfile
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from devices import sheet_guard, sheets
from devices.sheet_columns import COLUMNS, recognise
from devices.sheets import Sheet, SheetError, Trouble, read_sheet
from tests.devices.import_sheets import NAMES, SECRET, saved, workbook

TAX_ID = "91420100MA00000009"


def rezipped(data: bytes, replace: dict[str, bytes]) -> bytes:
    """The same zip with some members exchanged or added."""
    target = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            if name not in replace:
                new.writestr(name, old.read(name))
        for name, content in replace.items():
            new.writestr(name, content)
    return target.getvalue()


def worksheet_xml(body: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><worksheet xmlns='
        f'"http://schemas.openxmlformats.org/spreadsheetml/2006/main">{body}</worksheet>'
    ).encode()


def read(*rows: Sequence[Any], **more: Any) -> Sheet:
    return read_sheet(workbook(*rows, **more), "客户.xlsx")


def refusal(data: bytes, name: str = "客户.xlsx") -> str:
    with pytest.raises(SheetError) as caught:
        read_sheet(data, name)
    return str(caught.value)


# — What is read


def test_our_own_headings_are_recognised_and_rows_keep_their_numbers() -> None:
    sheet = read(NAMES, ["甲", "甲公司", TAX_ID], [], ["乙", "乙公司", TAX_ID])
    assert sheet.header_row == 1
    assert [(row.number, row.cells) for row in sheet.rows] == [
        (2, ("甲", "甲公司", TAX_ID)),
        (4, ("乙", "乙公司", TAX_ID)),
    ]
    assert list(recognise(sheet.headings, {}).values()) == [column.key for column in COLUMNS]


def test_title_rows_above_the_headings_are_stepped_over() -> None:
    sheet = read(
        ["2026 年客户清册"], [], ["制表：前台", "税号见营业执照"], ["税号", "企业名称"], ["1", "2"]
    )
    assert (sheet.header_row, sheet.headings) == (4, ("税号", "企业名称"))
    assert len(sheet.rows) == 1


def test_headings_below_the_twentieth_row_are_not_looked_for() -> None:
    rows = [["说明"]] * 20
    assert read(*rows[:19], ["税号", "企业名称"], ["1", "2"]).header_row == 20
    assert "没有找到表头" in refusal(workbook(*rows, ["税号", "企业名称"], ["1", "2"]))


def test_the_agencys_own_headings_find_the_row_too() -> None:
    data = workbook(["甲乙丙", "丁戊"], ["内部号", "盘密"], ["1", "2"])
    assert read_sheet(data, "a.xlsx", {"内部号", "盘密"}).header_row == 2


def test_the_sheet_that_looks_most_like_ours_is_taken_and_hidden_ones_are_not() -> None:
    book = Workbook()
    book.worksheets[0].append(["说明", "请看第二张"])
    for title, state in (("隐藏", "hidden"), ("客户", "visible")):
        sheet = book.create_sheet(title)
        sheet.append(NAMES)
        sheet.append([title, title, TAX_ID])
        sheet.sheet_state = state
    assert read_sheet(saved(book), "a.xlsx").title == "客户"


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (12.0, "General", "12"),
        (661234567890, "General", "661234567890"),
        (123456789012345, "General", "123456789012345"),
        (1234, "00000000", "00001234"),
        (1.5, "General", "1.5"),
        (True, "General", "是"),
        ("　甲\n公司\u200b ", "General", "甲 公司"),
        (46000, "yyyy-mm-dd", "2025-12-09"),
    ],
)
def test_a_cell_becomes_the_text_its_owner_sees(value: Any, number_format: str, text: str) -> None:
    sheet = read(["税号", "企业名称"], [value, "x"], formats={"A2": number_format})
    assert sheet.rows[0].cells[0] == text
    assert not sheet.rows[0].troubles


@pytest.mark.parametrize("value", [914201000000000000, 9.1420100000000099e17, 10**15, -(10**15)])
def test_a_number_of_more_digits_than_excel_keeps_is_marked_as_lost(value: float) -> None:
    assert read(["税号", "企业名称"], [value, "x"]).rows[0].troubles == {0: Trouble.LOST_DIGITS}


def test_a_formula_without_a_saved_result_is_marked_and_never_evaluated() -> None:
    sheet = read(["税号", "企业名称"], ["=1+1", '=HYPERLINK("http://x","y")'])
    assert sheet.rows[0].troubles == {0: Trouble.FORMULA, 1: Trouble.FORMULA}
    assert not any(sheet.rows[0].cells)


def test_a_formula_with_a_saved_result_gives_the_result() -> None:
    cells = (
        '<row r="1"><c r="A1" t="str"><v>税号</v></c><c r="B1" t="str"><v>企业名称</v></c></row>'
        '<row r="2"><c r="A2" t="str"><f>B2</f><v>甲</v></c>'
        '<c r="B2" t="str"><f>""</f><v></v></c><c r="C2"><f>1+1</f></c></row>'
    )
    xml = worksheet_xml(f"<sheetData>{cells}</sheetData>")
    row = read_sheet(rezipped(workbook(["x"]), {"xl/worksheets/sheet1.xml": xml}), "a.xlsx").rows[0]
    assert row.text(0) == "甲"
    assert row.troubles == {2: Trouble.FORMULA}


def test_an_error_value_is_marked() -> None:
    assert read(["税号", "企业名称"], ["#N/A", "x"]).rows[0].troubles == {0: Trouble.ERROR_VALUE}


def test_a_draft_gives_back_the_same_sheet() -> None:
    sheet = read(["税号", "口令"], [10**17, SECRET], ["=1", "2"])
    assert Sheet.unpack(sheet.pack()) == sheet


def test_no_representation_shows_a_cell() -> None:
    sheet = read(["税号", "口令"], [TAX_ID, SECRET])
    assert SECRET not in repr(sheet) + repr(sheet.rows[0])


# — CSV


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_csv_is_read_in_every_encoding_excel_writes(encoding: str, delimiter: str) -> None:
    text = f"企业名称{delimiter}税号\r\n甲公司{delimiter}{TAX_ID}\r\n"
    sheet = read_sheet(text.encode(encoding), "客户.CSV")
    assert sheet.headings == ("企业名称", "税号")
    assert sheet.rows[0].cells == ("甲公司", TAX_ID)


def test_in_a_csv_a_number_in_excels_notation_is_marked_and_forced_text_unpacked() -> None:
    row = read_sheet('企业名称,税号,口令\n9.1420E+17,"=""007""",x\n'.encode(), "a.csv").rows[0]
    assert row.troubles == {0: Trouble.LOST_DIGITS}
    assert row.text(1) == "007"


# — What is refused


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"", "a.xlsx", "文件是空的"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "a.xls", "旧版 .xls"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "a.xlsx",
            "打开密码",
        ),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "a.xlsx", "图片"),
        (b"\xff\xd8\xff\xe0" + bytes(99), "a.csv", "图片"),
        (b"%PDF-1.7", "a.xlsx", "PDF"),
        ("企业名称,税号".encode(), "a.xlsx", "不是 Excel 文件"),
        (b"<html><table></table></html>", "a.xls", "网页格式"),
        (bytes(range(256)), "a.csv", "不是 Excel 文件"),
        (b"PK\x03\x04 broken", "a.xlsx", "已损坏"),
        ("企业名称,税号\n".encode(), "a.csv", "下面没有数据"),
        (b"\n\n", "a.csv", "空的"),
        (b"hello\nworld\n", "a.csv", "没有找到表头"),
    ],
)
def test_what_is_no_table_is_refused_with_a_word_on_what_it_is(
    data: bytes, name: str, words: str
) -> None:
    assert words in refusal(data, name)


@pytest.mark.parametrize(
    ("member", "words"),
    [
        ("notes.txt", "压缩包"),
        ("word/document.xml", "Word"),
        ("content.xml", "OpenDocument"),
        ("xl/workbook.bin", "xlsb"),
    ],
)
def test_another_kind_of_zip_is_called_by_its_name(member: str, words: str) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(member, "<x/>")
    assert words in refusal(target.getvalue())


def test_an_empty_workbook_and_headings_alone_are_refused() -> None:
    assert "空的" in refusal(workbook())
    assert "下面没有数据" in refusal(workbook(NAMES))


def test_a_file_over_the_limit_is_refused_before_it_is_opened() -> None:
    assert "10 MB" in refusal(workbook(NAMES) + bytes(sheets.MAX_BYTES))


def test_too_many_rows_and_too_many_columns_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_ROWS", 30)
    rows = [["甲", "甲公司", TAX_ID]] * 30
    assert len(read(NAMES, *rows).rows) == 30
    assert "超过 30 行" in refusal(workbook(NAMES, *rows, rows[0]))
    assert len(read(NAMES, ["x"] * 100).headings) == 100
    assert "超过 100 列" in refusal(workbook(NAMES, ["x"] * 101))


def test_a_stray_cell_far_below_is_read_without_the_rows_between() -> None:
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.append(["企业名称", "税号"])
    sheet.cell(1_048_576, 1, "x")
    assert [row.number for row in read_sheet(saved(book), "a.xlsx").rows] == [1_048_576]


# — Bombs


def test_a_zip_that_unpacks_to_too_much_is_refused_unread() -> None:
    bomb = rezipped(workbook(NAMES), {"xl/big.xml": bytes(sheet_guard.MAX_UNPACKED)})
    assert len(bomb) < 1_000_000
    assert "内容过多" in refusal(bomb)


@pytest.mark.parametrize(
    "body",
    [
        "<sheetData><row>" + "<c/>" * (sheet_guard.MAX_CELLS_PER_ROW + 1) + "</row></sheetData>",
        "<sheetData>" + "<row/>" * (sheet_guard.MAX_CELL_ELEMENTS + 1) + "</sheetData>",
        "<mergeCells>" + "<mergeCell/>" * (sheet_guard.MAX_OTHER_ELEMENTS + 1) + "</mergeCells>",
    ],
    ids=["cells of one row", "rows", "merged cells"],
)
def test_more_elements_than_any_honest_sheet_are_refused(body: str) -> None:
    bomb = rezipped(workbook(NAMES), {"xl/worksheets/sheet1.xml": worksheet_xml(body)})
    assert "内容过多" in refusal(bomb)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_in_any_encoding(encoding: str) -> None:
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [<!ENTITY a "aaaa">'
        '<!ENTITY b "&a;&a;&a;">]><sst><si><t>&b;</t></si></sst>'
    )
    bomb = rezipped(workbook(NAMES), {"xl/sharedStrings.xml": text.encode(encoding)})
    assert "已损坏" in refusal(bomb)


@pytest.mark.parametrize(
    "declaration",
    [
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE x [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x.dtd"> %p;]>',
        "<!DOCTYPE x>",
    ],
)
@pytest.mark.parametrize("member", ["xl/workbook.xml", "[Content_Types].xml", "xl/_rels/x.rels"])
def test_a_declaration_of_a_document_type_is_refused_in_every_member(
    member: str, declaration: str
) -> None:
    data = rezipped(workbook(NAMES), {member: f"{declaration}<x>&a;</x>".encode()})
    assert "已损坏" in refusal(data)


def test_a_member_that_is_too_deep_is_refused() -> None:
    deep = b"<x>" * (sheet_guard.MAX_DEPTH + 1) + b"</x>" * (sheet_guard.MAX_DEPTH + 1)
    assert "已损坏" in refusal(rezipped(workbook(NAMES), {"xl/deep.xml": deep}))


def test_a_directory_that_says_less_than_it_holds_is_not_believed() -> None:
    data = bytearray(rezipped(_honest(), {"xl/big.xml": b"<x>" + b" " * 3_000_000 + b"</x>"}))
    at = data.rindex(b"PK\x01\x02")  # the last entry of the directory is the one just added
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")
    assert "已损坏" in refusal(bytes(data))


def test_more_members_than_any_honest_workbook_are_refused() -> None:
    more = {f"xl/x{number}.xml": b"<x/>" for number in range(sheet_guard.MAX_MEMBERS)}
    assert "内容过多" in refusal(rezipped(workbook(NAMES), more))


# — What may lie in a workbook


def _honest() -> bytes:
    return workbook(NAMES, ["甲", "甲公司", TAX_ID])


def content_types(kind: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(_honest())) as archive:
        text = archive.read("[Content_Types].xml").decode()
    plain = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    assert plain in text
    return text.replace(plain, kind).encode()


@pytest.mark.parametrize(
    "parts",
    [
        {"xl/vbaProject.bin": b"\xd0\xcf\x11\xe0"},
        {"xl/VBAPROJECT.BIN": b"x"},
        {"macros/vbaData.xml": b"<x/>"},
        {
            "[Content_Types].xml": content_types(
                "application/vnd.ms-excel.sheet.macroEnabled.main+xml"
            )
        },
        {
            "[Content_Types].xml": content_types(
                "application/vnd.ms-excel.template.macroEnabled.main+xml"
            )
        },
    ],
)
@pytest.mark.parametrize("name", ["客户.xlsm", "客户.xlsx"])
def test_a_workbook_with_macros_is_refused_whatever_it_is_called(
    parts: dict[str, bytes], name: str
) -> None:
    assert "含有宏" in refusal(rezipped(_honest(), parts), name)


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "xl/../../x.xml", "/etc/cron.d/x", "C:/x.xml", "xl\\..\\x.xml"],
)
def test_a_member_that_names_another_place_is_refused(name: str) -> None:
    assert "已损坏" in refusal(rezipped(_honest(), {name: b"<x/>"}))


@pytest.mark.parametrize("name", ["xl/workbook.xml", "XL/Workbook.xml"])
def test_two_members_of_one_name_are_refused(name: str) -> None:
    target = io.BytesIO(_honest())
    with warnings.catch_warnings(), zipfile.ZipFile(target, "a") as archive:
        warnings.simplefilter("ignore")  # zipfile knows that it is wrong
        archive.writestr(name, "<x/>")
    assert "已损坏" in refusal(target.getvalue())


@pytest.mark.parametrize("inner", ["xlsx", "ole", "gzip"])
def test_a_file_within_the_file_is_refused_unopened(inner: str) -> None:
    bomb = rezipped(_honest(), {"xl/big.xml": bytes(sheet_guard.MAX_UNPACKED)})
    content = {
        "xlsx": bomb,
        "ole": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "gzip": gzip.compress(b"x"),
    }
    data = rezipped(_honest(), {f"xl/embeddings/oleObject1.{inner}": content[inner]})
    assert "夹带着别的文件" in refusal(data)


def test_a_picture_in_a_workbook_does_no_harm() -> None:
    data = rezipped(_honest(), {"xl/media/image1.png": b"\x89PNG\r\n\x1a\n" + bytes(99)})
    assert len(read_sheet(data, "a.xlsx").rows) == 1


def test_a_link_to_another_place_is_never_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the reader opened a connection")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    rels = (
        b'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        b'<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        b'relationships/externalLinkPath" Target="http://192.0.2.1/x.xlsx" TargetMode="External"/>'
        b"</Relationships>"
    )
    data = rezipped(
        workbook(NAMES, ['=HYPERLINK("http://192.0.2.1/","x")', "甲公司", TAX_ID]),
        {
            "xl/externalLinks/externalLink1.xml": b"<externalLink/>",
            "xl/externalLinks/_rels/externalLink1.xml.rels": rels,
            "xl/worksheets/_rels/sheet1.xml.rels": rels,
        },
    )
    assert read_sheet(data, "a.xlsx").rows[0].troubles == {0: Trouble.FORMULA}


def test_one_long_text_shown_by_every_cell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_TEXT", 50_000)
    assert "内容过多" in refusal(workbook(NAMES, *[["长" * 300] * 2] * 100))


def test_no_cell_is_kept_longer_than_a_field_could_be() -> None:
    assert len(read(NAMES, ["长" * 30_000, "x"]).rows[0].cells[0]) == sheets.MAX_CELL


# — Whatever the bytes are


@settings(max_examples=150)
@given(st.binary(max_size=400), st.sampled_from(["a.xlsx", "a.csv", "a", "a.xls", ""]))
@example(b"\xff\xfe\x00\xd8", "a.csv")
@example(b'"' + b"x" * 200_000, "a.csv")
def test_no_bytes_make_the_reader_raise_anything_else(data: bytes, name: str) -> None:
    with contextlib.suppress(SheetError):
        read_sheet(data, name)


_HONEST = workbook(NAMES, ["甲", "甲公司", TAX_ID, 1.5, "=1+1"])


@settings(max_examples=150)
@given(st.data())
def test_no_damage_to_a_workbook_makes_the_reader_raise_anything_else(data: st.DataObject) -> None:
    broken = bytearray(_HONEST)
    for _ in range(data.draw(st.integers(1, 8))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SheetError):
        read_sheet(bytes(broken), "a.xlsx")


_PIECES = """
<row>|</row>|<row r="2">|<row r="99999999">|<c>|</c>|<c r="B2" t="s">|<c r="!!">|<c t="d">
<c t="b">|<c s="77">|<v>|</v>|0|-7|1e999|<f>|</f>|<c t="inlineStr"><is>|</is>|<t>x</t>|<x/>
</sheetData>
"""
_TAGS = st.sampled_from([*_PIECES.replace("\n", "|").strip("|").split("|"), "9" * 5000])


@settings(max_examples=150)
@given(st.lists(_TAGS, max_size=12))
def test_no_worksheet_makes_the_reader_raise_anything_else(tags: list[str]) -> None:
    xml = worksheet_xml("<sheetData>" + "".join(tags) + "</sheetData>")
    with contextlib.suppress(SheetError):
        read_sheet(rezipped(_HONEST, {"xl/worksheets/sheet1.xml": xml}), "a.xlsx")


def test_what_a_file_says_of_its_own_size_is_not_believed() -> None:
    with zipfile.ZipFile(io.BytesIO(workbook(NAMES, ["甲", "乙", TAX_ID]))) as archive:
        xml = archive.read("xl/worksheets/sheet1.xml").decode()
    lie = xml.replace('<dimension ref="A1:O2"/>', '<dimension ref="A1:A1"/>')
    assert lie != xml
    data = rezipped(workbook(NAMES), {"xl/worksheets/sheet1.xml": lie.encode()})
    assert read_sheet(data, "a.xlsx").rows[0].cells == ("甲", "乙", TAX_ID)
