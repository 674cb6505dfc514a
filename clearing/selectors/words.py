"""Words of the field that are no choices of a model: invoice types, whose move, classes."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from clearing.choices import PeriodState
from clearing.states import Reason
from devices.protocol.catalogue import Entry, entry_of
from devices.protocol.failures import Code, FailureClass

INVOICE_TYPES = {
    "004": _("专票"),
    "005": _("机动车票"),
    "006": _("二手车票"),
    "007": _("普票"),
    "009": _("货运票"),
    "025": _("卷票"),
    "026": _("电子普票"),
    "028": _("电子专票"),
}


#: Totals of a report package (销项汇总), in the order they are shown; amounts are in fen.
STATISTICS = {
    "valid_count": _("正数发票份数"),
    "return_count": _("负数发票份数"),
    "void_count": _("作废份数"),
    "valid_fen": _("正数金额"),
    "return_fen": _("负数金额"),
}


class Party(models.TextChoices):
    """责任方: whose move it is."""

    US = "us", _("我方")
    CLIENT = "client", _("客户")
    BUREAU = "bureau", _("税务局")
    DEVICE = "device", _("设备")


CLASSES = {
    FailureClass.RETRY: _("系统自动再试"),
    FailureClass.PERSON: _("须人工处理"),
    FailureClass.BUREAU: _("须联系税务局"),
    FailureClass.DATA: _("须先办前置事项"),
    FailureClass.SOFTWARE: _("须联系技术支持"),
    FailureClass.DONE: _("无需处理"),
}

_BY_CLASS = {
    FailureClass.RETRY: Party.DEVICE,
    FailureClass.PERSON: Party.US,
    FailureClass.BUREAU: Party.BUREAU,
    FailureClass.DATA: Party.US,
    FailureClass.SOFTWARE: Party.DEVICE,
    FailureClass.DONE: Party.US,
}
# Where the class alone would name the wrong side.
_BY_CODE = {
    Code.PASSWORD_WRONG: Party.CLIENT,
    Code.PASSWORD_LAST_TRIES: Party.CLIENT,
    Code.PASSWORD_MISSING: Party.CLIENT,
    Code.CERTIFICATE_PASSWORD_WRONG: Party.CLIENT,
    Code.INVOICES_PENDING: Party.CLIENT,
    Code.ROLLS_PENDING: Party.CLIENT,
    Code.OFFLINE_LIMIT: Party.CLIENT,
    Code.BUREAU_UNREACHABLE: Party.BUREAU,
    Code.BUREAU_GARBLED: Party.BUREAU,
}


_CLIENT_PASSWORD = _("请把税盘现在的口令告诉代账机构 (不要自己反复试，次数用完会锁死)。")
_CLIENT_UPLOAD = _("请在开票软件里联网上传全部发票，完成后告诉代账机构。")
#: What the client is asked for, in the client's own words.
CLIENT_STEPS = {
    Code.PASSWORD_WRONG: _CLIENT_PASSWORD,
    Code.PASSWORD_LAST_TRIES: _CLIENT_PASSWORD,
    Code.PASSWORD_MISSING: _CLIENT_PASSWORD,
    Code.CERTIFICATE_PASSWORD_WRONG: _("请把税盘的证书口令告诉代账机构。"),
    Code.INVOICES_PENDING: _CLIENT_UPLOAD,
    Code.OFFLINE_LIMIT: _CLIENT_UPLOAD,
    Code.ROLLS_PENDING: _("请在开票软件里完成发票读入或退回，完成后告诉代账机构。"),
}
#: Failures that a new password may end.
PASSWORD_CODES = frozenset(
    {
        Code.PASSWORD_WRONG,
        Code.PASSWORD_LAST_TRIES,
        Code.PASSWORD_LOCKED,
        Code.PASSWORD_MISSING,
        Code.CERTIFICATE_PASSWORD_WRONG,
        Code.CERTIFICATE_PASSWORD_LOCKED,
        Code.PIN_UNKNOWN,
    }
)


def party_of(code: Code, cls: FailureClass) -> Party:
    """Whose move a failure is."""
    return _BY_CODE.get(code, _BY_CLASS[cls])


def entry_for(code: str) -> Entry | None:
    """The catalogue's entry of a stored code; None where it is empty or none of ours."""
    try:
        return entry_of(Code(code))
    except ValueError:
        return None


PARTY_OF_REASON = {
    Reason.DISK: Party.US,
    Reason.MACHINE: Party.DEVICE,
    Reason.PIN: Party.DEVICE,
    Reason.FILING: Party.US,
    Reason.WINDOW: Party.BUREAU,
    Reason.QUIET: Party.DEVICE,
    Reason.BUREAU: Party.BUREAU,
    Reason.RETRY: Party.DEVICE,
    Reason.CONFIRM: Party.BUREAU,
    Reason.BY_HAND: Party.US,
    Reason.HOLD: Party.US,
}

STEP_OF_REASON = {
    Reason.DISK: _("插入税盘，系统看到后自动接着办"),
    Reason.MACHINE: _("请让读盘机上线，随后自动接着办"),
    Reason.PIN: _("请让保管 PIN 的读盘机联网"),
    Reason.FILING: _("完成申报后点“标记已申报”"),
    Reason.WINDOW: _("征期开始后自动接着办"),
    Reason.QUIET: _("过了这段时间自动接着办"),
    Reason.BUREAU: _("税局恢复后自动接着办"),
    Reason.RETRY: _("稍后自动再试，无需处理"),
    Reason.CONFIRM: _("盘已清，下次读盘时自动补送确认"),
    Reason.BY_HAND: _("请按步骤在厂商软件里办理，再读盘复核"),
    Reason.HOLD: _("取消暂缓后自动接着办"),
}

PERIOD_COLOURS = {
    PeriodState.UNREAD: "grey",
    PeriodState.TO_REPORT: "amber",
    PeriodState.TO_CLEAR: "amber",
    PeriodState.CLEARED: "green",
    PeriodState.BY_HAND: "violet",
}
