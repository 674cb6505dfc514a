"""``manage.py reseal``: rotation of the keys that seal passwords, packages, drafts and backups.

1. Put the new key in front of the ring (the old one stays behind it) and restart the servers.
2. ``reseal`` seals everything anew, beside the working site; it can be stopped and started again.
3. ``reseal --check`` ends with status 0 when nothing needs an older key: remove it from the ring.
"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import models

from agency.resealing import keys_in_use, reseal
from agency.sealed import Place
from agency.sealing import SealError, newest_key
from clearing.models import Backup
from clearing.services.backups import remove_file


class Command(BaseCommand):
    help = "用密钥环的第一把密钥重新封存全部口令、报文、草稿和备份；--check 只查旧密钥是否还有用。"

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--check", action="store_true", help="只查，不改；还需旧密钥时状态 1")

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        if not check:
            try:
                count = reseal(progress=self._tell, moved=_remove)
            except SealError as error:
                raise CommandError(f"停在 {error}。处理后再运行一次，已完成的不会重做。") from None
            self.stdout.write(f"重新封存 {count} 处。")
        needed = 0
        for (place, key), count in sorted(keys_in_use().items()):
            self.stdout.write(f"{place}：密钥 {key} {count} 处")
            needed += count if key != newest_key() else 0
        if needed:
            raise CommandError(f"还有 {needed} 处不是用 {newest_key()} 封存的：旧密钥不能删除。")
        self.stdout.write(f"全部用 {newest_key()} 封存：密钥环中的旧密钥可以删除。")

    def _tell(self, place: Place, agency_id: int | None, count: int) -> None:
        self.stdout.write(f"  {place} 机构 {agency_id}：{count} 处")


def _remove(row: models.Model, name: str) -> None:
    """The old file of a backup goes once no row names it."""
    if isinstance(row, Backup):
        remove_file(row.disk_period.disk_id, name)
