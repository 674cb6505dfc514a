"""``manage.py check_backups``: is every backup still what it was?

Reads each, opens its seal and compares its hash; tells what is missing, damaged, another disk's, or
sealed with a key that is gone. Ends with status 1 when one is not whole. The result stands in each
agency's trail and on its page 备份.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agency.clock import real_now
from agency.selectors import every_agency
from clearing.services.backup_check import CheckResult, check_agency


class Command(BaseCommand):
    help = "核验全部备份：逐个读出、开封、比对 SHA-256。有任何一个不完好即以状态 1 结束。"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--agency", type=int, metavar="ID", help="只核验这一家机构")

    def handle(self, *args: Any, agency: int | None, **options: Any) -> None:
        whole = bad = 0
        for agency_id in every_agency():
            if agency in {None, agency_id}:
                result = check_agency(agency_id, now=real_now)
                self._tell(agency_id, result)
                whole, bad = whole + result.whole, bad + len(result.bad)
        self.stdout.write(f"合计：完好 {whole}，有问题 {bad}。")
        if bad:
            raise CommandError(
                f"{bad} 个备份不完好，见上。请从存储的副本恢复这些文件，再核验一次。"
            )

    def _tell(self, agency_id: int, result: CheckResult) -> None:
        if not (result.whole or result.bad or result.strays):
            return
        self.stdout.write(f"机构 {agency_id}：完好 {result.whole}，有问题 {len(result.bad)}")
        for bad in result.bad:
            self.stdout.write(
                f"  备份 {bad.backup_id} 税盘 {bad.disk} 属期 {bad.period}："
                f"{bad.problem.label}  {bad.name}"
            )
        for name in result.strays:
            self.stdout.write(f"  没有登记的文件：{name}")
