"""The database roles, seen from inside: what each may do and what it may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from deploy.embedded import EmbeddedPostgres, socket_folder
from deploy.roles import APP, LOOKUP, OWNER, READER, create_database, create_roles

# What a migration does to put a function into the hands of the lookup role.
HAND_OVER = """
    CREATE TABLE member (id int, agency_id int);
    ALTER TABLE member ENABLE ROW LEVEL SECURITY;
    ALTER TABLE member FORCE ROW LEVEL SECURITY;
    CREATE POLICY look_up ON member FOR SELECT TO qingka_lookup USING (true);
    GRANT SELECT ON member TO qingka_lookup;
    CREATE FUNCTION members() RETURNS bigint LANGUAGE sql SECURITY DEFINER
        SET search_path = public AS 'SELECT count(*) FROM member';
    GRANT CREATE ON SCHEMA public TO qingka_lookup;
    ALTER FUNCTION members() OWNER TO qingka_lookup;
    REVOKE CREATE ON SCHEMA public FROM qingka_lookup;
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    here = tmp_path_factory.mktemp("roles")
    with EmbeddedPostgres(here / "pg", socket_folder(here / "s"), durable=False) as postgres:
        yield postgres


@pytest.fixture
def superuser(server: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.superuser_url(), autocommit=True) as conn:
        yield conn


@pytest.fixture
def database(superuser: psycopg.Connection[Any]) -> Iterator[str]:
    create_roles(superuser)
    create_database(superuser, "房子")
    yield "房子"
    superuser.execute('DROP DATABASE "房子" WITH (FORCE)')


@pytest.fixture
def owner(server: EmbeddedPostgres, database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url(OWNER, database), autocommit=True) as conn:
        yield conn


@pytest.fixture
def app(server: EmbeddedPostgres, database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server.url(APP, database), autocommit=True) as conn:
        yield conn


def test_no_role_is_above_the_policies(superuser: psycopg.Connection[Any], database: str) -> None:
    roles = superuser.execute(
        "SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb"
        " FROM pg_roles WHERE rolname = ANY(%s) ORDER BY rolname",
        [[OWNER, APP, LOOKUP, READER]],
    ).fetchall()
    assert roles == [
        (APP, True, False),
        (LOOKUP, False, False),
        (OWNER, True, False),
        (READER, False, False),
    ]


def test_everything_can_be_repeated(superuser: psycopg.Connection[Any], database: str) -> None:
    create_roles(superuser)
    create_database(superuser, database)
    create_roles(superuser)


def test_the_app_works_with_rows_and_cannot_make_or_change_tables(
    owner: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    owner.execute("CREATE TABLE made (id serial, name text)")
    app.execute("INSERT INTO made (name) VALUES ('x')")
    app.execute("UPDATE made SET name = 'y'")
    assert app.execute("SELECT id, name FROM made").fetchall() == [(1, "y")]
    app.execute("DELETE FROM made")
    for forbidden in (
        "CREATE TABLE another (id int)",
        "CREATE TEMPORARY TABLE another (id int)",
        "CREATE SCHEMA another",
        "ALTER TABLE made ADD more int",
        "ALTER TABLE made DISABLE ROW LEVEL SECURITY",
        "TRUNCATE made",
        "DROP TABLE made",
        f"SET ROLE {OWNER}",
        f"SET ROLE {LOOKUP}",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            app.execute(forbidden)


def test_the_app_becomes_the_reader_for_a_transaction_and_can_only_read(
    owner: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    owner.execute("CREATE TABLE shown (id int)")
    owner.execute("CREATE TABLE hidden (id int)")
    owner.execute(f"GRANT SELECT ON shown TO {READER}")
    with app.transaction():
        app.execute(f"SET LOCAL ROLE {READER}")
        assert app.execute("SELECT count(*) FROM shown").fetchone() == (0,)
        for forbidden in ("INSERT INTO shown VALUES (1)", "DELETE FROM shown", "TABLE hidden"):
            with pytest.raises(errors.InsufficientPrivilege), app.transaction():
                app.execute(forbidden)
    app.execute("INSERT INTO shown VALUES (1)")


def test_a_function_handed_to_lookup_sees_all_rows_and_the_app_may_call_it(
    owner: psycopg.Connection[Any], app: psycopg.Connection[Any]
) -> None:
    owner.execute(HAND_OVER)
    owner.execute("ALTER TABLE member NO FORCE ROW LEVEL SECURITY")
    owner.execute("INSERT INTO member VALUES (1, 1), (2, 2)")
    owner.execute("ALTER TABLE member FORCE ROW LEVEL SECURITY")

    assert app.execute("SELECT count(*) FROM member").fetchone() == (0,)
    assert app.execute("SELECT members()").fetchone() == (2,)


def test_nothing_of_the_loan_remains_with_lookup(owner: psycopg.Connection[Any]) -> None:
    owner.execute(HAND_OVER)
    owner.execute(f"SET ROLE {LOOKUP}")
    with pytest.raises(errors.InsufficientPrivilege):
        owner.execute("CREATE TABLE another (id int)")


def test_public_may_do_nothing(
    server: EmbeddedPostgres, superuser: psycopg.Connection[Any], owner: psycopg.Connection[Any]
) -> None:
    owner.execute("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    superuser.execute("DROP ROLE IF EXISTS passer_by")
    superuser.execute("CREATE ROLE passer_by LOGIN")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(server.url("passer_by", "房子"))
    public = owner.execute(
        "SELECT has_function_privilege('passer_by', 'f()', 'EXECUTE'),"
        " has_schema_privilege('passer_by', 'public', 'USAGE')"
    ).fetchone()
    assert public == (False, False)


def test_passwords_are_stored_hashed(superuser: psycopg.Connection[Any], database: str) -> None:
    create_roles(superuser, app_password="长长的密码")
    row = superuser.execute(
        "SELECT rolpassword FROM pg_authid WHERE rolname = %s", [APP]
    ).fetchone()
    assert row is not None
    assert row[0].startswith("SCRAM-SHA-256$")


def test_a_database_can_be_copied_with_rights_of_its_own(
    server: EmbeddedPostgres, superuser: psycopg.Connection[Any], owner: psycopg.Connection[Any]
) -> None:
    owner.execute("CREATE TABLE made AS SELECT 7 AS seven")
    owner.close()
    create_database(superuser, "copy", template="房子")
    with psycopg.connect(server.url(APP, "copy")) as conn:
        assert conn.execute("SELECT seven FROM made").fetchone() == (7,)
    superuser.execute("DROP DATABASE copy WITH (FORCE)")


def test_the_sql_files_need_nothing_but_psql() -> None:
    for name in ("roles.sql", "database.sql"):
        text = (Path(__file__).resolve().parents[2] / "deploy" / name).read_text(encoding="utf-8")
        statements = [line for line in text.splitlines() if not line.startswith("--")]
        assert not [line for line in statements if line.startswith("\\") or "{" in line]


def test_no_question_of_the_app_waits_for_ever(app: psycopg.Connection[Any]) -> None:
    limits = {
        name: app.execute("SELECT current_setting(%s)", [name]).fetchone()
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    }
    assert limits == {
        "statement_timeout": ("1min",),
        "lock_timeout": ("30s",),
        "idle_in_transaction_session_timeout": ("5min",),
    }
