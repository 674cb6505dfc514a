"""``manage.py enrolment_code --agency ID --name N``: a code for a reader machine, for operators.

Prints the code once, and with ``--server`` the whole command to run on that machine.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from agency.clock import real_now
from agency.errors import ServiceError
from agency.models import Agency
from agency.scope import agency_scope
from devices.services import enrolment_code_create


class Command(BaseCommand):
    help = "生成一个读盘机登记码：只显示一次，只能用一次，10 分钟内有效。"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--agency", type=int, required=True, metavar="ID", help="机构编号")
        parser.add_argument("--name", required=True, help="读盘机名称")
        parser.add_argument("--parallel", type=int, default=8, help="同时办理数 (1–64)")
        parser.add_argument("--https-only", action="store_true", help="不给消息服务账号")
        parser.add_argument("--simulated", action="store_true", help="模拟盘 (只用于练习机构)")
        parser.add_argument("--server", default="", help="服务器地址，写进命令里")

    def handle(self, *args: Any, agency: int, name: str, server: str, **options: Any) -> None:
        row = Agency.objects.filter(pk=agency).first()
        if row is None:
            raise CommandError(f"没有编号为 {agency} 的机构")
        if options["simulated"] and not row.practice:
            raise CommandError("模拟盘只能用于练习机构")
        try:
            with agency_scope(agency):
                made = enrolment_code_create(
                    agency=row,
                    name=name,
                    parallel=options["parallel"],
                    https_only=options["https_only"],
                    simulated=options["simulated"],
                    by="manage.py",
                    now=real_now(),
                )
        except ServiceError as error:
            raise CommandError(str(error)) from None
        self.stdout.write(
            f"qingka-reader enroll {made.code} --server {server}" if server else made.code
        )
