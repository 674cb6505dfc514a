"""The two walls, and what happens without a scope."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django_scopes import ScopeError, scopes_disabled

from agency import audit
from agency.choices import Action
from agency.models import Agency, AuditEntry, Company, User
from agency.scope import agency_scope, current_agency_id, reading_only
from tests.conftest import NOW, MakeCompany


def test_without_a_scope_the_application_raises(agency: Agency) -> None:
    with pytest.raises(ScopeError):
        Company.objects.count()


def test_without_a_scope_the_database_raises_and_is_never_empty(
    agency: Agency, make_company: MakeCompany
) -> None:
    make_company()
    with (
        scopes_disabled(),
        pytest.raises(DatabaseError, match="no agency scope"),
        transaction.atomic(),
    ):
        Company.objects.count()


def test_with_the_applications_scope_switched_off_the_policy_still_hides_the_other_agency(
    agency: Agency, other_agency: Agency, make_company: MakeCompany
) -> None:
    ours = make_company()
    make_company(of=other_agency)
    with agency_scope(agency.pk), scopes_disabled():
        assert list(Company.objects.values_list("pk", flat=True)) == [ours.pk]


def test_a_row_for_another_agency_is_refused_by_the_policy(
    agency: Agency, other_agency: Agency
) -> None:
    with (
        pytest.raises(DatabaseError, match="row-level security"),
        agency_scope(agency.pk),
    ):
        Company.objects.create(agency=other_agency, short_name="x", name="x", tax_id="x")


def test_a_foreign_key_to_another_agencys_row_is_refused(
    agency: Agency, other_agency: Agency, make_company: MakeCompany
) -> None:
    from devices.models import TaxDisk

    theirs = make_company(of=other_agency)
    with pytest.raises(DatabaseError, match="company_id_tenant"), agency_scope(agency.pk):
        TaxDisk.objects.create(agency=agency, company_id=theirs.pk, kind="ic_card")


def test_a_nested_scope_gives_the_outer_agency_back(agency: Agency, other_agency: Agency) -> None:
    def in_database() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('qingka.agency', true)")
            return str(cursor.fetchone()[0])

    with agency_scope(agency.pk):
        with agency_scope(other_agency.pk):
            assert (current_agency_id(), in_database()) == (other_agency.pk, str(other_agency.pk))
        assert (current_agency_id(), in_database()) == (agency.pk, str(agency.pk))


def test_a_reading_scope_sees_its_agency_and_writes_nothing(
    agency: Agency, other_agency: Agency, make_company: MakeCompany
) -> None:
    ours = make_company()
    make_company(of=other_agency)
    with agency_scope(agency.pk):
        with reading_only():
            assert Company.objects.get() == ours
            with scopes_disabled():
                assert list(Company.objects.values_list("pk", flat=True)) == [ours.pk]
            for write in (
                lambda: Company.objects.update(remark="x"),
                lambda: Company.objects.all().delete(),
                lambda: Agency.objects.filter(pk=agency.pk).update(name="x"),
                lambda: User.objects.count(),
                lambda: AuditEntry.objects.create(agency=agency, sequence=99, at=NOW),
            ):
                with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
                    write()
            audit.record(Action.COMPANY_CHANGED)
        Company.objects.update(remark="y")
        with pytest.raises(KeyError), reading_only():
            raise KeyError
        Company.objects.update(remark="z")
    with agency_scope(agency.pk):
        assert AuditEntry.objects.filter(action=Action.COMPANY_CHANGED).count() == 1


@pytest.mark.committed
def test_a_scope_of_its_own_transaction_sets_the_agency_once(agency: Agency) -> None:
    with CaptureQueriesContext(connection) as asked, agency_scope(agency.pk):
        pass
    assert len([query for query in asked if "set_config" in query["sql"]]) == 1


@pytest.mark.committed
def test_the_scope_ends_with_its_transaction(agency: Agency, make_company: MakeCompany) -> None:
    make_company()
    with agency_scope(agency.pk):
        assert Company.objects.count() == 1
    with scopes_disabled(), pytest.raises(DatabaseError, match="no agency scope"):
        Company.objects.count()
