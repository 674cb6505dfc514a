"""The bureau's business XML: WLCB, QLJS, QLJSJGQR and SBZTCX, built and read.

Owns the form of the four messages, for both ends: the session builds requests and reads replies,
the stand-in does the reverse. Documents are GBK, at most 1 MB, ``<business id= comment=><body
yylxdm="1">`` with ``<input>`` or ``<output>``; one ``<group>`` carries one unit, its ``fplxdm``
being the 3-digit invoice types run together.

It never lets a document do anything (no DTD, no entities, no network), and whatever arrives is
either a message or ``Failure(bureau_garbled)``; no other exception leaves a parser here.

Source: the vendor component interface (protocol-component.md). ``SBZTCX``, the ``sq`` of QLJS and
QLJSJGQR (``YYYYMM``) and the serial ``lsh`` are ours.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from lxml import etree

from clearing.bureau.port import BureauStatus, DiskAddress, Filing
from clearing.bureau.refusals import is_success, refusal
from devices.drivers.contract import ClearData, ClearRequest, ReportPackage, Unit
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from devices.protocol.texts import N_

SIZE_LIMIT = 1_000_000
"""Bytes of the longest document, request or reply."""

_DECLARATION = re.compile(
    r"""\ufeff?<\?xml\s+version=["']1\.0["']\s+encoding=["']gbk["'][^>]*\?>""", re.I
)
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}", re.ASCII)
_RETURN_CODE = re.compile(r"[0-9A-Za-z_.-]{1,32}", re.ASCII)
_TYPES = re.compile(r"([0-9]{3}){1,30}", re.ASCII)
_DIGITS = re.compile(r"[0-9]+", re.ASCII)
_FILINGS = {filing.value: filing for filing in Filing}


class Operation(enum.Enum):
    """What is asked of the bureau. ``acts``: asking twice is not the same as not asking."""

    REPORT = ("WLCB", "网络抄报", True)
    CLEAR_DATA = ("QLJS", "清零解锁", False)
    CONFIRM = ("QLJSJGQR", "清零解锁结果确认", True)
    STATUS = ("SBZTCX", "申报状态查询", False)

    def __init__(self, id: str, comment: str, acts: bool) -> None:
        self.id = id
        self.comment = comment
        self.acts = acts


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``unit`` is None for SBZTCX. ``fields``: the group's own texts by name (for
    SBZTCX: none), without ``fplxdm``; ``sq`` is among them and says the same as ``period``."""

    operation: Operation
    disk: DiskAddress
    period: Month
    unit: Unit | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: return code and text of the whole, its fields, and one mapping per group
    (``fplxdm``, and ``returncode`` / ``returnmsg`` where the group has its own)."""

    operation: Operation
    code: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[Mapping[str, str]] = ()


# Requests


def report_request(disk: DiskAddress, package: ReportPackage) -> Request:
    """WLCB. The package's own ``sq`` goes out as the disk gave it; without one, ``YYYYMM``."""
    fields = {"sq": _compact(package.period), **package.fields}
    return Request(Operation.REPORT, disk, package.period, package.unit, fields)


def clear_data_request(disk: DiskAddress, request: ClearRequest, period: Month) -> Request:
    """QLJS: ``qtxx`` (copy time) and whatever else the disk wants to be shown."""
    fields = {**request.fields, "sq": _compact(period)}
    return Request(Operation.CLEAR_DATA, disk, period, request.unit, fields)


def confirm_request(disk: DiskAddress, unit: Unit, period: Month) -> Request:
    """QLJSJGQR."""
    return Request(Operation.CONFIRM, disk, period, unit, {"sq": _compact(period)})


def status_request(disk: DiskAddress, period: Month) -> Request:
    """SBZTCX."""
    return Request(Operation.STATUS, disk, period)


def build_request(request: Request) -> bytes:
    """The document. Raises Failure(device_garbled) when a text of the disk cannot be written:
    what the disk handed out is then not what the interface promises."""
    content: dict[str, str] = {
        "skph": request.disk.device_no,
        "nsrsbh": request.disk.tax_id,
        "kpjh": str(request.disk.terminal_no),
    }
    groups = []
    if request.unit is None:
        content["sq"] = _compact(request.period)
    else:
        own = {name: text for name, text in request.fields.items() if name != "fplxdm"}
        groups.append({"fplxdm": "".join(request.unit.types), **own})
    try:
        return _build(request.operation, "input", content, groups)
    except ValueError as error:
        raise Failure(Code.DEVICE_GARBLED, detail=str(error)) from error


def parse_request(data: bytes) -> Request:
    """Read a request, as the bureau's side does. Raises Failure(bureau_garbled)."""
    business = _root(data)
    operation = next((op for op in Operation if op.id == business.get("id")), None)
    if operation is None:
        _garbled(N_("未知的业务编号"))
    content, groups = _content(business, "input")
    terminal = content.get("kpjh", "")
    if not _DIGITS.fullmatch(terminal) or len(terminal) > 6:
        _garbled(N_("开票机号不正确"))
    disk = DiskAddress(content.get("skph", ""), content.get("nsrsbh", ""), int(terminal))
    if operation is Operation.STATUS:
        return Request(operation, disk, _period(content.get("sq", "")))
    if len(groups) != 1:
        _garbled(N_("应有且只有一组数据"))
    fields = dict(groups[0])
    unit = Unit(_types(fields.pop("fplxdm", "")))
    return Request(operation, disk, _period(fields.get("sq", "")), unit, fields)


# Replies


def build_reply(reply: Reply) -> bytes:
    """The document. Raises ValueError when a text cannot stand in XML."""
    content = {**reply.fields, "returncode": reply.code, "returnmsg": reply.text}
    return _build(reply.operation, "output", content, reply.groups)


def parse_reply(data: bytes, operation: Operation) -> Reply:
    """Read the answer to ``operation``; a refusal is a Reply too, see :func:`settled`.

    Raises Failure(bureau_garbled): too long, not GBK, not well-formed, another id, no code.
    """
    business = _root(data)
    if business.get("id") != operation.id:
        _garbled(N_("答复的业务编号与请求不符"))
    content, groups = _content(business, "output")
    for answered in (content, *groups):
        if "returncode" in answered and not _RETURN_CODE.fullmatch(answered["returncode"]):
            _garbled(N_("返回代码不正确"))
    if "returncode" not in content:
        _garbled(N_("答复没有返回代码"))
    code, text = content.pop("returncode"), content.pop("returnmsg", "")
    return Reply(operation, code, text, content, tuple(groups))


def settled(reply: Reply, unit: Unit) -> Mapping[str, str]:
    """The group of ``unit`` in an answer that is a success, without its return code.

    Raises the refusal of the group, or else of the whole; Failure(bureau_garbled) when a success
    does not hold exactly one group of the unit.
    """
    wanted = "".join(unit.types)
    mine = [group for group in reply.groups if group.get("fplxdm") == wanted]
    for code, text in [
        *((g["returncode"], g.get("returnmsg", "")) for g in mine if "returncode" in g),
        (reply.code, reply.text),
    ]:
        if not is_success(code):
            raise refusal(code, text)
    if len(mine) != 1:
        _garbled(N_("答复里没有所请求的发票类型"))
    own = ("fplxdm", "returncode", "returnmsg")
    return {name: text for name, text in mine[0].items() if name not in own}


def clear_data_of(reply: Reply, unit: Unit) -> ClearData:
    """The control ciphertext of a QLJS answer. Raises as :func:`settled` does, and
    Failure(bureau_garbled) when there is none in it."""
    fields = settled(reply, unit)
    if not fields.get("fpjkmw"):
        _garbled(N_("答复里没有清卡数据"))
    return ClearData(unit, fields)


def status_of(reply: Reply) -> BureauStatus:
    """The answer to SBZTCX. A filing word we do not know is ``unknown``, with the raw text kept.

    Raises the refusal, and Failure(bureau_garbled) where reported or cleared is not 0 or 1.
    """
    if not is_success(reply.code):
        raise refusal(reply.code, reply.text)
    filing = _FILINGS.get(reply.fields.get("filed", ""), Filing.UNKNOWN)
    if filing is Filing.FILED and reply.fields.get("compared") == "failed":
        filing = Filing.COMPARISON_FAILED
    return BureauStatus(
        reported=_flag(reply.fields, "reported"),
        filing=filing,
        cleared=_flag(reply.fields, "cleared"),
        raw=dict(reply.fields),
    )


# Documents


def _build(
    operation: Operation,
    direction: str,
    content: Mapping[str, str],
    groups: Sequence[Mapping[str, str]],
) -> bytes:
    business = etree.Element("business", {"id": operation.id, "comment": operation.comment})
    body = etree.SubElement(business, "body", {"yylxdm": "1"})
    inner = etree.SubElement(body, direction)
    for group in groups:
        _fill(etree.SubElement(inner, "group"), group)
    _fill(inner, content)
    text = etree.tostring(business, encoding="unicode")
    # Characters GBK lacks (rare name characters) go out as &#…;, which every parser reads.
    document = '<?xml version="1.0" encoding="gbk"?>\n' + text
    data = document.encode("gbk", "xmlcharrefreplace")
    if len(data) > SIZE_LIMIT:
        raise ValueError(N_("报文超过 1 MB"))
    return data


def _fill(element: etree._Element, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        if not _FIELD_NAME.fullmatch(name) or name == "group":
            raise ValueError(N_("字段名不能写入报文: {name!r}").format(name=name))
        etree.SubElement(element, name).text = text


def _root(data: bytes) -> etree._Element:
    """The ``business`` element of a document, read by a parser that trusts nothing in it."""
    if len(data) > SIZE_LIMIT:
        _garbled(N_("报文超过 1 MB"))
    try:
        text = data.decode("gbk")
    except UnicodeDecodeError:
        _garbled(N_("报文不是 GBK 编码"))
    declaration = _DECLARATION.match(text)
    if declaration is None:
        _garbled(N_("报文没有声明 GBK 编码"))
    if "<!DOCTYPE" in text:
        _garbled(N_("报文带有 DTD"))
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(text[declaration.end() :].strip().encode(), parser)
    except (etree.LxmlError, ValueError):
        _garbled(N_("报文不是完整的 XML"))
    if root.tag != "business":
        _garbled(N_("报文不是业务报文"))
    return root


def _content(
    business: etree._Element, direction: str
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The texts of ``input`` or ``output``, and those of each group in it."""
    inner = business.findall(f"body/{direction}")
    if len(inner) != 1:
        _garbled(N_("报文缺少 {part} 部分").format(part=direction))
    groups = [_texts(group) for group in inner[0].findall("group")]
    return _texts(inner[0]), groups


def _texts(element: etree._Element) -> dict[str, str]:
    """Name to text of the children that have no children themselves."""
    texts: dict[str, str] = {}
    for child in element:
        if len(child) or child.tag == "group":
            continue
        name = str(child.tag)
        if name in texts:
            _garbled(N_("报文里字段重复: {name}").format(name=name[:40]))
        texts[name] = (child.text or "").strip()
    return texts


def _types(text: str) -> tuple[str, ...]:
    if not _TYPES.fullmatch(text):
        _garbled(N_("发票类型代码不正确"))
    return tuple(text[at : at + 3] for at in range(0, len(text), 3))


def _period(text: str) -> Month:
    """The month of an ``sq``: ``YYYYMM``, or start and end of 8 or 14 digits each.

    The month of the end counts, because an uncleared period is reported again from its old start;
    an end on the first of a month is a kind that counts to the day after.
    """
    try:
        if not _DIGITS.fullmatch(text):
            raise ValueError(text)
        if len(text) == 6:
            return Month(int(text[:4]), int(text[4:]))
        if len(text) not in (16, 28):
            raise ValueError(text)
        half = text[len(text) // 2 :]
        end = dt.date(int(half[:4]), int(half[4:6]), int(half[6:8]))
        return Month.of(end - dt.timedelta(days=1) if end.day == 1 else end)
    except (ValueError, OverflowError):
        _garbled(N_("所属期不正确"))


def _compact(month: Month) -> str:
    return f"{month.year:04d}{month.month:02d}"


def _flag(fields: Mapping[str, str], name: str) -> bool:
    value = fields.get(name)
    if value not in ("0", "1"):
        _garbled(N_("状态字段不正确: {name}").format(name=name))
    return value == "1"


def _garbled(detail: str) -> NoReturn:
    """Out of an except block too: the parser's own error says nothing a person could use."""
    raise Failure(Code.BUREAU_GARBLED, detail=detail) from None
