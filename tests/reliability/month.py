"""A small agency's month on real processes: laid out, pressed, disturbed, and looked at afterwards.

What is believed are the simulated disks' own files and the bureau's: the demo's judge holds our
tables against them. The state of the work is looked at over a superuser's connection.
"""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from deploy.demonstration.people import accounts_of
from deploy.demonstration.play import Play
from deploy.demonstration.press import press
from deploy.demonstration.scenario import MACHINES, Client, build
from deploy.demonstration.sheet import write_sheet
from deploy.stack import Stack

ROOT = Path(__file__).parents[2]
LIMITS_SCALE = 0.1  # a lease lasts 12 s, a call 6 s
UKEY_LAG_MS = 250  # the dates are read again for 0.6 s
_WAITS_FOR_SOMEBODY = ("disk", "filing", "by_hand", "window")


class MonthUnderTest:
    """One agency of these clients, its two machines, and the button."""

    def __init__(self, root: Path, who: Sequence[Client]) -> None:
        play = Play.beginning(dt.datetime.now(dt.UTC))
        self.stack = Stack(
            root,
            machines=MACHINES,
            limits_scale=LIMITS_SCALE,
            clock_offset=play.offset,
            durable=False,
        )
        self.places = self.stack.places
        self.stack.take()
        world, self.expected = build(play.window, who)
        world.ukey_lag_ms = UKEY_LAG_MS
        sheet = root / "clients.xlsx"
        write_sheet(who, sheet)
        self.expected.save(self.places.expected)
        world.save(self.places.world)
        setup = ["-m", "deploy.demonstration.setup", "--root", str(root)]
        setup += ["--server", self.stack.url, "--bureau", self.stack.bureau_url]
        self.stack.prepare = ((*setup, "--clients", str(sheet)),)

    def press(self) -> None:
        press(self.stack.url, "owner", accounts_of(self.places).password)

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        url = self.stack.postgres.superuser_url("qingka")
        with psycopg.connect(url, row_factory=namedtuple_row, autocommit=True) as connection:
            yield connection

    def runs(self) -> list[Any]:
        """The newest run of each disk."""
        with self.database() as connection:
            return connection.execute(
                """SELECT DISTINCT ON (r.disk_id) d.device_no, r.state, r.reason, r.code, r.id
                   FROM clearing_run r JOIN devices_taxdisk d ON d.id = r.disk_id
                   ORDER BY r.disk_id, r.id DESC"""
            ).fetchall()

    def present(self) -> int:
        with self.database() as connection:
            row = connection.execute(
                "SELECT count(*) AS n FROM devices_slot WHERE device_no <> ''"
            ).fetchone()
            return int(row.n) if row else 0

    def wait_present(self, seconds: float = 30.0) -> None:
        wanted = sum(disk.case != "未插盘" for disk in self.expected.disks)
        _until(lambda: self.present() >= wanted, seconds, "the disks are not reported present")

    def settled(self) -> bool:
        return all(
            run.state in {"done", "failed", "cancelled", "skipped", "superseded"}
            or (run.state == "waiting" and run.reason in _WAITS_FOR_SOMEBODY)
            for run in self.runs()
        )

    def wait_settled(self, seconds: float) -> None:
        _until(self.settled, seconds, "not settled", say=lambda: str(self.runs()))

    def finished(self) -> int:
        return sum(run.state in {"done", "failed", "skipped"} for run in self.runs())

    # -- the check --------------------------------------------------------------------------

    def violations(self) -> list[str]:
        """What is not as promised, as the one judge finds it: disks, bureau, tables and trail."""
        judged = subprocess.run(
            [
                *(sys.executable, "-m", "tests.reliability.judged"),
                *(str(self.places.root), str(self.stack.clock_offset)),
            ],
            env={**self.stack.environment(), "QINGKA_LOG_LEVEL": "WARNING"},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
        )
        found: list[str] = json.loads(judged.stdout)
        return found


def report(month: MonthUnderTest, kills: int) -> str:
    """One line for the log of the run."""
    counts = Counter(f"{run.state} {run.code}".strip() for run in month.runs())
    return json.dumps({"kills": kills, "ends": counts}, ensure_ascii=False)


def _until(there: Any, seconds: float, what: str, say: Any = None) -> None:
    end = time.monotonic() + seconds
    while not there():
        if time.monotonic() > end:
            raise AssertionError(f"{what} within {seconds:.0f} s: {say() if say else ''}")
        time.sleep(0.2)
