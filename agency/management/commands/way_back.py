"""``manage.py way_back``: for who has lost phone or password and whom no agency may help.

Whoever runs it has made sure who asks; it stands in the trail of each agency of the person."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import reverse

from agency import audit, way_back
from agency.audit import Actor
from agency.choices import ActorKind
from agency.clock import real_now
from agency.models import User


class Command(BaseCommand):
    help = "重设一个账号的两步验证，或生成设置新口令的链接 (一天内有效, 只能用一次)"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--by", required=True, help="核实本人身份的人, 记入操作留痕")
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--second-factor", action="store_true")
        what.add_argument("--password-link", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"], is_active=True).first()
        if user is None:
            raise CommandError("没有这个账号")
        if not user.has_usable_password():
            raise CommandError("此账号没有口令: 企业客户凭专属链接进入")
        by = str(options["by"])
        with audit.acting(Actor(ActorKind.OPERATOR, by)):
            if options["second_factor"]:
                way_back.second_factor_reset(user=user, by=by, now=real_now())
                self.stdout.write("已重设两步验证, 各设备已退出")
            else:
                token = way_back.password_link(user=user, by=by, now=real_now())
                self.stdout.write(reverse("password-renew", args=[token]))
