"""Behind PgBouncer in transaction mode: the agency of one transaction is never that of the next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from django.db import DatabaseError, connection, connections
from django.urls import reverse
from django_scopes import scopes_disabled

from agency.models import Agency, Company
from agency.scope import agency_scope
from deploy.embedded import EmbeddedPostgres, socket_folder
from tests.conftest import MakeCompany, Person, signed_in
from tests.deploy.bouncer import PROGRAM, Bouncer

pytestmark = [
    pytest.mark.skipif(PROGRAM is None, reason="needs the package pgbouncer"),
    pytest.mark.committed,
]

THREADS, ROUNDS = 8, 12


@pytest.fixture
def bouncer(
    database: None, postgres: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bouncer]:
    """All of Django's connections go through one server connection, in every thread."""
    folder = socket_folder(tmp_path)
    settings = connections["default"].settings_dict
    connections["default"].close()
    with Bouncer(folder, postgres, servers=1) as running:
        monkeypatch.setitem(settings, "HOST", str(folder))
        monkeypatch.setitem(settings, "PORT", "6432")
        yield running
        connections["default"].close()


def backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def test_two_agencies_in_many_threads_over_one_connection_never_see_each_other(
    agency: Agency, other_agency: Agency, make_company: MakeCompany, bouncer: Bouncer
) -> None:
    names = {
        home.pk: {make_company(of=home).name for _ in range(3)} for home in (agency, other_agency)
    }
    start = threading.Barrier(THREADS)

    def work(number: int) -> set[int]:
        own = list(names)[number % 2]
        seen = set()
        try:
            start.wait(60)
            for _ in range(ROUNDS):
                with agency_scope(own), scopes_disabled():
                    assert set(Company.objects.values_list("name", flat=True)) == names[own]
                    seen.add(backend())
                # Between two transactions nobody is set, whoever had the connection last.
                with pytest.raises(DatabaseError, match="no agency scope"), scopes_disabled():
                    Company.objects.count()
        finally:
            connection.close()
        return seen

    with ThreadPoolExecutor(THREADS) as pool:
        backends = set().union(*pool.map(work, range(THREADS)))
    assert len(backends) == 1


def test_a_failed_transaction_leaves_no_agency_behind(agency: Agency, bouncer: Bouncer) -> None:
    with pytest.raises(RuntimeError, match="half way"), agency_scope(agency.pk):
        raise RuntimeError("half way")
    with pytest.raises(DatabaseError, match="no agency scope"), scopes_disabled():
        Company.objects.count()


def test_a_page_is_read_and_a_form_sent(
    owner: Person, make_company: MakeCompany, bouncer: Bouncer
) -> None:
    company = make_company()
    browser = signed_in(owner)
    assert company.name in browser.get(reverse("company", args=[company.pk])).text
    made = browser.post(reverse("member-invite"), {"name": "新人", "role": "front_desk"})
    assert made.status_code == 200
    assert "新人" in browser.get(reverse("members")).text


def test_nothing_is_left_at_the_server_that_the_next_client_would_trip_over(
    owner: Person, make_company: MakeCompany, bouncer: Bouncer
) -> None:
    """No prepared statement and no cursor stays: the next transaction may be anybody's."""
    for _ in range(12):  # psycopg would prepare at the fifth time
        with agency_scope(make_company().agency_id):
            assert list(Company.objects.iterator(chunk_size=1))
    with psycopg.connect(bouncer.url("qingka_app"), prepare_threshold=None) as other:
        assert other.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
        assert other.execute("SELECT name FROM pg_cursors WHERE name <> ''").fetchall() == []
