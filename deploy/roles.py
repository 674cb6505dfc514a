"""Runs ``roles.sql`` and ``database.sql``: the roles of a server, a database and who may do what.

The SQL files are the truth and can be run by hand with psql; this module only carries them to the
server over a superuser's connection. It never migrates anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

OWNER = "qingka_owner"
APP = "qingka_app"
READER = "qingka_reader"
LOOKUP = "qingka_lookup"

_HERE = Path(__file__).parent


def create_roles(
    conn: psycopg.Connection[Any],
    *,
    owner_password: str | None = None,
    app_password: str | None = None,
) -> None:
    """Create the four roles or put them right; set the passwords that are given.

    On a private socket, where the server trusts whoever can open it, no password is needed.
    """
    with conn.transaction():
        _run_file(conn, "roles.sql")
        for role, password in ((OWNER, owner_password), (APP, app_password)):
            if password is not None:
                _set_password(conn, role, password)


def create_database(
    conn: psycopg.Connection[Any], name: str, *, template: str = "template0"
) -> None:
    """Create the database ``name`` unless it exists, and set its rights either way.

    ``conn`` is an autocommit connection to any other database of the server, roles created;
    ``template`` is a database to copy, its tables and rows included.
    """
    if not conn.execute("SELECT FROM pg_database WHERE datname = %s", [name]).rowcount:
        conn.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} ENCODING 'UTF8' TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(OWNER), sql.Identifier(template)
            )
        )
    with psycopg.connect(conn.info.dsn, dbname=name, password=conn.info.password) as inside:
        _run_file(inside, "database.sql")


def _run_file(conn: psycopg.Connection[Any], name: str) -> None:
    conn.execute((_HERE / name).read_bytes())


def _set_password(conn: psycopg.Connection[Any], role: str, password: str) -> None:
    # Hashed here, so that neither the server's log nor its statistics ever hold the plain text.
    hashed = conn.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), hashed.decode()))
