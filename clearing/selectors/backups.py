"""What the pages say of backups: what one holds, what can be put back, how all of them stand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from django.db.models import Count, Min, Q
from django.utils.translation import gettext_lazy as _

from agency.models import Agency, Company
from clearing.models import Backup, BackupHold, Evidence
from clearing.selectors.words import INVOICE_TYPES, STATISTICS
from clearing.services.retention import holds, kept_through
from devices.choices import DiskKind
from devices.drivers.backup_content import BackupContent, KeptFile
from devices.protocol.control import ControlData

#: What can be written back through each kind's interface, in plain words.
RESTORABLE = {
    DiskKind.IC_CARD: _(
        "卡上的监控数据只接受税局签发、带校验的密文 (写监控数据)；日累计、申报记录和发票领用"
        "没有写入命令。所以备份不能写回卡。"
    ),
    DiskKind.BAIWANG: _("税控盘的接口只有抄报和反写；监控数据由税局签发，备份不能写回盘。"),
    DiskKind.AISINO: _("金税盘的接口只有抄报和清卡；监控数据由税局签发，备份不能写回盘。"),
    DiskKind.UKEY: _("税务UKey 的接口只有上报汇总和反写监控；数据由税局签发，备份不能写回。"),
}

#: The files of a card and the questions to a component, in the accountant's words.
_FILES = {
    "EF01": _("监控数据 (截止日期、限额)"),
    "EF02": _("税号与卡的资料"),
    "EF03": _("每日开票累计"),
    "EF04": _("历次抄报申报记录"),
    "EF05": _("发票领用 (号段)"),
    "SKPXXCX": _("税盘资料"),
    "JKSJCX": _("监控数据 (截止日期、限额)"),
    "HQLXSJ": _("未上传发票"),
    "TJXXCX": _("开票统计"),
}
_LIMITS = {
    "single": _("单张限额"),
    "total": _("正数累计限额"),
    "return": _("负数累计限额"),
}


@dataclass(frozen=True, slots=True)
class TypeView:
    """One invoice type as the backup has it."""

    code: str
    data: ControlData
    statistics: Mapping[str, int]

    @property
    def name(self) -> str:
        return str(INVOICE_TYPES.get(self.code, self.code))

    @property
    def limits(self) -> list[tuple[str, str]]:
        found = self.data.limits
        return [
            (str(word), f"{found[key] / 100:,.2f}") for key, word in _LIMITS.items() if key in found
        ]

    @property
    def totals(self) -> list[tuple[str, str]]:
        found = self.statistics
        return [
            (str(word), f"{found[key] / 100:,.2f}" if key.endswith("_fen") else str(found[key]))
            for key, word in STATISTICS.items()
            if key in found
        ]


@dataclass(frozen=True, slots=True)
class FileView:
    """A part of the backup and what it holds."""

    file: KeptFile

    @property
    def words(self) -> str:
        return str(_FILES.get(self.file.name.partition(" ")[0], ""))

    @property
    def type_name(self) -> str:
        return str(INVOICE_TYPES.get(self.file.name.partition(" ")[2], ""))


def type_views(content: BackupContent) -> list[TypeView]:
    return [
        TypeView(code, data, content.statistics.get(code, {}))
        for code, data in sorted(content.controls.items())
    ]


def package_kept(backup: Backup) -> bool:
    """Whether the report package of the backup's period lies here too and can be sent again."""
    return Evidence.objects.filter(
        disk_period_id=backup.disk_period_id, sealed__isnull=False
    ).exists()


def hold_of(company: Company) -> BackupHold | None:
    return holds().filter(company=company).first()


def keep_until(backup: Backup, agency: Agency) -> dt.date:
    return kept_through(backup.created_at, agency.backup_years)


@dataclass(frozen=True, slots=True)
class Standing:
    """All backups of the agency in numbers; ``oldest_look``: of the one not read for longest."""

    count: int
    never_checked: int
    deleted: int
    oldest_look: dt.datetime | None


def standing() -> Standing:
    living = Q(deleted_at__isnull=True)
    found = Backup.objects.aggregate(
        count=Count("pk", filter=living),
        never=Count("pk", filter=living & Q(looked_at__isnull=True)),
        deleted=Count("pk", filter=~living),
        oldest=Min("looked_at", filter=living),
    )
    return Standing(found["count"], found["never"], found["deleted"], found["oldest"])


def troubled() -> list[Backup]:
    """Backups whose last look found something wrong, the newest first."""
    return list(
        Backup.objects.filter(deleted_at__isnull=True)
        .exclude(problem="")
        .select_related("disk_period__disk__company")
        .order_by("-looked_at")[:100]
    )


def companies_held() -> list[BackupHold]:
    return list(holds().select_related("company").order_by("-set_at")[:200])
