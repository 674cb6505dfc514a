"""The device side of the business XML: what a component is asked, and how its answer is read.

Owns the operations of protocol-component.md with their names and request fields, for both ends: the
driver builds requests and reads answers, the stand-in component does the reverse. What the fields
of an answer mean is in ``business_answers``.

Must never: show a password. A request keeps its texts out of its representation, and no exception
from here carries one. Whatever arrives is an answer or Failure(device_garbled).

Sources: protocol-component.md; public middleware for tax-control registers
(isliulin/CJ_FWSK_MIDDLEWARE) for the order SKSBQTYXXCX → SJCB → WLCB. ◇ marks our choices: a unit
of several types is asked for with its types run together in ``fplxdm``, as the bureau's groups are;
``jqbh`` carries the device number, so that a component with many disks knows which one is meant.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from devices.protocol import envelope
from devices.protocol.catalogue import from_device_code, tries_left_in
from devices.protocol.failures import Code, Failure
from devices.protocol.texts import N_

#: So many characters of a device's text are kept.
RAW_TEXT_LIMIT = 200

#: The field names that carry a secret; they never leave the driver.
SECRET_FIELDS = frozenset({"sksbkl", "keypwd", "bspkl", "zskl"})

_GARBLED = Code.DEVICE_GARBLED


class Operation(enum.Enum):
    """What a component is asked. ``changes``: it may alter the disk."""

    DEVICE_NO = ("SKSBBH", "税控设备编号查询", False)
    INFO = ("SKPXXCX", "税控设备信息查询", False)
    CONTROL = ("JKSJCX", "监控数据查询", False)
    PENDING = ("HQLXSJ", "离线数据查询", False)
    OTHER = ("SKSBQTYXXCX", "税控设备其他信息查询", False)
    STATISTICS = ("TJXXCX", "统计信息查询", False)
    COPY = ("SJCB", "数据抄报", True)
    WRITE = ("JKHC", "监控回传", True)
    # The tax-control server has ids of its own, and none that changes a disk.
    SERVER_PARAMETERS = ("20001", "参数设置", False)
    SERVER_KEY = ("20002", "证书信息查询", False)
    SERVER_CONTROL = ("10002", "监控数据查询", False)

    def __init__(self, id: str, comment: str, changes: bool) -> None:
        self.id = id
        self.comment = comment
        self.changes = changes


#: ◇ TJXXCX answers its groups inside an element of this name.
STATISTICS_CONTAINER = "tjxx"


class About(enum.StrEnum):
    """``xxlx`` of SKSBQTYXXCX."""

    LOCK_DATE = "0"  # before a report
    COPY_TIME = "1"  # before a clear


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``fields`` may hold a password: they are kept out of the representation."""

    operation: Operation
    fields: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whatever it says: return code and text, its texts by name, its groups."""

    operation: Operation
    code: str
    text: str
    fields: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[Mapping[str, str]] = ()

    @property
    def ok(self) -> bool:
        return envelope.is_success(self.code)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose disk is meant, with the device password."""

    device_no: str
    tax_id: str
    password: str = field(repr=False)

    def fields(self) -> dict[str, str]:
        return {"nsrsbh": self.tax_id, "sksbbh": self.device_no, "sksbkl": self.password}


# Requests


def device_no_request(device_no: str) -> Request:
    """SKSBBH, the one question without a password. An empty number: whichever disk is there."""
    return Request(Operation.DEVICE_NO, {"jqbh": device_no})


def info_request(device_no: str, password: str) -> Request:
    """SKPXXCX."""
    return Request(Operation.INFO, {"jqbh": device_no, "sksbkl": password})


def control_request(caller: Caller, invoice_type: str) -> Request:
    """JKSJCX of one type."""
    return Request(Operation.CONTROL, {**caller.fields(), "fplxdm": invoice_type})


def pending_request(caller: Caller, invoice_type: str) -> Request:
    """HQLXSJ of one type."""
    return Request(Operation.PENDING, {**caller.fields(), "fplxdm": invoice_type})


def other_request(device_no: str, password: str, about: About) -> Request:
    """SKSBQTYXXCX."""
    return Request(Operation.OTHER, {"jqbh": device_no, "sksbkl": password, "xxlx": about.value})


def statistics_request(caller: Caller, invoice_type: str, first: dt.date, last: dt.date) -> Request:
    """TJXXCX of one type, from the first to the last day."""
    span = {"qsrq": f"{first:%Y%m%d}", "zzrq": f"{last:%Y%m%d}"}
    return Request(Operation.STATISTICS, {**caller.fields(), "fplxdm": invoice_type, **span})


def copy_request(caller: Caller, types: Sequence[str]) -> Request:
    """SJCB: copy tax over the network (``jzlx`` 1). Changes the disk."""
    return Request(Operation.COPY, {**caller.fields(), "fplxdm": "".join(types), "jzlx": "1"})


def write_request(caller: Caller, types: Sequence[str], fpjkmw: str, szjkmw: str = "") -> Request:
    """JKHC: write the bureau's control data. Changes the disk."""
    data = {"fpjkmw": fpjkmw, "szjkmw": szjkmw}
    return Request(Operation.WRITE, {**caller.fields(), "fplxdm": "".join(types), **data})


def server_control_request(terminal_mark: str, invoice_type: str) -> Request:
    """10002 of a tax-control server: control data of one type of one terminal."""
    return Request(Operation.SERVER_CONTROL, {"kpzdbs": terminal_mark, "fplxdm": invoice_type})


def server_key_request(password: str) -> Request:
    """20002 of a tax-control server, with the certificate password."""
    return Request(Operation.SERVER_KEY, {"keypwd": password})


def server_parameters_request(address: str, port: int, password: str) -> Request:
    """20001 of a tax-control server: where it listens, and the certificate password."""
    fields = {"servletip": address, "servletport": str(port), "keypwd": password}
    return Request(Operation.SERVER_PARAMETERS, fields)


# Documents


def build_request(request: Request) -> bytes:
    """The document. Raises ValueError where a text cannot stand in XML; it names no text."""
    operation = request.operation
    return envelope.build(operation.id, operation.comment, "input", request.fields)


def parse_request(data: bytes) -> Request:
    """Read a request, as a component does. Raises Failure(device_garbled)."""
    document = envelope.read(data, garbled=_GARBLED)
    operation = next((op for op in Operation if op.id == document.id), None)
    if operation is None:
        document.refuse(N_("未知的业务编号"))
    fields, _ = document.content("input")
    return Request(operation, fields)


def build_answer(answer: Answer) -> bytes:
    """The document. Raises ValueError where a text cannot stand in XML."""
    operation = answer.operation
    return envelope.build(
        operation.id,
        operation.comment,
        "output",
        {**answer.fields, "returncode": answer.code, "returnmsg": answer.text},
        answer.groups,
        container=_container(operation),
    )


def parse_answer(data: bytes, operation: Operation) -> Answer:
    """Read the answer to ``operation``; a refusal is an Answer too.

    Raises Failure(device_garbled): too long, not GBK, not well-formed, another id, no code.
    """
    document = envelope.read(data, garbled=_GARBLED)
    if document.id != operation.id:
        document.refuse(N_("答复的业务编号与请求不符"))
    fields, groups = document.content("output", container=_container(operation))
    code, text = fields.pop("returncode", ""), fields.pop("returnmsg", "")
    if not envelope.is_return_code(code):
        document.refuse(N_("答复没有返回代码"))
    return Answer(operation, code, text, fields, tuple(groups))


def _container(operation: Operation) -> str:
    return STATISTICS_CONTAINER if operation is Operation.STATISTICS else ""


# Refusals

#: Signs that stand in the text where the code says nothing; vendor_codes knows what they mean.
_TEXT_SIGNS = ("未抄报", "时钟校准因子失效")

#: After one of these to a command that changes the disk, only a read can tell: the link broke, the
#: disk went away, or nobody knows what the code means.
_IN_DOUBT = frozenset({Code.NO_ANSWER, Code.DISK_ABSENT, Code.DEVICE_REFUSED, Code.DEVICE_DAMAGED})


def meaning_of(answer: Answer) -> Code:
    """Our code for a refusal: by its return code, or else by a known sign in its text."""
    code = from_device_code(answer.code)
    if code is Code.DEVICE_REFUSED:
        for sign in _TEXT_SIGNS:
            if sign in answer.text:
                return from_device_code(sign)
    return code


def refusal_of(answer: Answer, *, detail: str = "") -> Failure:
    """The failure that an answer without success stands for; for the caller to raise."""
    code = meaning_of(answer)
    return Failure(
        code,
        raw_code=answer.code,
        raw_text=answer.text[:RAW_TEXT_LIMIT],
        detail=detail or answer.operation.id,
        outcome_unknown=answer.operation.changes and code in _IN_DOUBT,
        tries_left=tries_left_in(answer.code),
    )
