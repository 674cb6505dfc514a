"""A small agency's month on real processes: laid out, pressed, disturbed, and looked at afterwards.

What is believed are the simulated disks' own files and the bureau's; our tables are held against
them over a superuser's connection, past every policy of ours.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from deploy.demonstration.expected import ExpectedDisk
from deploy.demonstration.judge import Sight, look, writes_of
from deploy.demonstration.people import accounts_of
from deploy.demonstration.play import Play
from deploy.demonstration.press import press
from deploy.demonstration.scenario import MACHINES, Client, build
from deploy.demonstration.sheet import write_sheet
from deploy.stack import Stack
from devices.protocol.month import Month

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
                """SELECT DISTINCT ON (r.disk_id) d.device_no, r.state, r.reason, r.code,
                          d.password_state, p.state AS period_state, r.id
                   FROM clearing_run r JOIN devices_taxdisk d ON d.id = r.disk_id
                   JOIN clearing_diskperiod p ON p.id = r.disk_period_id
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
        """What is not as promised, disk by disk; a ``pin_unknown`` is allowed where the machine's
        own trail says that the window was found open."""
        runs = {run.device_no: run for run in self.runs()}
        sights = self.sights()
        found = []
        for disk in self.expected.disks:
            run = runs[disk.device_no]
            where = f"{disk.company} {disk.device_no} ({disk.case}): "
            if run.code == "pin_unknown":
                if not self._window_seen(disk.device_no):
                    found.append(where + "pin_unknown without an open window")
                continue
            found += [where + each for each in self._wrong(disk, run, sights[disk.device_no])]
        return found

    def sights(self) -> dict[str, Sight]:
        """The simulated disks' own files, with the times of our clock."""
        offset = self.stack.clock_offset
        return look(self.places.disks, self.expected, clock_offset=offset)

    def _wrong(self, disk: ExpectedDisk, run: Any, sight: Sight) -> Iterator[str]:
        state = sight.evidence
        report, clear = writes_of(disk.kind)
        clears, wanted = Counter(sight.written(clear)), _each(disk, disk.clears)
        if any(times > 1 for times in clears.values()) or set(clears) != wanted:
            yield f"clears {dict(clears)}, wanted {sorted(wanted)}"
        reports, wanted = set(sight.written(report)), _each(disk, disk.reports)
        if reports != wanted:
            yield f"reports {sorted(reports)}, wanted {sorted(wanted)}"
        if str(state.issue_deadline) != disk.issue_deadline:
            yield f"issue deadline {state.issue_deadline}, wanted {disk.issue_deadline}"
        if (run.state, run.reason, run.code) != (disk.outcome, disk.reason, disk.code):
            yield (
                f"ended {run.state} {run.reason} {run.code}, wanted"
                f" {disk.outcome} {disk.reason} {disk.code}"
            )
        period = Month.parse(self.expected.period)
        cleared = state.cleared_through is not None and state.cleared_through >= period.last
        if (run.period_state == "cleared") != cleared:
            yield f"the row says {run.period_state}, the disk is {'' if cleared else 'not '}cleared"

    def _window_seen(self, device_no: str) -> bool:
        with self.database() as connection:
            return (
                connection.execute(
                    "SELECT 1 FROM agency_auditentry WHERE action = 'disk.pin_unknown'"
                    " AND object_name = %s",
                    [device_no],
                ).fetchone()
                is not None
            )

    def unbacked_clears(self) -> list[str]:
        """Disks cleared by us whose first clear has no verified backup before it."""
        with self.database() as connection:
            backups = {
                (row.device_no, row.period): row.first
                for row in connection.execute(
                    """SELECT d.device_no, p.period, min(b.verified_at) AS first
                       FROM clearing_backup b JOIN clearing_diskperiod p ON p.id = b.disk_period_id
                       JOIN devices_taxdisk d ON d.id = p.disk_id GROUP BY 1, 2"""
                )
            }
        found = []
        sights = self.sights()
        for disk in self.expected.disks:
            for write in sights[disk.device_no].log:
                first = backups.get((disk.device_no, write.period))
                if write.command == writes_of(disk.kind)[1] and (first is None or first > write.at):
                    found.append(f"{disk.device_no} {write.period}")
        return found


def _each(disk: ExpectedDisk, periods: list[str]) -> set[tuple[str, str]]:
    """Period and unit of each write that these periods take."""
    return {(period, unit) for period in periods for unit in disk.units}


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
