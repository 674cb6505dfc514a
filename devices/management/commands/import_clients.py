"""``manage.py import_clients --agency ID --file FILE``: import a sheet without the pages.

Takes the same way as the pages, with the headings as they are recognised. Wrong rows are printed
and nothing is written. Creates no bureaus and no members.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agency import clock
from agency.errors import ServiceError
from agency.models import Agency
from agency.scope import agency_scope
from devices import imports
from devices.import_write import ImportResult

_SHOWN = 50


class Command(BaseCommand):
    help = "导入客户与税盘 (.xlsx 或 .csv)；有错误时逐行列出，不写入任何数据。"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--agency", type=int, required=True, metavar="ID", help="机构编号")
        parser.add_argument("--file", type=Path, required=True, help="表格文件")

    def handle(self, *args: Any, agency: int, file: Path, **options: Any) -> None:
        if not Agency.objects.filter(pk=agency).exists():
            raise CommandError(f"没有编号为 {agency} 的机构")
        try:
            data = file.read_bytes()
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}") from None
        try:
            # A refusal leaves the scope as an exception: the draft goes with everything else.
            with agency_scope(agency):
                result = self._import(agency, file.name, data)
        except ServiceError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"新增客户 {result.companies_new} 户，更新 {result.companies_updated} 户；"
            f"新增税盘 {result.disks_new} 个，更新 {result.disks_updated} 个。"
        )

    def _import(self, agency_id: int, file_name: str, data: bytes) -> ImportResult:
        now = clock.now()
        draft = imports.draft_from_upload(
            agency_id=agency_id,
            user_id=imports.SYSTEM_USER_ID,
            file_name=file_name,
            data=data,
            now=now,
        )
        found = imports.preview(draft)
        if not found.confirmable:
            raise CommandError("没有导入任何数据：\n" + "\n".join(_complaints(found)))
        return imports.confirm(draft, now=now)


def _complaints(found: imports.Preview) -> list[str]:
    lines = [f"缺少列：{name}" for name in found.missing] + found.problems
    wrong = [row for row in found.rows if row.errors]
    lines += [f"第 {row.number} 行：{'；'.join(row.errors)}" for row in wrong[:_SHOWN]]
    if len(wrong) > _SHOWN:
        lines.append(f"… 另有 {len(wrong) - _SHOWN} 行有错误")
    return lines
