"""The return codes that simulated components use (模拟), per kind.

Owns which of the vendors' signs (``devices/protocol/catalogue/vendor_codes.py``) each kind gives:
the kinds differ on purpose, so that a driver which knows one vendor only is found out.
"""

from __future__ import annotations

import enum

from devices.drivers.dates import Kind


class Sign(enum.Enum):
    """What a component has to say, as (baiwang, aisino, ukey)."""

    ABSENT = ("4001", "163", "4001", "未检测到税控设备")
    SEVERAL = ("4002", "767", "999", "检测到多个税控设备")
    FOREIGN = ("-960032033", "-960032033", "-960032033", "税控设备与纳税人不符")
    LOCKED = ("09d10b", "238", "09d10b", "口令已锁死")
    PENDING = ("09d11f", "250", "09d120", "有离线发票未上传")
    OTHER_TYPE = ("248", "248", "248", "其他票种未抄报")
    OLDEST_FIRST = ("245", "245", "245", "存在多个未清卡属期")
    EXISTS = ("1086", "202", "0", "本期汇总数据已存在")
    NOTHING = ("09d11b", "195", "09d11b", "无汇总数据")
    OUTSIDE = ("191", "199", "191", "非征期")
    REPEATED = ("09d118", "158", "09d118", "重复清卡")
    NOT_MINE = ("155", "155", "155", "监控密文校验失败")
    OTHER_UNIT = ("156", "156", "156", "监控密文票种不符")
    OLDER = ("157", "157", "157", "监控密文已过期")
    NOT_REPORTED = ("159", "159", "159", "未抄报, 不能清卡")
    DATE_CHANGE = ("706", "706", "706", "日期变更, 时钟错误")
    # Signs without a meaning in our table: what a driver must pass on raw.
    NO_SUCH_TYPE = ("09d1f1", "2901", "09d1f1", "未授权的发票类型")
    NO_SUCH_OPERATION = ("09d1f2", "2902", "09d1f2", "不支持的业务")

    def __init__(self, baiwang: str, aisino: str, ukey: str, text: str) -> None:
        self._codes = {Kind.BAIWANG: baiwang, Kind.AISINO: aisino, Kind.UKEY: ukey}
        self.text = f"(模拟) {text}"

    def of(self, kind: Kind) -> str:
        return self._codes[kind]


def wrong_password(kind: Kind, tries: int) -> str:
    """The code that says how many tries are left; ``tries`` above 0."""
    return f"63C{tries:X}" if kind is Kind.AISINO else f"09d1c{tries:x}"


def wrong_certificate_password(tries: int) -> str:
    """``0963cX``; at 0 it is locked: 166."""
    return f"0963c{tries:x}" if tries else "166"
