"""``manage.py audit_heads``: sign today's heads and hand them over, what the server does hourly."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agency import heads
from agency.clock import BEIJING, real_now


class Command(BaseCommand):
    help = "签署各机构操作留痕的当日末端并送出；--public-key 显示公钥"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--public-key", action="store_true")

    def handle(self, *args: Any, public_key: bool, **options: Any) -> None:
        key = heads.signing_key()
        if key is None:
            raise CommandError("QINGKA_AUDIT_KEY 未设置")
        if public_key:
            self.stdout.write(f"{key.key_id} {key.public}")
            return
        try:
            heads.daily(now=real_now().astimezone(BEIJING))
        except heads.HeadsFailed as error:
            raise CommandError(str(error)) from None
        self.stdout.write("已签署并送出")
