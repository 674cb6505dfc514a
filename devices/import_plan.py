"""What an import would do, row by row: new, changed, the same, or wrong and why. Writes nothing.

Several rows of one tax id are one company; a row that names a disk, its kind or a password is also
a disk of that company (:mod:`devices.import_disks`). A cell that is empty changes nothing. What is
known of the agency comes in as a :class:`devices.import_types.Known`.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Mapping

from django.utils.translation import gettext as _

from agency.choices import FilingFrequency, TaxpayerKind
from agency.models import Bureau, Membership
from agency.taxid import check_tax_id
from devices.import_disks import plan_disks
from devices.import_types import COMPANY_KEYS, CompanyPlan, Known, Plan, PlannedRow, RowStatus
from devices.sheet_columns import BY_KEY, CellError, parse_cell
from devices.sheet_template import EXAMPLE_TAX_ID
from devices.sheets import Row, Trouble, cell_name


def plan_import(rows: tuple[Row, ...], mapping: Mapping[int, str], known: Known) -> Plan:
    """``mapping``: column key by column index. Rows without any mapped cell are left out."""
    columns = {index: key for index, key in mapping.items() if key}
    planned = [_read_row(row, columns) for row in rows if _says_something(row, columns)]
    resolver = _Resolver(known)
    for row in planned:
        resolver.resolve(row)
    companies = _group_companies(planned, known)
    disks = plan_disks(planned, known)
    for company in companies.values():
        _compare_company(company, known)
    for row in planned:
        _judge(row)
    return Plan(planned, list(companies.values()), disks)


def _says_something(row: Row, columns: Mapping[int, str]) -> bool:
    return any(row.text(index) or index in row.troubles for index in columns)


def _read_row(row: Row, columns: Mapping[int, str]) -> PlannedRow:
    """Every mapped cell through its column's parser."""
    planned = PlannedRow(row.number, {})
    for index, key in columns.items():
        name = BY_KEY[key].label
        if index in row.troubles:
            planned.errors.append(_trouble_text(key, row.troubles[index], index, row))
        elif text := row.text(index):
            try:
                planned.values[key] = parse_cell(key, text)
            except CellError as error:
                planned.errors.append(f"{name}：{error}")
        elif key == "tax_id":
            planned.errors.append(
                _("税号为空。如果是合并单元格，请取消合并并把每一行都填上；合计行请删除。")
            )
    if planned.values.get("tax_id") == EXAMPLE_TAX_ID:
        planned.errors.append(_("这是模板里的示例行，请删除。"))
    return planned


def _trouble_text(key: str, trouble: Trouble, index: int, row: Row) -> str:
    about = {"name": BY_KEY[key].label, "cell": cell_name(index, row.number)}
    if trouble is Trouble.FORMULA:
        return (
            _("%(name)s：%(cell)s 是公式，文件里没有计算结果。请用 Excel 打开并保存，或改成值。")
            % about
        )
    if trouble is Trouble.LOST_DIGITS:
        return (
            _("%(name)s：%(cell)s 被 Excel 当成数字，后几位已丢失。请把该列设为文本格式再重填。")
            % about
        )
    return _("%(name)s：%(cell)s 是错误值（如 #N/A），请改正后再导入。") % about


class _Resolver:
    """Turns the texts that name a bureau or people into rows of the database."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._bureaus: dict[str, list[Bureau]] = defaultdict(list)
        for bureau in known.bureaus:
            for name in {bureau.code, _bare(bureau.name), _bare(bureau.name, prefix=True)}:
                self._bureaus[name].append(bureau)
        self._members: dict[str, list[Membership]] = defaultdict(list)
        for member in known.members:
            self._members[member.name].append(member)
        self._closest: dict[str, str] = {}

    def resolve(self, row: PlannedRow) -> None:
        for key, find in (("bureau", self._bureau), ("accountant", self._people)):
            if key in row.values:
                try:
                    row.values[key] = find(row.values[key])
                except CellError as error:
                    del row.values[key]
                    row.errors.append(f"{BY_KEY[key].label}：{error}")

    def _bureau(self, text: str) -> Bureau:
        for name in (_bare(text), _bare(text, prefix=True)):
            if len(found := self._bureaus.get(name, [])) == 1:
                return found[0]
        if text not in self._closest:
            names = [bureau.name for bureau in self._known.bureaus]
            close = difflib.get_close_matches(text, names, n=2, cutoff=0.4)
            self._closest[text] = "、".join(close)
        if self._closest[text]:
            raise CellError(
                _("没有“%(text)s”，是否为：%(close)s")
                % {"text": text, "close": self._closest[text]}
            )
        raise CellError(_("没有“%(text)s”这个税务机关，请填全称或代码") % {"text": text})

    def _people(self, text: str) -> tuple[Membership, ...]:
        people = []
        for name in filter(None, re.split(r"[、，,;；/]\s*|\s{2,}", text)):
            found = self._members.get(name.strip(), [])
            if not found:
                raise CellError(_("本机构没有在用的会计“%(name)s”") % {"name": name})
            if len(found) > 1:
                raise CellError(_("有多位会计叫“%(name)s”，请导入后再分派") % {"name": name})
            if self._known.only_for not in {None, found[0]}:
                raise CellError(_("您只能填自己；分派给别人请联系主管"))
            people.append(found[0])
        return tuple(dict.fromkeys(people))


def _bare(text: str, *, prefix: bool = False) -> str:
    """A bureau's name for comparing; ``prefix``: without the words that all of them begin with."""
    text = re.sub(r"\s", "", text).replace("（", "(").replace("）", ")")
    return text.removeprefix("国家税务总局") if prefix else text


def _group_companies(rows: list[PlannedRow], known: Known) -> dict[str, CompanyPlan]:
    companies: dict[str, CompanyPlan] = {}
    for row in rows:
        tax_id = row.values.get("tax_id")
        if tax_id is None:
            continue
        plan = companies.get(tax_id)
        if plan is None:
            plan = companies[tax_id] = CompanyPlan(tax_id, row.number, known.companies.get(tax_id))
        row.company = plan
        for key in (*COMPANY_KEYS, "accountant"):
            if key not in row.values:
                continue
            if key not in plan.values:
                plan.values[key], plan.said_in[key] = row.values[key], row.number
            elif plan.values[key] != row.values[key]:
                row.errors.append(
                    _("%(name)s：同一税号在第 %(row)d 行写的不一样，请改成一致")
                    % {"name": BY_KEY[key].label, "row": plan.said_in[key]}
                )
    for row in rows:
        if row.company is not None and row.number == row.company.first_row:
            _check_company(row, row.company, known)
    return companies


def _check_company(row: PlannedRow, plan: CompanyPlan, known: Known) -> None:
    if plan.company is None:
        if "name" not in plan.values and not row.errors:
            row.errors.append(_("企业名称为空"))
    elif known.only_for is not None and (plan.company.pk, known.only_for.pk) not in known.assigned:
        row.errors.append(_("该客户已在本机构，但未分派给您，请联系主管。"))


def _compare_company(plan: CompanyPlan, known: Known) -> None:
    """Fill in what a new company needs; of a known one, keep what differs."""
    plan.accountants = plan.values.pop("accountant", ())
    if plan.company is None:
        if not plan.accountants and known.only_for is not None:
            plan.accountants = (known.only_for,)  # else the importer would never see it again
        plan.values.setdefault("short_name", plan.values.get("name", "")[:40])
        if plan.values.get("taxpayer_kind") == TaxpayerKind.GENERAL:
            plan.values.setdefault("filing_frequency", FilingFrequency.MONTHLY)
        plan.values["tax_id_legacy"] = check_tax_id(plan.tax_id).legacy
        plan.assign = plan.accountants
        return
    company = plan.company
    plan.changes = {
        key: value for key, value in plan.values.items() if getattr(company, key) != value
    }
    plan.assign = tuple(
        member for member in plan.accountants if (company.pk, member.pk) not in known.assigned
    )


def _judge(row: PlannedRow) -> None:
    """The row's status and the columns that change, for the preview."""
    company, disk = row.company, row.disk
    if row.errors or company is None:
        row.status = RowStatus.ERROR
        return
    first = row.number == company.first_row
    new = (company.company is None and first) or (disk is not None and disk.disk is None)
    changed: list[str] = []
    if first and company.company is not None:
        changed += company.changes
        if company.assign:
            changed.append("accountant")
    if disk is not None and disk.disk is not None:
        changed += [*disk.changes, *disk.new_secrets]
    if not first and disk is None:
        row.notes.append(_("与第 %(row)d 行是同一客户") % {"row": company.first_row})
    row.fields = [key for key in BY_KEY if key in changed]
    if new:
        row.status = RowStatus.NEW
    elif changed:
        row.status = RowStatus.UPDATE
