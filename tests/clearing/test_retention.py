"""How long backups are kept: never shorter than the law, never past a hold, always in the trail."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction

from agency.errors import ServiceError
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.models import Backup
from clearing.services.retention import (
    backup_years_set,
    backups_hold,
    backups_release,
    close_expired,
    kept_through,
    remove_closed,
)
from devices.models import TaxDisk
from tests.clearing.kept import kept, years_ago
from tests.conftest import MakeCompany, MakeDisk

Again = Callable[[Backup], Backup]

pytestmark = pytest.mark.usefixtures("storage")
NOW = dt.datetime(2026, 11, 24, 3, tzinfo=dt.UTC)


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company())


def night(agency: Agency, now: dt.datetime = NOW) -> int:
    """What the nightly task does."""
    with agency_scope(agency.pk):
        closed = close_expired(agency=agency, now=now)
    with agency_scope(agency.pk):
        remove_closed()
    return closed


def there(backup: Backup) -> bool:
    return default_storage.exists(backup.storage_name)


def test_ten_years_count_from_the_end_of_the_year() -> None:
    made = dt.datetime(2026, 12, 31, 15, 59, tzinfo=dt.UTC)  # 23:59 in Beijing
    assert kept_through(made, 10) == dt.date(2036, 12, 31)
    assert kept_through(made + dt.timedelta(minutes=1), 10) == dt.date(2037, 12, 31)


def test_the_last_day_keeps_and_the_next_deletes(
    agency: Agency, disk: TaxDisk, again: Again
) -> None:
    backup = kept(disk, created_at=dt.datetime(2016, 3, 9, tzinfo=dt.UTC))
    last = dt.datetime(2026, 12, 31, 15, 59, tzinfo=dt.UTC)

    assert night(agency, last) == 0
    assert there(backup)
    assert night(agency, last + dt.timedelta(minutes=1)) == 1

    assert not there(backup)
    row = again(backup)
    assert (row.storage_name, row.sha256) == ("", backup.sha256)
    assert row.deleted_at is not None
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action="backup.deleted")
    assert (entry.company_id, entry.data["backup"]) == (disk.company_id, backup.pk)
    assert night(agency, last + dt.timedelta(days=1)) == 0


def test_a_held_company_loses_nothing_and_another_does(
    agency: Agency, disk: TaxDisk, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    held, free = kept(disk, created_at=years_ago(30)), kept(make_disk(make_company()))
    with agency_scope(agency.pk):
        Backup.objects.filter(pk=free.pk).update(created_at=years_ago(30))
        backups_hold(company=disk.company, reason="税务稽查", by="吴主管", now=NOW)

    assert night(agency) == 1
    assert there(held)
    assert not there(free)

    with agency_scope(agency.pk):
        backups_release(company=disk.company, reason="稽查结束", by="吴主管", now=NOW)
    with agency_scope(agency.pk):
        trail = list(
            AuditEntry.objects.filter(company_id=disk.company_id, action__startswith="backups.")
            .order_by("sequence")
            .values_list("action", "data__reason")
        )
    assert trail == [("backups.held", "税务稽查"), ("backups.hold_lifted", "稽查结束")]
    assert night(agency) == 1
    assert not there(held)


def test_a_hold_needs_a_reason_and_stands_once(agency: Agency, disk: TaxDisk) -> None:
    with agency_scope(agency.pk):
        with pytest.raises(ServiceError, match="原因"):
            backups_hold(company=disk.company, reason="  ", by="x", now=NOW)
        with pytest.raises(ServiceError, match="没有冻结"):
            backups_release(company=disk.company, reason="r", by="x", now=NOW)
        backups_hold(company=disk.company, reason="r", by="x", now=NOW)
        with pytest.raises(ServiceError, match="已经冻结"):
            backups_hold(company=disk.company, reason="r", by="x", now=NOW)


def test_a_file_that_a_younger_backup_names_stays(
    agency: Agency, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    disk = make_disk(make_company())
    old = kept(disk, b"same", created_at=years_ago(30))
    with agency_scope(agency.pk):
        young = Backup.objects.get(pk=old.pk)
        young.pk, young.created_at, young.sha256 = None, NOW, "0" * 64
        young.save()

    assert night(agency) == 1
    assert there(young)


def test_a_crash_between_row_and_file_is_finished_by_the_next_night(
    agency: Agency, disk: TaxDisk
) -> None:
    backup = kept(disk, created_at=years_ago(30))
    with agency_scope(agency.pk):
        close_expired(agency=agency, now=NOW)
    assert there(backup)

    night(agency)

    assert not there(backup)


def test_the_time_is_an_agencys_own_but_never_below_the_law(agency: Agency, disk: TaxDisk) -> None:
    backup = kept(disk, created_at=years_ago(12))
    with agency_scope(agency.pk):
        backup_years_set(agency=agency, years=15)
    assert night(agency) == 0
    for years in (9, 0, -1, 101):
        with agency_scope(agency.pk), pytest.raises(ServiceError, match="10"):
            backup_years_set(agency=agency, years=years)
    with pytest.raises(IntegrityError), transaction.atomic():
        Agency.objects.filter(pk=agency.pk).update(backup_years=9)
    with agency_scope(agency.pk):
        backup_years_set(agency=agency, years=10)
    assert night(agency) == 1
    assert not there(backup)
