"""Words of the clearing layer that stand in the database."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _


class Intent(models.TextChoices):
    READ = "read", _("读盘")
    REPORT = "report", _("抄报")
    REPORT_AND_CLEAR = "report_and_clear", _("抄报清卡")

    def wider_than(self, other: str) -> bool:
        """Whether this one asks for more than ``other``."""
        order = list(Intent)
        return order.index(self) > order.index(Intent(other))


class PeriodState(models.TextChoices):
    """The state of a disk's period, derived from control data read back; nobody writes it.

    ``unread`` until a read; ``to_report`` / ``to_clear`` / ``cleared`` by the state rule;
    ``by_hand`` is a confirmed entry that nothing proves.
    """

    UNREAD = "unread", _("未读盘")
    TO_REPORT = "to_report", _("待抄报")
    TO_CLEAR = "to_clear", _("待清卡")
    CLEARED = "cleared", _("已清卡")
    BY_HAND = "by_hand", _("人工登记")


class By(models.TextChoices):
    """Who brought a disk's period there."""

    US = "us", _("本系统办理")
    ELSEWHERE = "elsewhere", _("非本系统办理")


class FilingState(models.TextChoices):
    """Where the return stands; the values of clearing.bureau.port.Filing."""

    UNKNOWN = "unknown", _("申报情况不详")
    NOT_FILED = "not_filed", _("未申报")
    NOT_DUE = "not_due", _("本期无需申报")
    PAYMENT_DUE = "payment_due", _("已申报未缴款")
    FILED = "filed", _("已申报")
    COMPARISON_FAILED = "comparison_failed", _("比对不通过")


class Stage(models.TextChoices):
    """The stages of the procedure, in the order of a month."""

    IDENTIFY = "identify", _("核对盘号")
    READ = "read", _("读盘")
    REPORT = "report", _("抄报")
    UPLOAD = "upload", _("汇总上传")
    FILING = "filing", _("核对申报")
    BACKUP = "backup", _("备份")
    FETCH = "fetch", _("取清卡数据")
    CLEAR = "clear", _("清卡")
    CONFIRM = "confirm", _("清卡确认")


class EvidenceKind(models.TextChoices):
    IDENTITY = "identity", _("盘号核对")
    CONTROL = "control", _("监控数据")
    PACKAGE = "package", _("汇总数据")
    BUREAU = "bureau", _("税局答复")
    FILING = "filing", _("申报情况")
    PASSWORD = "password", _("口令答复")


class BackupProblem(models.TextChoices):
    """What a look at a backup found wrong; the label completes 此备份…"""

    MISSING = "missing", _("文件不见了")
    DAMAGED = "damaged", _("文件已损坏")
    FOREIGN = "foreign", _("文件属于另一只税盘")
    SWAPPED = "swapped", _("内容与登记的摘要不符")
    NO_KEY = "no_key", _("封存它的密钥不在密钥环中")
