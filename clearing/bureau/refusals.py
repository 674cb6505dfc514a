"""The bureau's refusal codes: the one table between its words and our catalogue.

Owns which return codes mean success, what each known code means, and by which texts an unknown
code is still recognised. A code that is in neither is never dropped: it becomes
``bureau_refused`` with code and text as they came.

The real bureau publishes no list of codes; these are the stand-in's, so that both ends read the
same table. Texts that real bureaus are known to show are matched in ``_SIGNS``.
"""

from __future__ import annotations

import enum
import re

from devices.protocol.catalogue.retries import BUREAU_DOWN
from devices.protocol.failures import Code, Failure

RAW_TEXT_LIMIT = 200
"""So many characters of a bureau's text are kept; the rest of a page of HTML helps nobody."""

OK = "0000"

_SUCCESS = re.compile(r"0+", re.ASCII)


class Refusal(enum.Enum):
    """A refusal: the bureau's code, what it means in our catalogue, the bureau's text."""

    NOT_REPORTED = ("9101", Code.NOT_REPORTED, "该属期未抄报")
    NOT_FILED = ("9102", Code.NOT_FILED, "该属期未申报")
    PAYMENT_DUE = ("9103", Code.NOT_FILED, "已申报, 税款尚未缴纳")
    COMPARISON_FAILED = ("9104", Code.COMPARISON_FAILED, "一窗式比对失败")
    OUTSIDE_WINDOW = ("9105", Code.OUTSIDE_WINDOW, "不在该属期的征期内")
    PAST_DEADLINE = ("9106", Code.PAST_DEADLINE, "已过开票截止日期")
    ALREADY_CLEARED = ("9107", Code.ALREADY_CLEARED, "该属期已清卡")
    ALREADY_CONFIRMED = ("9108", Code.ALREADY_CLEARED, "清卡结果已确认过")
    UNKNOWN_TAXPAYER = ("9109", Code.BUREAU_UNKNOWN_TAXPAYER, "查无此纳税人")
    FOREIGN_DISK = ("9110", Code.BUREAU_UNKNOWN_TAXPAYER, "税控设备不属于该纳税人")
    BAD_SIGNATURE = ("9111", Code.BUREAU_REFUSED, "抄报数据签名不符")
    NOT_ISSUED = ("9112", Code.BUREAU_REFUSED, "该属期尚未下发清卡数据")
    MALFORMED = ("9900", Code.BUREAU_REFUSED, "报文格式不正确")
    MAINTENANCE = ("9901", Code.BUREAU_UNREACHABLE, "系统维护中")

    def __init__(self, raw_code: str, code: Code, text: str) -> None:
        self.raw_code = raw_code
        self.code = code
        self.text = text


#: Codes by which a bureau that was asked has answered: it is there, whatever it refuses.
ANSWERS = frozenset(refusal.code for refusal in Refusal) - BUREAU_DOWN

_BY_CODE = {refusal.raw_code: refusal.code for refusal in Refusal}

_SIGNS = (
    ("一窗式比对失败", Code.COMPARISON_FAILED),
    ("未抄报", Code.NOT_REPORTED),
    ("已清卡", Code.ALREADY_CLEARED),
)


def is_success(raw_code: str) -> bool:
    """Zeros only (``0``, ``00``, ``0000``, ``00000000`` all occur)."""
    return _SUCCESS.fullmatch(raw_code) is not None


def refusal(raw_code: str, raw_text: str) -> Failure:
    """The failure that a return code other than success stands for; for the caller to raise."""
    code = _BY_CODE.get(raw_code)
    if code is None:
        code = next((meant for sign, meant in _SIGNS if sign in raw_text), Code.BUREAU_REFUSED)
    return Failure(code, raw_code=raw_code, raw_text=raw_text[:RAW_TEXT_LIMIT])
