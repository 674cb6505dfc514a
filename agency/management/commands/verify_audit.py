"""``manage.py verify_audit``: walk the chains, and hold them against the signed heads outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from agency import audit, heads, signing
from agency.chain import End
from agency.models import PLATFORM, Agency
from agency.scope import agency_scope

Head = dict[str, Any]


class Command(BaseCommand):
    help = "检查操作留痕：逐条验算，并与数据库之外保存的每日签名核对；有一处不符即报错"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--agency", type=int, action="append", help="机构编号；0 为平台；缺省为全部"
        )
        parser.add_argument("--heads", type=Path, help="保存每日签名的文件夹 (*.jsonl)")
        parser.add_argument(
            "--public-key",
            action="append",
            default=[],
            help="公钥 (base64)；除本机现在与以前的公钥之外",
        )

    def handle(
        self,
        *args: Any,
        agency: list[int] | None,
        heads: Path | None,
        public_key: list[str],
        **options: Any,
    ) -> None:
        found = _read(heads) if heads is not None else []
        genuine, forged = _sorted_out(found, public_key)
        known = [PLATFORM, *Agency.objects.order_by("pk").values_list("pk", flat=True)]
        wanted = agency if agency else known
        bad = 0
        for head in forged:
            bad += 1
            self.stdout.write(f"{head.get('chain')} 第 {head.get('sequence')} 条: forged_head")
        for name in sorted({str(head["chain"]) for head in genuine} - set(map(_name, known))):
            bad += 1
            self.stdout.write(f"{name} 第 1 条: cut_off (整条链不见了)")
        for agency_id in wanted:
            bad += self._chain(agency_id, genuine)
        if bad:
            raise CommandError(f"操作留痕有 {bad} 处不符")

    def _chain(self, agency_id: int, genuine: list[Head]) -> int:
        name = _name(agency_id)
        ends = [
            End(head["sequence"], bytes.fromhex(head["hash"]))
            for head in genuine
            if head["chain"] == name
        ]
        with agency_scope(agency_id):
            walk = audit.walk(ends)
        if walk.finding is None:
            self.stdout.write(f"{name}: {walk.length} 条相符, 签名证明到第 {walk.proven} 条")
            return 0
        where = walk.finding
        since = f" (自第 {where.since} 条起)" if where.since != where.sequence else ""
        self.stdout.write(f"{name} 第 {where.sequence} 条: {where.fault}{since}")
        return 1


def _name(agency_id: int) -> str:
    return heads.chain_name(agency_id)


def _read(folder: Path) -> list[Head]:
    if not folder.is_dir():
        raise CommandError(f"{folder} 不是文件夹")
    found: list[Head] = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                line = json.loads(text)
            except ValueError:
                raise CommandError(f"{path.name} 第 {number} 行读不懂") from None
            if isinstance(line, dict) and line.get("type") == "head":
                found.append(line)
    return found


def _sorted_out(found: list[Head], keys: list[str]) -> tuple[list[Head], list[Head]]:
    """Those that one of the keys has signed, and the others."""
    keys = [*keys, *heads.public_keys()]
    if found and not keys:
        raise CommandError("没有公钥: 请设置 QINGKA_AUDIT_KEY 或用 --public-key 给出")
    genuine = [head for head in found if signing.is_genuine(head, keys)]
    return genuine, [head for head in found if head not in genuine]
