"""The bureau's business XML: WLCB, QLJS, QLJSJGQR and SBZTCX, built and read.

Owns the form of the four messages, for both ends: the session builds requests and reads replies,
the stand-in does the reverse. Documents are GBK, at most 1 MB, ``<business id= comment=><body
yylxdm="1">`` with ``<input>`` or ``<output>``; one ``<group>`` carries one unit, its ``fplxdm``
being the 3-digit invoice types run together.

The envelope itself, with everything that keeps a document from doing harm, is shared with the disks
(``devices/protocol/envelope.py``). Whatever arrives is either a message or
``Failure(bureau_garbled)``; no other exception leaves a parser here.

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

from clearing.bureau.port import BureauStatus, DiskAddress, Filing
from clearing.bureau.refusals import is_success, refusal
from devices.drivers.contract import ClearData, ClearRequest, ReportPackage, Unit
from devices.protocol import envelope
from devices.protocol.envelope import SIZE_LIMIT as SIZE_LIMIT
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from devices.protocol.texts import N_

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
        operation = request.operation
        return envelope.build(operation.id, operation.comment, "input", content, groups)
    except ValueError as error:
        raise Failure(Code.DEVICE_GARBLED, detail=str(error)) from error


def parse_request(data: bytes) -> Request:
    """Read a request, as the bureau's side does. Raises Failure(bureau_garbled)."""
    document = envelope.read(data, garbled=Code.BUREAU_GARBLED)
    operation = next((op for op in Operation if op.id == document.id), None)
    if operation is None:
        _garbled(N_("未知的业务编号"))
    content, groups = document.content("input")
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
    operation = reply.operation
    return envelope.build(operation.id, operation.comment, "output", content, reply.groups)


def parse_reply(data: bytes, operation: Operation) -> Reply:
    """Read the answer to ``operation``; a refusal is a Reply too, see :func:`settled`.

    Raises Failure(bureau_garbled): too long, not GBK, not well-formed, another id, no code.
    """
    document = envelope.read(data, garbled=Code.BUREAU_GARBLED)
    if document.id != operation.id:
        _garbled(N_("答复的业务编号与请求不符"))
    content, groups = document.content("output")
    for answered in (content, *groups):
        if "returncode" in answered and not envelope.is_return_code(answered["returncode"]):
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


# Parts


def _types(text: str) -> tuple[str, ...]:
    types = envelope.split_types(text)
    if types is None:
        _garbled(N_("发票类型代码不正确"))
    return types


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
