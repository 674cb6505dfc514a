"""The envelope of every business document, of disks and of bureaus: built and read.

Owns the form ``<business id= comment=><body yylxdm="1">`` with one ``<input>`` or ``<output>``:
GBK, at most 1 MB, texts by name, groups of texts. What the names mean is known to who uses it
(``business_xml`` for disks, ``clearing/bureau/messages.py`` for bureaus).

It never lets a document do anything (no DTD, no entities, no network), and whatever arrives is an
envelope or a Failure with the code its reader asked for; no other exception leaves :func:`read`.

Source: protocol-component.md § Envelope. ◇ A declaration that names GBK is demanded; groups stand
directly in ``<output>``, or one level down where the reader names that element.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NoReturn

from lxml import etree

from devices.protocol.failures import Code, Failure
from devices.protocol.texts import N_

SIZE_LIMIT = 1_000_000
"""Bytes of the longest document, request or reply."""

_DECLARATION = re.compile(
    r"""\ufeff?<\?xml\s+version=["']1\.0["']\s+encoding=["']gbk["'][^>]*\?>""", re.I
)
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}", re.ASCII)
_RETURN_CODE = re.compile(r"[0-9A-Za-z_.-]{1,32}", re.ASCII)
_SUCCESS = re.compile(r"0+", re.ASCII)
_TYPES = re.compile(r"([0-9]{3}){1,30}", re.ASCII)

GROUP = "group"


def is_success(return_code: str) -> bool:
    """Zeros only (``0``, ``00``, ``0000``, ``00000000`` all occur)."""
    return _SUCCESS.fullmatch(return_code) is not None


def is_return_code(text: str) -> bool:
    """Whether ``text`` has the form of a return code."""
    return _RETURN_CODE.fullmatch(text) is not None


def split_types(text: str) -> tuple[str, ...] | None:
    """``fplxdm``: the 3-digit invoice types run together; None for anything else."""
    if not _TYPES.fullmatch(text):
        return None
    return tuple(text[at : at + 3] for at in range(0, len(text), 3))


def build(
    id: str,
    comment: str,
    direction: str,
    texts: Mapping[str, str],
    groups: Sequence[Mapping[str, str]] = (),
    *,
    container: str = "",
) -> bytes:
    """The document; ``direction``: ``input`` or ``output``, ``container``: the element around the
    groups, if any. Raises ValueError, which names at most a field, never its text."""
    business = etree.Element("business", {"id": id, "comment": comment})
    body = etree.SubElement(business, "body", {"yylxdm": "1"})
    inner = etree.SubElement(body, direction)
    around = etree.SubElement(inner, container) if container else inner
    for group in groups:
        _fill(etree.SubElement(around, GROUP), group)
    _fill(inner, texts)
    text = etree.tostring(business, encoding="unicode")
    # Characters GBK lacks (rare name characters) go out as &#…;, which every parser reads.
    document = '<?xml version="1.0" encoding="gbk"?>\n' + text
    data = document.encode("gbk", "xmlcharrefreplace")
    if len(data) > SIZE_LIMIT:
        raise ValueError(N_("报文超过 1 MB"))
    return data


class Document:
    """A document that was read. Its questions raise Failure with the reader's code."""

    def __init__(self, business: etree._Element, garbled: Code) -> None:
        self._business = business
        self._garbled = garbled
        self.id = business.get("id") or ""

    def content(
        self, direction: str, *, container: str = ""
    ) -> tuple[dict[str, str], list[dict[str, str]]]:
        """The texts of ``input`` or ``output``, and those of each group in it."""
        inner = self._business.findall(f"body/{direction}")
        if len(inner) != 1:
            self.refuse(N_("报文缺少 {part} 部分").format(part=direction))
        path = f"{container}/{GROUP}" if container else GROUP
        return self._texts(inner[0]), [self._texts(group) for group in inner[0].findall(path)]

    def refuse(self, detail: str) -> NoReturn:
        """Out of an except block too: the parser's own error says nothing a person could use."""
        raise Failure(self._garbled, detail=detail) from None

    def _texts(self, element: etree._Element) -> dict[str, str]:
        """Name to text of the children that have no children themselves."""
        texts: dict[str, str] = {}
        for child in element:
            if len(child) or child.tag == GROUP:
                continue
            name = str(child.tag)
            if name in texts:
                self.refuse(N_("报文里字段重复: {name}").format(name=name[:40]))
            texts[name] = (child.text or "").strip()
        return texts


def parser() -> etree.XMLParser:
    """A second wall behind the checks of :func:`read`: it expands nothing and fetches nothing."""
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def read(data: bytes, *, garbled: Code) -> Document:
    """Read a document by a parser that trusts nothing in it. Raises Failure(``garbled``): too long,
    not GBK or not declared so, with a DTD, not well-formed, not a business document."""

    def refuse(detail: str) -> NoReturn:
        raise Failure(garbled, detail=detail) from None

    if len(data) > SIZE_LIMIT:
        refuse(N_("报文超过 1 MB"))
    try:
        text = data.decode("gbk")
    except UnicodeDecodeError:
        refuse(N_("报文不是 GBK 编码"))
    declaration = _DECLARATION.match(text)
    if declaration is None:
        refuse(N_("报文没有声明 GBK 编码"))
    if "<!DOCTYPE" in text:
        refuse(N_("报文带有 DTD"))
    try:
        root = etree.fromstring(text[declaration.end() :].strip().encode(), parser())
    except (etree.LxmlError, ValueError):
        refuse(N_("报文不是完整的 XML"))
    if root.tag != "business":
        refuse(N_("报文不是业务报文"))
    return Document(root, garbled)


def _fill(element: etree._Element, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        if not _FIELD_NAME.fullmatch(name) or name == GROUP:
            raise ValueError(N_("字段名不能写入报文: {name!r}").format(name=name))
        etree.SubElement(element, name).text = text
