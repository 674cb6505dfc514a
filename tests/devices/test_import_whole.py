"""The draft, the transaction, the trail and the load of an import."""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from agency.choices import Action
from agency.models import Agency, AuditEntry, Company
from agency.scope import agency_scope
from agency.sealing import SealError
from devices import import_write, imports
from devices.import_write import ImportResult
from devices.models import ImportDraft
from devices.sheets import SheetError
from tests.conftest import (
    NOW,
    MakeCompany,
    MakeDisk,
    Person,
    fictional_tax_id,
)
from tests.devices.import_sheets import (
    CERTIFICATE,
    LATER,
    SECRET,
    line,
    run,
    sheet,
    upload,
)


@pytest.fixture
def scope(agency: Agency) -> Iterator[None]:
    with agency_scope(agency.pk):
        yield


# — The draft


def test_a_draft_is_sealed_bound_and_opens_for_its_creator_only(
    agency: Agency, owner: Person, supervisor: Person, scope: None
) -> None:
    draft = upload(agency, sheet(line(设备类型="白盘", 设备口令=SECRET)), user=owner.user.pk)
    assert SECRET.encode() not in bytes(draft.content)
    assert imports.draft_find(draft.pk, user_id=owner.user.pk, now=LATER) == draft
    assert imports.draft_find(draft.pk, user_id=supervisor.user.pk, now=LATER) is None
    draft.created_by = supervisor.user.pk
    with pytest.raises(SealError):
        imports.preview(draft)


def test_a_draft_ends_with_the_confirmation_with_cancelling_and_after_a_day(
    agency: Agency, scope: None
) -> None:
    draft = upload(agency, sheet(line()))
    imports.confirm(draft, now=NOW)
    with pytest.raises(imports.ImportRefused, match="已经导入或取消"):
        imports.confirm(draft, now=NOW)
    imports.draft_discard(upload(agency, sheet(line())))
    assert not ImportDraft.objects.exists()
    old = upload(agency, sheet(line()))
    tomorrow = NOW + dt.timedelta(days=1, seconds=1)
    assert imports.draft_find(old.pk, user_id=0, now=tomorrow) is None
    young = upload(agency, sheet(line()), now=tomorrow)
    assert list(ImportDraft.objects.all()) == [young]


def test_an_unreadable_file_leaves_no_draft(agency: Agency, scope: None) -> None:
    with pytest.raises(SheetError):
        upload(agency, b"PK\x03\x04 broken")
    assert not ImportDraft.objects.exists()


# — All or nothing, the trail, the load


def test_a_tax_id_added_by_someone_else_meanwhile_undoes_everything(
    agency: Agency, scope: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = line(), line()
    draft = upload(agency, sheet(first, second))
    write = import_write.write_plan

    def someone_is_faster(*args: Any, **kwargs: Any) -> ImportResult:
        Company.objects.create(agency=agency, short_name="x", name="x", tax_id=second["税号"])
        return write(*args, **kwargs)

    monkeypatch.setattr(imports, "write_plan", someone_is_faster)
    with pytest.raises(imports.ImportRefused, match="刚刚有人改动"):
        imports.confirm(draft, now=NOW)
    assert not Company.objects.exists()
    assert ImportDraft.objects.filter(pk=draft.pk).exists()


def test_a_pin_that_arrives_meanwhile_is_not_lost_to_the_import(
    agency: Agency, make_company: MakeCompany, make_disk: MakeDisk, scope: None
) -> None:
    disk = make_disk(make_company(), device_no="6619000012345678")
    with CaptureQueriesContext(
        connection,
    ) as seen:
        run(agency, {"税号": disk.company.tax_id, "盘号": disk.device_no, "开票机号": 3})
    reading = [q["sql"] for q in seen if "FOR NO KEY UPDATE" in q["sql"]]
    assert any('"devices_taxdisk"' in sql for sql in reading)
    updates = [q["sql"] for q in seen if q["sql"].startswith('UPDATE "devices_taxdisk"')]
    assert updates and not any("device_password" in sql for sql in updates)


def test_the_trail_names_the_import_and_each_company_and_never_a_password(
    agency: Agency, make_company: MakeCompany, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    old = make_company(phone="1")
    with agency_scope(agency.pk):
        run(
            agency,
            line(盘号="661234567890", 设备类型="白盘", 设备口令=SECRET, 证书口令=CERTIFICATE),
            {"税号": old.tax_id, "电话": "2"},
        )
    with agency_scope(agency.pk):
        new = Company.objects.exclude(pk=old.pk).get()
        entries = list(AuditEntry.objects.filter(sequence__gt=1).order_by("sequence"))
        assert [(entry.action, entry.company_id) for entry in entries] == [
            (Action.CLIENTS_IMPORTED, None),
            (Action.COMPANY_CREATED, new.pk),
            (Action.COMPANY_CHANGED, old.pk),
            (Action.DISK_ADDED, new.pk),
        ]
        assert entries[3].data == {"kind": "baiwang", "device": True, "certificate": True}
        assert entries[0].data == {
            "file": "客户.xlsx",
            "companies_new": 1,
            "companies_updated": 1,
            "disks_new": 1,
            "disks_updated": 0,
            "created": [new.pk],
        }
        assert entries[2].data == {"changes": {"phone": ["1", "2"]}}
        told = json.dumps([entry.data for entry in entries]) + caplog.text
    assert SECRET not in told
    assert CERTIFICATE not in told


def test_no_error_note_or_representation_of_the_preview_shows_a_password(
    agency: Agency, scope: None
) -> None:
    tax_id = fictional_tax_id()
    found = imports.preview(
        upload(
            agency,
            sheet(
                line(税号=tax_id, 设备类型="白盘", 设备口令=SECRET, 证书口令=SECRET),
                line(税号=tax_id, 设备类型="白盘", 设备口令="x" + SECRET, 证书口令=SECRET + "x"),
                line(税号=tax_id + "1", 设备类型=None, 设备口令=SECRET),
            ),
        )
    )
    told = repr(found) + repr(found.rows) + repr(found.columns) + repr(found.plan)
    for row in found.rows:
        told += str(row.errors) + str(row.notes) + str(found.shown(row))
    assert SECRET not in told
    assert imports.HIDDEN in told


def test_the_number_of_queries_does_not_grow_with_the_rows(
    agency: Agency, bookkeeper: Person
) -> None:
    def queries(lines: Sequence[Mapping[str, Any]]) -> int:
        data = sheet(*lines)
        with CaptureQueriesContext(connection) as seen, agency_scope(agency.pk):
            imports.preview(draft := upload(agency, data))
            imports.confirm(draft, now=NOW)
        return len(seen)

    def lines(count: int, number: int) -> list[dict[str, Any]]:
        return [
            line(
                记账会计="郑会计",
                盘号=f"66{number + i:010d}",
                设备类型="白盘",
                设备口令=SECRET,
                电话="1",
            )
            for i in range(count)
        ]

    few, many = lines(3, 0), lines(200, 1000)
    assert queries(few) == queries(many)
    changed = [{**row, "电话": "2", "设备口令": CERTIFICATE, "开票机号": "1"} for row in many]
    assert queries([{**few[0], "电话": "2", "设备口令": "87654321", "开票机号": "1"}]) == queries(
        changed
    )


def test_ten_thousand_rows_take_seconds(agency: Agency, bookkeeper: Person) -> None:
    data = sheet(
        *[
            line(记账会计="郑会计", 盘号=f"66{i:010d}", 设备类型="白盘", 设备口令=SECRET)
            for i in range(10_000)
        ]
    )
    start = time.process_time()
    with agency_scope(agency.pk):
        draft = upload(agency, data)
        assert imports.preview(draft).counts == {
            "new": 10_000,
            "update": 0,
            "same": 0,
            "error": 0,
        }
        assert imports.confirm(draft, now=NOW) == ImportResult(10_000, 0, 10_000, 0)
    assert time.process_time() - start < 60
