"""What the trail and the policies cost, as ratios measured in one run.

    python -m tests.bench.tenants [--companies 300] [--repeat 12] [--writers 1,8,64]

In a private database of the bench's own: whole runs over the machine API and a supervisor's pages,
turn and turn about with and without the audit trail (its record made to do nothing), and with and
without row-level security (switched off at the tables by the superuser; no switch of the product
does that). Then entries per second of chains written by so many agencies at once, against as many
writers of one chain: once with commits that wait for the disk, as in production (the head of a
chain is locked for so long), and once with such that do not.

The writers are threads of one interpreter. What is measured is whether chains hinder each other;
how many entries a server of many processes writes is not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from deploy.embedded import EmbeddedPostgres, EmbeddedValkey, socket_folder
from deploy.roles import create_database, create_roles
from tests.bench.processor import cpu_seconds

AIM = 1.15
_EACH_TURN = 4


@contextmanager
def database(folder: Path) -> Iterator[str]:
    """A migrated database and a broker, named in the environment; the superuser's address."""
    sockets = socket_folder(folder)
    with (
        EmbeddedPostgres(folder / "pg", sockets) as postgres,
        EmbeddedValkey(folder / "vk", sockets / "v", durable=False) as valkey,
    ):
        with psycopg.connect(postgres.superuser_url(), autocommit=True) as connection:
            create_roles(connection)
            create_database(connection, "qingka")
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "QINGKA_DATABASE_URL": postgres.url("qingka_app", "qingka"),
            "QINGKA_OWNER_DATABASE_URL": postgres.url("qingka_owner", "qingka"),
            "QINGKA_REDIS_URL": valkey.url,
            "QINGKA_STORAGE_DIR": str(folder / "storage"),
        }
        (folder / "storage").mkdir()
        import django

        django.setup()
        from django.core.management import call_command

        call_command("migrate", database="owner", verbosity=0)
        yield postgres.superuser_url("qingka")


class Work:
    """An agency with its companies, its machine, and what is measured on it."""

    def __init__(self, companies: int) -> None:
        from agency.choices import Role
        from agency.scope import agency_scope
        from agency.services import agency_create, member_add
        from tests.clearing.machine import PlayedMachine

        self.agency = agency_create(name="量一量", practice=True)
        with agency_scope(self.agency.pk):
            member = member_add(
                agency=self.agency, username="s", password="s" * 12, name="吴", role=Role.SUPERVISOR
            )
        self.machine = PlayedMachine.enrol(self.agency)
        self._number = 0
        for _ in range(companies):
            self._disk()
        from django.test import Client

        self.client = Client()
        self.client.force_login(member.user)

    def _disk(self) -> Any:
        from agency.models import Company
        from agency.scope import agency_scope
        from devices.choices import DiskKind
        from devices.services import disk_create
        from tests.conftest import NOW, fictional_tax_id

        self._number += 1
        with agency_scope(self.agency.pk):
            company = Company.objects.create(
                agency=self.agency,
                short_name=f"虚构{self._number}",
                name=f"虚构{self._number}有限公司",
                tax_id=fictional_tax_id(),
            )
            return disk_create(
                company=company,
                kind=DiskKind.IC_CARD,
                device_no=f"{self._number:016d}",
                device_password="12345678",
                now=NOW,
            )

    def clear(self) -> None:
        """A disk cleared over the machine API, from the click to the settled end."""
        import uuid

        from agency.scope import agency_scope
        from clearing.services import batch_start
        from tests.conftest import NOW

        disk = self._disk()
        self.machine.present(disk)
        with agency_scope(self.agency.pk):
            batch_start(
                disk_ids=[disk.pk],
                intent="report_and_clear",
                key=str(uuid.uuid4()),
                started_by="吴",
                now=NOW,
            )
        if self.machine.claim() is None or self.machine.clear_all(disk).json()["state"] != "done":
            raise SystemExit("a run ended otherwise")

    def look(self) -> None:
        """A supervisor's pages."""
        for path in ("/", "/failures", "/batches", "/audit"):
            if self.client.get(path).status_code != 200:
                raise SystemExit(f"{path} is not shown")


@contextmanager
def no_audit() -> Iterator[None]:
    from agency import audit

    record = audit.record
    audit.record = lambda *_, **__: None
    try:
        yield
    finally:
        audit.record = record


@contextmanager
def no_policies(superuser: str) -> Iterator[None]:
    """Every tenant table without its policies."""
    with psycopg.connect(superuser, autocommit=True) as connection:
        found = connection.execute("SELECT relname FROM pg_class WHERE relforcerowsecurity")
        tables = [name for (name,) in found.fetchall()]
        for how, restored in (("DISABLE", False), ("ENABLE", True)):
            for table in tables:
                connection.execute(f'ALTER TABLE "{table}" {how} ROW LEVEL SECURITY'.encode())
            if not restored:
                yield


def ratio(
    work: Callable[[], None], without: Callable[[], Any], repeat: int, cpu: Callable[[], float]
) -> tuple[float, float]:
    """Processor time with against without, by medians of turns, and the seconds without.

    Not by the clock on the wall: who else runs on the machine is not what is measured."""

    def turn() -> float:
        work()  # plans and caches are made anew after a change of policies
        began = cpu()
        for _ in range(_EACH_TURN):
            work()
        return (cpu() - began) / _EACH_TURN

    plain, promised = [], []
    for _ in range(repeat):
        with without():
            plain.append(turn())
        promised.append(turn())
    return statistics.median(promised) / statistics.median(plain), statistics.median(plain)


def entries_per_second(agencies: list[int], seconds: float, commits: str) -> float:
    """Entries that as many threads as ``agencies`` append, each to its agency's chain; ``commits``:
    the setting of the database that says whether they wait for the disk."""
    from django.db import connection

    from agency import audit
    from agency.choices import Action
    from agency.scope import agency_scope

    written = [0] * len(agencies)
    barrier = threading.Barrier(len(agencies) + 1)
    stop = threading.Event()

    def write(place: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('synchronous_commit', %s, false)", [commits])
        barrier.wait()
        while not stop.is_set():
            with agency_scope(agencies[place]):
                audit.record(Action.BATCH_ENDED, data={"n": written[place]})
            written[place] += 1
        connection.close()

    threads = [threading.Thread(target=write, args=(place,)) for place in range(len(agencies))]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(written) / (time.perf_counter() - began)


def chains(writers: list[int], seconds: float) -> None:
    from agency import audit
    from agency.scope import agency_scope
    from agency.services import agency_create

    agencies = [agency_create(name=f"链{n}", practice=True).pk for n in range(max(writers))]
    for commits, named in (("on", "commits wait for the disk"), ("off", "commits do not wait")):
        alone = entries_per_second(agencies[:1], seconds, commits)
        for count in writers:
            apart = entries_per_second(agencies[:count], seconds, commits)
            shared = entries_per_second([agencies[0]] * count, seconds, commits)
            print(
                f"{count} agencies at once, {named}: {apart / alone:.2f} of one's entries per"
                f" second, {apart / shared:.2f} of as many writers of one chain"
            )
    print(
        "(threads of one interpreter: whether chains hinder each other, not what a server can do)"
    )
    for agency in agencies:
        with agency_scope(agency):
            if (bad := audit.first_bad_sequence()) is not None:
                raise SystemExit(f"the chain of {agency} is broken at {bad}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tenants")
    parser.add_argument("--companies", type=int, default=300)
    parser.add_argument("--repeat", type=int, default=12)
    parser.add_argument("--writers", default="1,8,64")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="qk") as folder,
        database(Path(folder)) as superuser,
    ):
        from clearing.api import machine
        from tests.conftest import NOW

        vars(machine)["domain_now"] = lambda: NOW
        work = Work(options.companies)
        cluster = (Path(folder) / "pg" / "cluster").resolve()

        def cpu() -> float:
            ours = time.process_time()
            return ours + cpu_seconds(lambda process: (process / "cwd").resolve() == cluster)

        for name, without, one in (
            ("the audit trail of a clear", no_audit, work.clear),
            ("row-level security of a clear", lambda: no_policies(superuser), work.clear),
            ("row-level security of four pages", lambda: no_policies(superuser), work.look),
        ):
            found, plain = ratio(one, without, options.repeat, cpu)
            print(f"{name}: {found:.3f} (aim {AIM}); without {1000 * plain:.0f} ms of a processor")
        chains([int(count) for count in options.writers.split(",")], options.seconds)
        from django.db import connections

        connections.close_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
