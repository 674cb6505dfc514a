"""Which disk of the agency a row of the sheet means, and what of it changes. Writes nothing.

A disk is found by its number; without one by its place (company, machine number, kind), so that a
sheet without numbers can be imported again after the disks got theirs.
"""

from __future__ import annotations

from collections import defaultdict

from django.utils.translation import gettext as _

from devices.choices import ROLLING_KINDS, DiskKind
from devices.import_types import SECRET_KEYS, DiskPlan, Known, PlannedRow
from devices.models import TaxDisk
from devices.sheet_columns import NO_DISK


def plan_disks(rows: list[PlannedRow], known: Known) -> list[DiskPlan]:
    """Find each row's disk: by its number first, then what is left, by place in the company."""
    _check_numbers(rows)
    finder = _DiskFinder(known)
    with_disk = [row for row in rows if _wants_disk(row)]
    for row in sorted(with_disk, key=lambda row: "device_no" not in row.values):
        if row.company is None:
            continue
        terminal = row.values.get("terminal_no")
        plan = DiskPlan(
            row.company,
            row.values.get("device_no"),
            int(terminal) if terminal is not None else None,
            row.values.get("kind", ""),
            {key: row.values[key] for key in SECRET_KEYS if key in row.values},
        )
        if not row.errors and finder.find(row, plan):
            row.disk = plan
            _compare_disk(row, plan, known)
    return [row.disk for row in rows if row.disk is not None]


def _check_numbers(rows: list[PlannedRow]) -> None:
    """A device number stands in one row only; asked of all rows, whatever else is wrong."""
    seen: dict[str, int] = {}
    for row in rows:
        number = row.values.get("device_no")
        if number is None:
            continue
        if number in seen:
            row.errors.append(
                _("盘号 %(no)s 与第 %(row)d 行重复") % {"no": number, "row": seen[number]}
            )
        else:
            seen[number] = row.number


def _wants_disk(row: PlannedRow) -> bool:
    """Also notes what contradicts itself."""
    named = [key for key in ("device_no", *SECRET_KEYS) if key in row.values]
    if row.values.get("kind") == NO_DISK:
        if named:
            row.errors.append(_("设备类型写着没有盘，却填了盘号或口令，请改正"))
        return False
    return bool(named) or "kind" in row.values


class _DiskFinder:
    """Which disk of the agency a row means; no disk is meant by two rows."""

    def __init__(self, known: Known) -> None:
        self._by_number = {disk.device_no: disk for disk in known.disks if disk.device_no}
        self._of_company: dict[int, list[TaxDisk]] = defaultdict(list)
        for disk in known.disks:
            if disk.retired_at is None:
                self._of_company[disk.company_id].append(disk)
        self._taken: set[int] = set()
        self._places: dict[tuple[str, int, str], int] = {}

    def find(self, row: PlannedRow, plan: DiskPlan) -> bool:
        """Set ``plan.disk``; False when there is no disk to write, with the reason on the row."""
        by_number = self._find_numbered(row, plan) if plan.device_no else None
        if row.errors or row.notes:
            return False
        plan.disk = by_number or self._find_placed(row, plan)
        if row.errors:
            return False
        kind = plan.kind or (plan.disk.kind if plan.disk else "")
        if not kind:
            row.errors.append(_("请填设备类型（金税盘、税控盘、税务UKey、税控IC卡）"))
            return False
        number = plan.device_no or (plan.disk.device_no if plan.disk else None)
        if number and (len(number) == 16) != (kind == DiskKind.IC_CARD):
            row.errors.append(_("盘号与设备类型不符：税控 IC 卡的盘号为 16 位，其他盘为 12 位"))
            return False
        if plan.disk is not None:
            self._taken.add(plan.disk.pk)
        return True

    def _find_numbered(self, row: PlannedRow, plan: DiskPlan) -> TaxDisk | None:
        number = plan.device_no or ""
        disk = self._by_number.get(number)
        if disk is None:
            return None
        if plan.owner.company is None or disk.company_id != plan.owner.company.pk:
            row.errors.append(_("盘号 %(no)s 已登记在本机构的另一客户名下") % {"no": number})
        elif disk.retired_at is not None:
            row.notes.append(_("盘号 %(no)s 已注销，不作改动") % {"no": number})
        return disk

    def _find_placed(self, row: PlannedRow, plan: DiskPlan) -> TaxDisk | None:
        """By machine number and kind: the one without a number, else (when the row has none
        either) the one that got its number after an earlier import."""
        terminal = plan.terminal_no or 0
        if not plan.device_no:
            place = (plan.owner.tax_id, terminal, plan.kind)
            if place in self._places:
                row.errors.append(
                    _("与第 %(row)d 行是同一客户、同一开票机号和设备类型，请填盘号或改开票机号")
                    % {"row": self._places[place]}
                )
                return None
            self._places[place] = row.number
        if plan.owner.company is None:
            return None
        here = [
            disk
            for disk in self._of_company[plan.owner.company.pk]
            if disk.pk not in self._taken
            and disk.terminal_no == terminal
            and plan.kind in {"", disk.kind}
        ]
        found = [disk for disk in here if disk.device_no is None]
        if not found and not plan.device_no:
            found = here
        if len(found) > 1:
            row.errors.append(_("该客户有几个盘与此行相符，请填盘号"))
        return found[0] if len(found) == 1 else None


def _compare_disk(row: PlannedRow, plan: DiskPlan, known: Known) -> None:
    """What of a known disk changes. A PIN that the reader machines roll is never overwritten."""
    disk = plan.disk
    if disk is None:
        plan.new_secrets = plan.secrets
        return
    wanted = {
        "device_no": plan.device_no,
        "terminal_no": plan.terminal_no,
        "kind": plan.kind or None,
    }
    plan.changes = {
        key: value
        for key, value in wanted.items()
        if value is not None and getattr(disk, key) != value
    }
    if not plan.secrets:
        return
    present = dict(zip(SECRET_KEYS, known.passwords(disk), strict=True)) if known.passwords else {}
    for key, secret in plan.secrets.items():
        if present.get(key) == secret:
            continue
        if key == "device_password" and disk.kind in ROLLING_KINDS and disk.device_password:
            row.notes.append(_("IC 卡的 PIN 每次办理后自动更换，导入不改；如需更改请用“录入口令”"))
            continue
        plan.new_secrets[key] = secret
