"""The columns of a sheet of clients and disks: their headings, and what a cell of each may say.

Owns the synonyms under which agencies keep these columns and the parsing of one cell. Knows no
database: a bureau or a person is only a text here. A text of a secret column never gets into an
error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from agency.choices import ClearPolicy, FilingFrequency, TaxpayerKind
from agency.errors import ServiceError
from agency.taxid import TaxIdError, check_tax_id
from devices.choices import DiskKind

NO_DISK = "none"
PASSWORD_LENGTH = 8


class CellError(ServiceError):
    """A cell that does not say what its column asks for."""


@dataclass(frozen=True, slots=True)
class Column:
    """``name`` is the heading of our own template; ``synonyms`` are parted by spaces, the
    better ones first."""

    key: str
    name: str
    label: object  # the name, in the reader's language
    parse: Callable[[str], str]
    synonyms: str = ""
    required: bool = False
    secret: bool = False


def _text(longest: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if len(text) > longest:
            raise CellError(_("超过 %(longest)d 个字") % {"longest": longest})
        return text

    return parse


def _choice(words: Mapping[str, str]) -> Callable[[str], str]:
    """``words``: the names of each value, parted by spaces; errors offer the first."""
    values = {_plain(word): value for value, names in words.items() for word in names.split()}
    allowed = "、".join(names.split()[0] for names in words.values())

    def parse(text: str) -> str:
        try:
            return values[_plain(text)]
        except KeyError:
            raise CellError(
                _("没有“%(text)s”这一项，请填：%(allowed)s")
                % {"text": text[:20], "allowed": allowed}
            ) from None

    return parse


def _tax_id(text: str) -> str:
    try:
        return check_tax_id(text).value
    except TaxIdError as error:
        raise CellError(_(error.template).format(**error.params)) from None


def _device_no(text: str) -> str:
    number = re.sub(r"[\s-]", "", _half_width(text)).upper()
    if re.fullmatch(r"[0-9]{12}|[0-9A-F]{16}", number):
        return number
    if re.fullmatch(r"[0-9]{1,11}", number):
        raise CellError(
            _("应为 12 位数字，现为 %(length)d 位；开头的 0 可能丢了，请设为文本格式重填")
            % {"length": len(number)}
        )
    raise CellError(_("应为 12 位数字（税控 IC 卡为 16 位），现为“%(text)s”") % {"text": text[:24]})


def _terminal_no(text: str) -> str:
    plain = _plain(text)
    if plain in {"主机", "主", "主盘", "主机盘"}:
        return "0"
    found = re.fullmatch(r"(?:分机|分盘|分)?([0-9]{1,3})(?:号|号机|号分机|号分盘)?", plain)
    if found is None:
        raise CellError(
            _("应为数字（主机填 0，分机填 1、2 …），现为“%(text)s”") % {"text": text[:12]}
        )
    return str(int(found[1]))


def _password(text: str) -> str:
    """Eight visible characters, as every disk has them. The error never says what was there."""
    password = _half_width(text).strip()
    if len(password) != PASSWORD_LENGTH or not (password.isascii() and password.isprintable()):
        raise CellError(_("应为 8 位字母或数字；如果以 0 开头，请把该列设为文本格式再重填"))
    if " " in password:
        raise CellError(_("中间不能有空格"))
    return password


def _half_width(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _plain(text: str) -> str:
    """For comparing: half-width, lower case, no spaces, no marks, nothing in brackets."""
    text = re.sub(r"\([^()]*\)|\[[^\[\]]*\]|【[^【】]*】", "", _half_width(text))
    return re.sub(r"[\s*:#、,./_\-·•]", "", text).lower()


_TAXPAYER: dict[str, str] = {
    TaxpayerKind.GENERAL: "一般纳税人 一般 一般人 增值税一般纳税人 是",
    TaxpayerKind.SMALL: "小规模纳税人 小规模 小规模企业 增值税小规模纳税人 否",
}
_FREQUENCY: dict[str, str] = {
    FilingFrequency.MONTHLY: "按月 月报 月 每月 按月申报 月度",
    FilingFrequency.QUARTERLY: "按季 季报 季 每季 按季申报 按季度 季度",
}
_POLICY: dict[str, str] = {
    ClearPolicy.AFTER_FILING: "申报后清卡 申报后 先申报后清卡",
    ClearPolicy.TRY: "直接尝试 直接 直接清卡",
}
_KIND: dict[str, str] = {
    DiskKind.AISINO: "金税盘 黑盘 航信 航天信息 航信金税盘 航天金税盘",
    DiskKind.BAIWANG: "税控盘 白盘 百旺 百望 百旺税控盘 百旺金赋 百望税控盘",
    DiskKind.UKEY: "税务UKey UKey uk 税务uk 税务ukey盘 优盘",
    DiskKind.IC_CARD: "税控IC卡 IC卡 税控卡 税控收款机 税控机",
    NO_DISK: "数电 无盘 无 数电票 数电发票 全电 全电发票 无税控设备 没有",
}

COLUMNS: tuple[Column, ...] = (
    Column(
        "short_name",
        "客户简称",
        gettext_lazy("客户简称"),
        _text(40),
        "简称 企业简称 公司简称 单位简称 客户 客户名 客户名称",
    ),
    Column(
        "name",
        "企业名称",
        gettext_lazy("企业名称"),
        _text(100),
        "纳税人名称 公司名称 单位名称 客户全称 企业全称 公司全称 单位全称 全称 公司名"
        " 企业名 客户名称 纳税主体 户名 营业执照名称 名称 公司 企业 单位 客户名 客户",
        required=True,
    ),
    Column(
        "tax_id",
        "税号",
        gettext_lazy("税号"),
        _tax_id,
        "纳税人识别号 统一社会信用代码 社会信用代码 信用代码 纳税人税号 公司税号"
        " 企业税号 识别号 统一信用代码 纳税识别号 纳税号 统一社会信用代码/纳税人识别号"
        " 纳税人识别号/统一社会信用代码 社会统一信用代码 税务登记号 nsrsbh",
        required=True,
    ),
    Column(
        "taxpayer_kind",
        "纳税人类型",
        gettext_lazy("纳税人类型"),
        _choice(_TAXPAYER),
        "纳税人性质 纳税人身份 纳税人资格 企业类型 纳税类型 纳税性质 是否一般纳税人 类型 性质",
    ),
    Column(
        "filing_frequency",
        "申报周期",
        gettext_lazy("申报周期"),
        _choice(_FREQUENCY),
        "报税周期 纳税期限 申报期限 申报频率 申报方式 月报季报 月报/季报 周期 征期",
    ),
    Column(
        "bureau",
        "主管税务机关",
        gettext_lazy("主管税务机关"),
        _text(80),
        "主管税局 主管税务局 主管税务所 主管税务分局 税务机关 税务局 税务所 税局"
        " 所属税务局 所属税局 税务机关代码 主管税务机关代码 主管机关",
    ),
    Column(
        "clear_policy",
        "清卡时机",
        gettext_lazy("清卡时机"),
        _choice(_POLICY),
        "清卡方式 清卡策略",
    ),
    Column(
        "accountant",
        "记账会计",
        gettext_lazy("记账会计"),
        _text(100),
        "会计 负责会计 主管会计 责任会计 做账会计 记账人 负责人员 经办会计 会计姓名"
        " 代账会计 经办人 跟进人 服务会计",
    ),
    Column(
        "contact",
        "联系人",
        gettext_lazy("联系人"),
        _text(50),
        "客户联系人 企业联系人 公司联系人 联系人姓名 对接人 老板 法人 法定代表人",
    ),
    Column(
        "phone",
        "电话",
        gettext_lazy("电话"),
        _text(30),
        "联系电话 手机 手机号 手机号码 联系方式 电话号码 联系人电话 客户电话 移动电话 tel",
    ),
    Column(
        "device_no",
        "盘号",
        gettext_lazy("盘号"),
        _device_no,
        "税控盘号 金税盘号 税控设备编号 设备编号 设备号 税盘号 盘编号 税控盘编号"
        " 金税盘编号 ukey编号 ukey号 uk号 税控设备号 金税盘/税控盘号 机器编号 卡号"
        " 税控卡号 税盘编号",
    ),
    Column(
        "terminal_no",
        "开票机号",
        gettext_lazy("开票机号"),
        _terminal_no,
        "分机号 机号 主分机 主机/分机 主机分机 开票机 分机 开票机编号",
    ),
    Column(
        "kind",
        "设备类型",
        gettext_lazy("设备类型"),
        _choice(_KIND),
        "税控设备 税控设备类型 盘类型 税盘类型 税盘 开票设备 开票方式 设备 盘 盘型"
        " 设备种类 税控类型 开票盘",
    ),
    Column(
        "device_password",
        "设备口令",
        gettext_lazy("设备口令"),
        _password,
        "口令 税控口令 盘口令 税盘口令 设备密码 税控密码 税盘密码 盘密码 密码"
        " 税控盘口令 税控盘密码 金税盘口令 金税盘密码 登录口令 开票口令 ukey密码"
        " ukey口令 pin pin码 卡口令 卡密码",
        secret=True,
    ),
    Column(
        "certificate_password",
        "证书口令",
        gettext_lazy("证书口令"),
        _password,
        "证书密码 数字证书密码 数字证书口令 ca密码 ca口令 证书pin",
        secret=True,
    ),
)
BY_KEY: Mapping[str, Column] = {column.key: column for column in COLUMNS}


def _ranks() -> dict[str, list[tuple[int, str]]]:
    ranks: dict[str, list[tuple[int, str]]] = {}
    for column in COLUMNS:
        for rank, word in enumerate([column.name, *column.synonyms.split()]):
            ranks.setdefault(_plain(word), []).append((rank, column.key))
    return ranks


_RANKS = _ranks()


def heading_score(cells: Sequence[str], known: Collection[str] = ()) -> int:
    """How many cells of a row are headings that we, or this agency, know."""
    return sum(1 for cell in cells if cell and (_plain(cell) in _RANKS or cell in known))


def recognise(headings: Sequence[str], remembered: Mapping[str, str]) -> dict[int, str]:
    """Column key (or "" for: ignore) by index, for every heading.

    ``remembered``: what the agency decided before, by heading; it comes first. No key is given
    twice: required columns choose first, then the better synonym wins, then the one further left.
    """
    found: dict[int, str] = {}
    for index, heading in enumerate(headings):
        key = remembered.get(heading)
        if key is not None and key in {"", *BY_KEY} and (not key or key not in found.values()):
            found[index] = key
    wishes = sorted(
        (not BY_KEY[key].required, rank, index, key)
        for index, heading in enumerate(headings)
        if index not in found
        for rank, key in _RANKS.get(_plain(heading), ())
    )
    for _optional, _rank, index, key in wishes:
        if index not in found and key not in found.values():
            found[index] = key
    return {index: found.get(index, "") for index in range(len(headings))}


def parse_cell(key: str, text: str) -> str:
    """The value a cell stands for. Raises CellError; empty cells are not for here."""
    return BY_KEY[key].parse(text)
