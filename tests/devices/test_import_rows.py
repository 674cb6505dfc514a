"""What is wrong with a row, what a bookkeeper may import, and what a heading means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agency.choices import Role
from agency.models import Agency, Assignment, Company, Membership
from agency.scope import agency_scope
from devices import imports
from devices.choices import DiskKind
from devices.models import SheetMapping, TaxDisk
from devices.sheet_template import template_workbook
from tests.conftest import (
    NOW,
    MakeCompany,
    MakeDisk,
    Person,
    add_person,
    bureau,
    fictional_tax_id,
)
from tests.devices.import_sheets import (
    NAMES,
    SECRET,
    errors,
    line,
    own_sheet,
    run,
    sheet,
    upload,
)


@pytest.fixture
def scope(agency: Agency) -> Iterator[None]:
    with agency_scope(agency.pk):
        yield


# — What is wrong with a row


def test_every_bad_row_says_what_is_wrong_with_it_and_nothing_is_written(
    agency: Agency,
    front_desk: Person,
    client_person: Person,
    make_company: MakeCompany,
    scope: None,
) -> None:
    bureau()
    tax_id = fictional_tax_id()
    cases: list[tuple[dict[str, Any], str]] = [
        (line(税号="91310000MA1K35Y992"), "校验位不符"),
        (line(税号=914201000000000000), "后几位已丢失"),
        (line(税号="9.1420E+17"), "后几位已经丢失"),
        (line(税号="=A1"), "是公式"),
        (line(电话="#N/A"), "错误值"),
        (line(税号=None), "税号为空"),
        (line(企业名称=None), "企业名称为空"),
        (line(主管税务机关="国家税务总局武汉市税务局"), "武汉市税务局(模拟)"),
        (line(主管税务机关="海关总署"), "请填全称或代码"),
        (line(记账会计="查无此人"), "查无此人"),
        (line(记账会计="王前台"), "王前台"),
        (line(记账会计="李客户"), "李客户"),
        (line(设备类型="黄盘"), "金税盘"),
        (line(盘号="661234567890"), "请填设备类型"),
        (line(设备口令=SECRET), "请填设备类型"),
        (line(设备类型="数电", 盘号="661234567891"), "没有盘"),
        (line(设备类型="IC卡", 盘号="661234567892"), "不符"),
        (line(盘号="661234567893", 设备类型="白盘", 税号=tax_id), ""),
        (line(盘号="661234567893", 设备类型="白盘"), "与第 19 行重复"),
        (line(税号=tax_id, 企业名称="另一家"), "在第 19 行写的不一样"),
        (line(设备类型="白盘", 设备口令="short"), "8 位"),
    ]
    lines = [case for case, _words in cases]
    for found, (_case, words) in zip(errors(agency, *lines), cases, strict=True):
        assert words in found if words else found == ""
    with pytest.raises(imports.ImportRefused, match="没有导入任何数据"):
        run(agency, *lines)
    assert not Company.objects.exists()
    assert not TaxDisk.objects.exists()
    assert not SheetMapping.objects.exists()


def test_a_disk_of_another_company_is_refused_and_one_of_another_agency_is_unseen(
    agency: Agency, other_agency: Agency, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    make_disk(make_company(), kind=DiskKind.UKEY, device_no="661234567890")
    make_disk(make_company(of=other_agency), kind=DiskKind.UKEY, device_no="661234567891")
    with agency_scope(agency.pk):
        assert errors(
            agency,
            line(盘号="661234567890", 设备类型="UKey"),
            line(盘号="661234567891", 设备类型="UKey"),
        ) == ["盘号 661234567890 已登记在本机构的另一客户名下", ""]


def test_two_disks_without_a_number_at_one_place_are_refused(agency: Agency, scope: None) -> None:
    tax_id = fictional_tax_id()
    found = errors(agency, line(税号=tax_id, 设备类型="白盘"), {"税号": tax_id, "设备类型": "白盘"})
    assert "与第 2 行" in found[1]


def test_a_bureau_is_found_by_name_short_name_or_code_and_a_simulated_one_in_practice_only(
    agency: Agency, scope: None
) -> None:
    office = bureau()
    names = [office.name, office.code, "武汉市税务局（模拟）"]
    assert errors(agency, *[line(主管税务机关=name) for name in names]) == ["", "", ""]
    Agency.objects.filter(pk=agency.pk).update(practice=False)
    assert "模拟" in errors(agency, line(主管税务机关=office.name))[0]


def test_two_people_of_one_name_cannot_be_told_apart(
    agency: Agency, bookkeeper: Person, scope: None
) -> None:
    add_person(agency, Role.BOOKKEEPER, "郑会计")
    assert "有多位会计" in errors(agency, line(记账会计="郑会计"))[0]
    Membership.objects.filter(pk=bookkeeper.member.pk).update(active=False)
    assert errors(agency, line(记账会计="郑会计")) == [""]


def test_the_example_row_of_the_template_does_not_become_a_client(
    agency: Agency, scope: None
) -> None:
    (row,) = imports.preview(upload(agency, template_workbook())).rows
    assert row.errors == ["这是模板里的示例行，请删除。"]


# — A bookkeeper who may import


def test_a_bookkeepers_own_import_stays_with_her(
    agency: Agency,
    bookkeeper: Person,
    supervisor: Person,
    make_company: MakeCompany,
    scope: None,
) -> None:
    hers, foreign = make_company(assigned_to=bookkeeper), make_company()
    found = errors(
        agency,
        {"税号": hers.tax_id, "电话": "1"},
        {"税号": foreign.tax_id, "电话": "1"},
        line(记账会计="吴主管"),
        line(记账会计="郑会计"),
        user=bookkeeper.user.pk,
    )
    assert found[0] == found[3] == ""
    assert "未分派给您" in found[1]
    assert "只能填自己" in found[2]
    run(agency, new := line(), user=bookkeeper.user.pk)
    assert Assignment.objects.get(company__tax_id=new["税号"]).membership == bookkeeper.member


# — The mapping


def test_a_missing_column_is_named_and_no_row_is_looked_at(agency: Agency, scope: None) -> None:
    draft = upload(agency, own_sheet())
    found = imports.preview(draft)
    assert (found.missing, found.rows, found.confirmable) == (["税号"], [], False)
    with pytest.raises(imports.ImportRefused):
        imports.confirm(draft, now=NOW)


def test_a_corrected_mapping_is_remembered_for_the_next_sheet(agency: Agency, scope: None) -> None:
    draft = upload(agency, own_sheet())
    mapping = {**imports.preview(draft).mapping, 2: "tax_id"}
    assert imports.preview(draft, mapping).confirmable
    imports.confirm(draft, mapping, now=NOW)
    found = imports.preview(upload(agency, own_sheet()))
    assert found.missing == []
    assert found.columns[2].remembered
    # The phone that lost to the better heading is not held to be worthless for ever.
    assert not SheetMapping.objects.filter(heading="手机").exists()


def test_a_heading_that_is_not_wanted_stays_out_next_time(agency: Agency, scope: None) -> None:
    draft = upload(agency, sheet(line(电话="1")))
    phone = NAMES.index("电话")
    imports.confirm(draft, {**imports.preview(draft).mapping, phone: ""}, now=NOW)
    assert Company.objects.get().phone == ""
    assert imports.preview(upload(agency, sheet(line()))).mapping[phone] == ""


def test_one_column_chosen_twice_is_refused(agency: Agency, scope: None) -> None:
    draft = upload(agency, sheet(line()))
    found = imports.preview(draft, {0: "name", 1: "name", 2: "tax_id"})
    assert "“企业名称”" in found.problems[0]
    assert not found.confirmable


def test_a_mapping_is_the_agencys_own(agency: Agency, other_agency: Agency) -> None:
    with agency_scope(other_agency.pk):
        draft = upload(other_agency, own_sheet())
        imports.confirm(draft, {1: "name", 2: "tax_id"}, now=NOW)
    with agency_scope(agency.pk):
        assert imports.preview(upload(agency, own_sheet())).missing == ["税号"]
