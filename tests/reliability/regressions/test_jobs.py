"""The server's own jobs: rung by two clocks, or written by somebody who forgot the agency."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from django.db import ProgrammingError, connection
from django_scopes.exceptions import ScopeError

from agency.choices import Action
from agency.models import Agency, Company
from agency.scope import agency_scope
from clearing.bell import transport_url
from clearing.models import Tick
from deploy.embedded import EmbeddedValkey
from tests.conftest import MakeCompany
from tests.reliability.regressions.desk import Desk, until

pytestmark = pytest.mark.committed

ROOT = Path(__file__).parents[3]


@pytest.fixture
def two_beats(valkey: EmbeddedValkey, database: None, tmp_path: Path) -> Iterator[None]:
    """Two server workers with a beat each, by a mistake of whoever set them up."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "QINGKA_KEY_PREFIX": f"{tmp_path.name}:",
        "QINGKA_LIMITS_SCALE": "0.01",
        "PYTHONPATH": str(ROOT),
    }
    Tick.objects.all().delete()
    started = []
    for number in range(2):
        beat = ("-B", "--schedule", str(tmp_path / f"schedule-{number}"))
        size = ("--pool", "threads", "--concurrency", "2", "-n", f"w{number}@h")
        alone = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        command = [sys.executable, "-m", "celery", "-A", "deploy.celery", "worker"]
        with (tmp_path / f"log-{number}").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [*command, *beat, *size, *alone],
                    cwd=ROOT,
                    env=environment,
                    stderr=log,
                    stdout=log,
                    start_new_session=True,
                )
            )
    yield
    for process in started:
        os.killpg(process.pid, 9)  # its beat is a process of the group
        process.wait()


def ticked_since(moment: dt.datetime) -> bool:
    return Tick.objects.get().at > moment


def test_two_beats_do_the_sweepers_work_once(desk: Desk, two_beats: None) -> None:
    """netbox#22232: a periodic job came to be scheduled twice, and did its work twice."""
    run = desk.press()
    desk.claim_and_vanish()
    desk.expire_lease()
    until(lambda: desk.trail(Action.RUN_LEASE_OVER), "nobody takes the lease for over")
    for _ in range(3):  # rounds in which it could be done again
        until(partial(ticked_since, Tick.objects.get().at), "the sweepers stand still")
    assert len(desk.trail(Action.RUN_LEASE_OVER)) == 1
    assert desk.run(run).retries == 1


def test_a_task_without_an_agency_gets_none_of_the_task_before(
    agency: Agency, make_company: MakeCompany, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """django-multitenant#213: a task that set no tenant saw that of whatever ran before it in
    the same worker. Here it raises, in the application and in the database."""
    make_company()
    app = Celery(broker=transport_url(valkey.url), set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": f"{tmp_path.name}:"}
    app.conf.task_ignore_result = True
    seen: list[tuple[int, object]] = []

    @app.task
    def with_agency() -> None:
        with agency_scope(agency.pk):
            seen.append((threading.get_ident(), Company.objects.count()))

    @app.task
    def without() -> None:
        try:
            seen.append((threading.get_ident(), Company.objects.count()))
        except ScopeError as error:
            seen.append((threading.get_ident(), type(error)))
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM agency_company")
                seen.append((threading.get_ident(), cursor.fetchone()))
        except ProgrammingError as error:
            seen.append((threading.get_ident(), type(error)))

    with start_worker(app, pool="solo", perform_ping_check=False):
        with_agency.delay()
        without.delay()
        until(lambda: len(seen) == 3, "the worker does nothing")
    app.close()
    assert [what for _thread, what in seen] == [1, ScopeError, ProgrammingError]
    assert len({thread for thread, _what in seen}) == 1  # the same thread, the same connection
