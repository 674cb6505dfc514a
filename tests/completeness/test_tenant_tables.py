"""No tenant table without its walls: introspected from the database, not from a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.db import connection

from agency import access
from agency.tenancy import READER_SQL, TenantForeignKey, TenantModel
from deploy.embedded import EmbeddedPostgres

# Tables without a policy, each with its reason.
OPEN_TABLES = {
    "account_emailaddress": "allauth's own, unused",
    "account_emailconfirmation": "allauth's own, unused",
    "agency_agency": "id and name are needed to sign in",
    "agency_bureau": "the same for all agencies",
    "agency_headhandover": "which day's signed heads have left, no agency's data",
    "agency_signedhead": "hashes only, handed out anyway",
    "agency_user": "a person can belong to several agencies",
    "agency_user_groups": "Django's own, unused",
    "agency_user_user_permissions": "Django's own, unused",
    "auth_group": "Django's own",
    "auth_group_permissions": "Django's own",
    "auth_permission": "Django's own",
    "clearing_bureauoutage": "an address that several agencies found down; says nothing of them",
    "clearing_deadlinenotice": "the operator's default for all agencies",
    "clearing_tick": "when a job came round",
    "django_admin_log": "Django's own, unused: the operator's site writes nothing",
    "django_content_type": "Django's own",
    "django_migrations": "Django's own",
    "django_session": "a person's, before an agency is chosen",
    "mfa_authenticator": "a person's second factor, sealed",
    "usersessions_usersession": "a person's sessions",
}


def rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


TENANT_TABLES = {
    model._meta.db_table for model in apps.get_models() if issubclass(model, TenantModel)
}


@pytest.mark.usefixtures("database")
def test_every_table_is_a_tenants_or_stands_in_the_list_of_open_ones() -> None:
    tables = {name for (name,) in rows("SELECT tablename FROM pg_tables WHERE schemaname='public'")}
    assert tables == TENANT_TABLES | set(OPEN_TABLES)
    assert not TENANT_TABLES & set(OPEN_TABLES)


@pytest.mark.usefixtures("database")
def test_every_tenant_table_has_a_forced_policy_for_the_application() -> None:
    forced = {
        name
        for (name,) in rows(
            "SELECT relname FROM pg_class WHERE relrowsecurity AND relforcerowsecurity"
        )
    }
    assert forced == TENANT_TABLES
    policies = {
        (table, tuple(sorted(roles)))
        for table, roles in rows(
            "SELECT tablename, roles FROM pg_policies WHERE policyname = 'tenant'"
            " AND qual LIKE '%current_agency()%' AND with_check LIKE '%current_agency()%'"
        )
    }
    assert policies == {(table, ("qingka_app", "qingka_reader")) for table in TENANT_TABLES}


@pytest.mark.usefixtures("database")
def test_the_reading_role_reads_the_tenants_tables_and_the_names_beside_them() -> None:
    granted = rows(
        "SELECT relname, privilege_type FROM pg_class,"
        " aclexplode(relacl) AS granted WHERE grantee = 'qingka_reader'::regrole"
    )
    names = {"agency_agency", "agency_bureau", "django_content_type"}
    assert set(granted) == {(table, "SELECT") for table in TENANT_TABLES | names}


@pytest.mark.usefixtures("database")
def test_every_unique_constraint_of_a_tenant_table_contains_the_agency() -> None:
    found = rows(
        """SELECT t.relname, i.relname, array_agg(a.attname::text)
           FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid
           JOIN pg_class i ON i.oid = x.indexrelid
           JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY(x.indkey)
           WHERE x.indisunique AND NOT x.indisprimary AND t.relnamespace = 'public'::regnamespace
           GROUP BY 1, 2"""
    )
    wrong = [
        (table, index)
        for table, index, columns in found
        if table in TENANT_TABLES and "agency_id" not in columns
    ]
    assert found
    assert wrong == []


@pytest.mark.usefixtures("database")
def test_every_foreign_key_between_tenant_tables_is_composite() -> None:
    found = {
        (table, parent): set(columns)
        for table, parent, columns in rows(
            """SELECT c.conrelid::regclass::text, c.conrelid::regclass::text || '.' || c.conname,
                      (SELECT array_agg(attname::text) FROM pg_attribute
                       WHERE attrelid = c.conrelid AND attnum = ANY(c.conkey))
               FROM pg_constraint c
               WHERE c.contype = 'f' AND c.confrelid::regclass::text <> 'agency_agency'
                 AND c.confrelid IN (SELECT oid FROM pg_class WHERE relforcerowsecurity)"""
        )
    }
    expected = sum(
        isinstance(field, TenantForeignKey)
        for model in apps.get_models()
        for field in model._meta.local_fields
    )
    assert len(found) == expected
    assert all("agency_id" in columns for columns in found.values())


def test_a_tenant_model_points_at_other_tenant_tables_with_a_tenant_key_only() -> None:
    wrong = [
        f"{model.__name__}.{field.name}"
        for model in apps.get_models()
        if issubclass(model, TenantModel)
        for field in model._meta.local_fields
        if isinstance(field.related_model, type)
        and issubclass(field.related_model, TenantModel)
        and not isinstance(field, TenantForeignKey)
    ]
    assert wrong == []


def test_an_update_opens_the_tables_of_before_to_the_reading_role(
    postgres: EmbeddedPostgres, django_db_setup: None
) -> None:
    with psycopg.connect(postgres.superuser_url(), dbname="qingka") as conn:
        conn.execute("SET LOCAL lock_timeout = '60s'")
        conn.execute("ALTER POLICY tenant ON agency_company TO qingka_app")
        conn.execute("REVOKE ALL ON agency_company, agency_bureau FROM qingka_reader")
        conn.execute("REVOKE ALL ON FUNCTION current_agency() FROM qingka_reader")
        conn.execute("SET LOCAL ROLE qingka_owner")
        conn.execute(READER_SQL.encode())
        conn.execute("SET LOCAL ROLE qingka_reader")
        conn.execute("SELECT set_config('qingka.agency', '0', true)")
        conn.execute("SELECT count(*) FROM agency_company, agency_bureau")
        roles = conn.execute(
            "SELECT roles::text[] FROM pg_policies"
            " WHERE tablename = 'agency_company' AND policyname = 'tenant'"
        ).fetchone()
        assert roles == (["qingka_app", "qingka_reader"],)
        conn.rollback()


def test_the_module_of_rights_names_every_file_with_a_look_up() -> None:
    root = Path(__file__).resolve().parents[2]
    found = {
        path.relative_to(root).as_posix()
        for layer in ("agency", "devices", "clearing", "deploy")
        for path in (root / layer).rglob("*.py")
        if "= lookup_function(" in path.read_text(encoding="utf-8")
    }
    assert "agency/access.py" in found
    docstring = access.__doc__ or ""
    assert {name for name in found if name not in docstring} == {"agency/access.py"}


@pytest.mark.usefixtures("database")
def test_only_the_look_ups_cross_agencies_and_nobody_can_log_in_as_their_owner() -> None:
    definers = {
        (name, owner)
        for name, owner in rows(
            "SELECT proname, pg_get_userbyid(proowner) FROM pg_proc"
            " WHERE prosecdef AND pronamespace = 'public'::regnamespace"
        )
    }
    assert definers == {
        ("agencies_with_refusals", "qingka_lookup"),
        ("memberships_of", "qingka_lookup"),
        ("invitation_of", "qingka_lookup"),
        ("client_link_of", "qingka_lookup"),
        ("principal_of", "qingka_lookup"),
        ("redeem", "qingka_lookup"),
        ("agencies_with_old_accounts", "qingka_lookup"),
        ("due_agencies", "qingka_lookup"),
        ("agencies_pausing", "qingka_lookup"),
    }
    assert rows(
        "SELECT rolname FROM pg_roles WHERE rolname LIKE 'qingka%' AND rolcanlogin ORDER BY 1"
    ) == [("qingka_app",), ("qingka_owner",)]
    assert rows("SELECT rolname FROM pg_roles WHERE rolname LIKE 'qingka%' AND rolbypassrls") == []
