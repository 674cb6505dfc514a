"""What a component's answers say: each operation's fields, checked and typed.

Owns the reading of fields: names, forms and amounts. Dates stay the vendor's own digits here: by
how many days a kind is off is known to ``devices/drivers/dates.py`` alone.

Must never: accept a field it cannot explain. Every class has ``of(answer)`` for a successful answer
and raises Failure(device_garbled) naming the field, never its content.

◇ Amounts are yuan with at most two decimals. ◇ ``qtxx`` of SKSBBH tells a training disk (``PX``)
and a deregistered one (``ZX``): no public source says how a disk tells, so both stand here alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from devices.protocol import envelope
from devices.protocol.business_xml import Answer
from devices.protocol.failures import Code, Failure

TRAINING_MARK = "PX"
RETIRED_MARK = "ZX"

#: 12 characters; so far digits only, but nothing public excludes letters. ◇
_DEVICE_NO = re.compile(r"[0-9A-Z]{12}", re.ASCII)
_COUNT = re.compile(r"[0-9]{1,9}", re.ASCII)
_YUAN = re.compile(r"(-?)([0-9]{1,13})(?:\.([0-9]{1,2})0*)?", re.ASCII)
_NO_DATE = re.compile(r"0*", re.ASCII)
_SPAN = re.compile(r"[0-9]{16}|[0-9]{28}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeviceNo:
    """SKSBBH."""

    device_no: str
    reporting_disk_no: str
    training: bool
    retired: bool

    @classmethod
    def of(cls, answer: Answer) -> DeviceNo:
        marks = answer.fields.get("qtxx", "").split(",")
        return cls(
            device_no=_matching(answer.fields, "sksbbh", _DEVICE_NO),
            reporting_disk_no=answer.fields.get("bspbh", ""),
            training=TRAINING_MARK in marks,
            retired=RETIRED_MARK in marks,
        )


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """SKPXXCX. ``types``: the authorised types that need a disk; ``clock``: raw ``dqsz``."""

    device_no: str
    tax_id: str
    name: str
    types: tuple[str, ...]
    clock: str
    terminal_no: int | None

    @classmethod
    def of(cls, answer: Answer) -> DeviceInfo:
        fields = answer.fields
        terminal = fields.get("kpjh", "")
        if terminal and not _COUNT.fullmatch(terminal):
            _garbled("kpjh")
        tax_id = fields.get("nsrsbh", "")
        if not (tax_id.isascii() and tax_id.isalnum() and 15 <= len(tax_id) <= 20):
            _garbled("nsrsbh")
        return cls(
            device_no=_matching(fields, "sksbbh", _DEVICE_NO),
            tax_id=tax_id,
            name=fields.get("nsrmc", ""),
            types=_disk_types(fields.get("fplxdm", "")),
            clock=fields.get("dqsz", ""),
            terminal_no=int(terminal) if terminal else None,
        )


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """JKSJCX, and 10002 of a server: dates raw, ``last_reported_on`` None where there is none;
    limits in fen, pieces and hours, as far as the disk tells them."""

    invoice_type: str
    issue_deadline: str
    period_start: str
    period_end: str
    last_reported_on: str | None
    limits: Mapping[str, int]

    @classmethod
    def of(cls, answer: Answer, invoice_type: str) -> ControlAnswer:
        """``invoice_type``: the one that was asked for; another one is garbled."""
        fields = answer.fields
        if fields.get("fplxdm") != invoice_type:
            _garbled("fplxdm")
        reported_on = fields.get("zxbsrq", "")
        limits = {
            ours: read(fields, theirs)
            for ours, (theirs, read) in _LIMITS.items()
            if fields.get(theirs)
        }
        return cls(
            invoice_type=invoice_type,
            issue_deadline=fields.get("kpjzsj", ""),
            period_start=fields.get("bsqsrq", ""),
            period_end=fields.get("bszzrq", ""),
            last_reported_on=None if _NO_DATE.fullmatch(reported_on) else reported_on,
            limits=limits,
        )


@dataclass(frozen=True, slots=True)
class Pending:
    """HQLXSJ: what waits to be uploaded."""

    count: int
    since: str
    fen: int

    @classmethod
    def of(cls, answer: Answer) -> Pending:
        fields = answer.fields
        return cls(
            count=_count(fields, "wscfpzs"),
            since=fields.get("wscfpsj", ""),
            fen=_fen(fields, "wscfpljje") if fields.get("wscfpljje") else 0,
        )


@dataclass(frozen=True, slots=True)
class OtherInfo:
    """SKSBQTYXXCX: opaque, for the bureau."""

    text: str

    @classmethod
    def of(cls, answer: Answer) -> OtherInfo:
        text = answer.fields.get("sksbxx", "")
        if not text:
            _garbled("sksbxx")
        return cls(text)


@dataclass(frozen=True, slots=True)
class Statistics:
    """TJXXCX: pieces, and amounts and taxes in fen, summed over the groups. Returned amounts (负数)
    are counted without their sign: vendors write them with and without. ◇"""

    valid_count: int
    return_count: int
    void_count: int
    valid_fen: int
    valid_tax_fen: int
    return_fen: int
    return_tax_fen: int

    @classmethod
    def of(cls, answer: Answer) -> Statistics:
        def counted(*names: str) -> int:
            return sum(_count(g, name) for g in answer.groups for name in names if g.get(name))

        def summed(name: str) -> int:
            return sum(_fen(group, name) for group in answer.groups if group.get(name))

        return cls(
            valid_count=counted("zsfpfs"),
            return_count=counted("fsfpfs"),
            void_count=counted("zffpfs", "fffpfs"),
            valid_fen=summed("zsfpljje"),
            valid_tax_fen=summed("zsfpljse"),
            return_fen=abs(summed("fsfpljje")),
            return_tax_fen=abs(summed("fsfpljse")),
        )


@dataclass(frozen=True, slots=True)
class Copied:
    """SJCB: the span that was closed, and its summaries, opaque to us."""

    span: str
    summary: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, answer: Answer) -> Copied:
        span = _matching(answer.fields, "sq", _SPAN)
        summary = answer.fields.get("fphz", "")
        if not summary:
            _garbled("fphz")
        return cls(span, summary, dict(answer.fields))

    @property
    def last(self) -> str:
        """The second half of the span: 8 or 14 digits, raw."""
        return self.span[len(self.span) // 2 :]


def _matching(fields: Mapping[str, str], name: str, form: re.Pattern[str]) -> str:
    text = fields.get(name, "")
    if not form.fullmatch(text):
        _garbled(name)
    return text


def _disk_types(text: str) -> tuple[str, ...]:
    """Ascending, each once; 08x are 数电 and need no disk."""
    if not text:
        return ()
    types = envelope.split_types(text)
    if types is None:
        _garbled("fplxdm")
    return tuple(sorted({found for found in types if not found.startswith("08")}))


def _count(fields: Mapping[str, str], name: str) -> int:
    return int(_matching(fields, name, _COUNT))


def _fen(fields: Mapping[str, str], name: str) -> int:
    amount = _YUAN.fullmatch(fields.get(name, ""))
    if amount is None:
        _garbled(name)
    fen = int(amount[2]) * 100 + int((amount[3] or "").ljust(2, "0"))
    return -fen if amount[1] else fen


#: Our names of the limits, the vendor's, and how they are written.
_LIMITS = {
    "single": ("dzkpxe", _fen),
    "total": ("zsljxe", _fen),
    "return": ("fsljxe", _fen),
    "offline_hours": ("lxkpsc", _count),
    "offline_count": ("lxkpzs", _count),
    "offline_total": ("lxzsljje", _fen),
}


def _garbled(name: str) -> NoReturn:
    raise Failure(Code.DEVICE_GARBLED, detail=name) from None
