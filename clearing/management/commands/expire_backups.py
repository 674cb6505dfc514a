"""``manage.py expire_backups``: what the daily task does, by hand: delete what is past its time."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from agency.clock import real_now
from agency.models import Agency
from agency.scope import agency_scope
from agency.selectors import every_agency
from clearing.services.retention import close_expired, expired, remove_closed


class Command(BaseCommand):
    help = "删除超过保存年限且未冻结的备份；每个都留痕。"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="只数，不删")

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        for agency_id in every_agency():
            agency = Agency.objects.get(pk=agency_id)
            with agency_scope(agency_id):
                count = expired(agency, real_now()).count()
                if not dry_run:
                    count = close_expired(agency=agency, now=real_now())
            if not dry_run:
                with agency_scope(agency_id):
                    remove_closed()
            if count:
                self.stdout.write(
                    f"机构 {agency_id}：到期 {count} 个" + ("" if dry_run else "，已删")
                )
