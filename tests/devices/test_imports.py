"""An agency's sheet becomes companies, disks, passwords and assignments: all of it or nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agency.choices import ClearPolicy, FilingFrequency, TaxpayerKind
from agency.models import Agency, Assignment, Company
from agency.scope import agency_scope
from agency.sealing import SealError, open_sealed
from devices.choices import DiskKind, PasswordState
from devices.import_types import RowStatus
from devices.import_write import ImportResult
from devices.models import TaxDisk
from devices.services import disk_passwords
from tests.conftest import (
    NOW,
    MakeCompany,
    MakeDisk,
    Person,
    bureau,
    fictional_tax_id,
)
from tests.devices.import_sheets import (
    CERTIFICATE,
    LATER,
    SECRET,
    line,
    planned,
    run,
)


@pytest.fixture
def scope(agency: Agency) -> Iterator[None]:
    with agency_scope(agency.pk):
        yield


# — New companies and disks


def test_a_full_row_becomes_a_company_with_its_disk_and_its_bookkeeper(
    agency: Agency, bookkeeper: Person, scope: None
) -> None:
    office = bureau()
    result = run(
        agency,
        line(
            客户简称="虚构",
            纳税人类型="一般纳税人",
            申报周期="按月",
            主管税务机关=office.name,
            清卡时机="直接尝试",
            记账会计="郑会计",
            联系人="张三",
            电话=13800000000,
            盘号="661234567890",
            开票机号=1,
            设备类型="税控盘",
            设备口令=SECRET,
            证书口令=CERTIFICATE,
        ),
    )
    assert result == ImportResult(1, 0, 1, 0)
    company = Company.objects.get()
    assert (company.short_name, company.name) == ("虚构", "武汉虚构有限公司")
    assert company.taxpayer_kind == TaxpayerKind.GENERAL
    assert company.filing_frequency == FilingFrequency.MONTHLY
    assert company.clear_policy == ClearPolicy.TRY
    assert (company.bureau, company.contact, company.phone) == (office, "张三", "13800000000")
    assert not company.tax_id_legacy
    assert Assignment.objects.get(company=company).membership == bookkeeper.member
    disk = TaxDisk.objects.get()
    assert (disk.company, disk.device_no, disk.terminal_no) == (company, "661234567890", 1)
    assert disk.kind == DiskKind.BAIWANG
    assert (disk.password_state, disk.password_entered_at) == (PasswordState.UNTRIED, LATER)
    assert disk_passwords(disk) == (SECRET, CERTIFICATE)


def test_a_bare_row_becomes_a_company_without_a_disk(agency: Agency, scope: None) -> None:
    legacy = "420100123456789"
    assert run(agency, line(税号=legacy), line(设备类型="数电")) == ImportResult(2, 0, 0, 0)
    company = Company.objects.get(tax_id=legacy)
    assert company.short_name == company.name
    assert company.tax_id_legacy
    assert company.filing_frequency == FilingFrequency.QUARTERLY


def test_a_general_taxpayer_without_a_word_on_it_files_by_month(
    agency: Agency, scope: None
) -> None:
    run(agency, line(纳税人类型="一般"))
    assert Company.objects.get().filing_frequency == FilingFrequency.MONTHLY


def test_several_rows_of_one_tax_id_are_one_company_with_several_disks(
    agency: Agency, scope: None
) -> None:
    tax_id = fictional_tax_id()
    result = run(
        agency,
        line(税号=tax_id, 盘号="661234567890", 设备类型="金税盘", 电话="1"),
        {"税号": tax_id, "盘号": "661234567891", "设备类型": "金税盘", "开票机号": "分机1"},
        {"税号": tax_id, "设备类型": "UKey", "开票机号": 2},
    )
    assert result == ImportResult(1, 0, 3, 0)
    disks = TaxDisk.objects.order_by("terminal_no")
    assert [(d.terminal_no, d.device_no) for d in disks] == [
        (0, "661234567890"),
        (1, "661234567891"),
        (2, None),
    ]
    assert {disk.password_state for disk in disks} == {PasswordState.MISSING}


def test_passwords_of_two_disks_are_bound_each_to_its_own(agency: Agency, scope: None) -> None:
    run(
        agency,
        line(盘号="661234567890", 设备类型="白盘", 设备口令=SECRET),
        line(盘号="661234567891", 设备类型="白盘", 设备口令=SECRET),
    )
    first, second = TaxDisk.objects.order_by("pk")
    sealed = bytes(first.device_password or b"")
    assert open_sealed(sealed, context=first.seal_context).decode() == SECRET
    with pytest.raises(SealError):
        open_sealed(sealed, context=second.seal_context)


# — Importing again


def test_importing_the_same_sheet_again_changes_nothing(
    agency: Agency, bookkeeper: Person, scope: None
) -> None:
    lines = [
        line(记账会计="郑会计", 盘号="661234567890", 设备类型="白盘", 设备口令=SECRET),
        line(设备类型="UKey", 证书口令=CERTIFICATE),
    ]
    run(agency, *lines)
    TaxDisk.objects.update(password_state=PasswordState.GOOD)
    assert [row.status for row in planned(agency, *lines)] == [RowStatus.SAME, RowStatus.SAME]
    assert run(agency, *lines) == ImportResult(0, 0, 0, 0)
    assert not TaxDisk.objects.exclude(password_state=PasswordState.GOOD).exists()


def test_only_what_the_sheet_says_is_changed_and_the_preview_names_it(
    agency: Agency, make_company: MakeCompany, scope: None
) -> None:
    company = make_company(contact="张三", phone="1", remark="老客户")
    (row,) = planned(agency, {"税号": company.tax_id, "电话": "2", "企业名称": company.name})
    assert (row.status, row.fields) == (RowStatus.UPDATE, ["phone"])
    assert run(agency, {"税号": company.tax_id, "电话": "2"}) == ImportResult(0, 1, 0, 0)
    company.refresh_from_db()
    assert (company.phone, company.contact, company.remark) == ("2", "张三", "老客户")


def test_a_changed_password_is_untried_and_the_disks_own_count_of_tries_stays(
    agency: Agency, make_company: MakeCompany, make_disk: MakeDisk, scope: None
) -> None:
    company = make_company()
    disk = make_disk(company, kind=DiskKind.BAIWANG, device_no="661234567890")
    TaxDisk.objects.update(password_state=PasswordState.WRONG, tries_left=2)
    again = {"税号": company.tax_id, "盘号": "661234567890", "设备口令": "12345678"}
    assert planned(agency, again)[0].status == RowStatus.SAME  # the same wrong one is no news
    (row,) = planned(agency, {**again, "设备口令": SECRET})
    assert row.fields == ["device_password"]
    run(agency, {**again, "设备口令": SECRET})
    disk.refresh_from_db()
    assert (disk.password_state, disk.tries_left) == (PasswordState.UNTRIED, 2)
    assert disk.password_entered_at == LATER
    assert disk_passwords(disk)[0] == SECRET


def test_a_rolled_pin_is_never_overwritten_by_the_one_in_the_sheet(
    agency: Agency, make_company: MakeCompany, make_disk: MakeDisk, scope: None
) -> None:
    company = make_company()
    disk = make_disk(company, device_no="6619000012345678")
    TaxDisk.objects.update(pin_generation=5)
    row = {"税号": company.tax_id, "盘号": disk.device_no, "设备口令": SECRET}
    (seen,) = planned(agency, row)
    assert seen.status == RowStatus.SAME
    assert "PIN" in seen.notes[0]
    run(agency, row)
    disk.refresh_from_db()
    assert disk_passwords(disk)[0] == "12345678"
    assert disk.pin_generation == 5


def test_a_new_pin_begins_a_generation_so_that_no_older_one_replaces_it(
    agency: Agency, scope: None
) -> None:
    run(agency, line(盘号="6619000012345678", 设备类型="税控IC卡", 设备口令="12345678"))
    assert TaxDisk.objects.get().pin_generation == 1


def test_a_number_in_a_later_sheet_goes_to_the_disk_that_had_none(
    agency: Agency, scope: None
) -> None:
    first = line(设备类型="金税盘", 开票机号=1)
    run(agency, first)
    (row,) = planned(agency, {**first, "盘号": "661234567890"})
    assert (row.status, row.fields) == (RowStatus.UPDATE, ["device_no"])
    assert run(agency, {**first, "盘号": "661234567890"}) == ImportResult(0, 0, 0, 1)
    assert TaxDisk.objects.get().device_no == "661234567890"


def test_a_sheet_without_numbers_means_the_same_disk_after_it_got_its_number(
    agency: Agency, scope: None
) -> None:
    first = line(设备类型="金税盘")
    run(agency, first)
    TaxDisk.objects.update(device_no="661234567890")
    assert run(agency, first) == ImportResult(0, 0, 0, 0)
    assert run(agency, {**first, "设备口令": SECRET}) == ImportResult(0, 0, 0, 1)
    assert TaxDisk.objects.get().device_no == "661234567890"


def test_no_disk_is_meant_by_two_rows(agency: Agency, scope: None) -> None:
    first = line(设备类型="金税盘")
    run(agency, first)
    run(agency, {**first, "盘号": "661234567890"}, first)
    assert sorted(str(d.device_no) for d in TaxDisk.objects.all()) == ["661234567890", "None"]


def test_a_retired_disk_stays_as_it_is(
    agency: Agency, make_company: MakeCompany, make_disk: MakeDisk, scope: None
) -> None:
    company = make_company()
    make_disk(company, kind=DiskKind.UKEY, device_no="661234567890")
    TaxDisk.objects.update(retired_at=NOW)
    row = {"税号": company.tax_id, "盘号": "661234567890", "设备口令": SECRET}
    (seen,) = planned(agency, row)
    assert (seen.status, "已注销" in seen.notes[0]) == (RowStatus.SAME, True)
    assert run(agency, row) == ImportResult(0, 0, 0, 0)
    assert disk_passwords(TaxDisk.objects.get())[0] == "12345678"


def test_another_bookkeeper_is_added_and_the_first_one_stays(
    agency: Agency, bookkeeper: Person, supervisor: Person, make_company: MakeCompany, scope: None
) -> None:
    company = make_company(assigned_to=bookkeeper)
    (row,) = planned(agency, {"税号": company.tax_id, "记账会计": "郑会计、吴主管"})
    assert row.fields == ["accountant"]
    run(agency, {"税号": company.tax_id, "记账会计": "郑会计、吴主管"})
    assert set(Assignment.objects.values_list("membership_id", flat=True)) == {
        bookkeeper.member.pk,
        supervisor.member.pk,
    }
