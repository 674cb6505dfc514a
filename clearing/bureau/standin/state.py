"""What the stand-in bureau remembers, and how that survives a SIGKILL.

Owns three files of one directory:

- ``bureau.json``: what has happened since the start (the truth), replaced as a whole by
  temporary file, fsync and rename, always before the answer goes out;
- ``bureau.log``: one JSON line per request (``seq, at, op, device_no, tax_id, period, unit, code,
  note``), appended after the state is safe; lines a kill kept out are added at the next start;
- ``bureau-world.json``: the world as first seen; it wins over a world file given later.

It never decides what the bureau answers (:mod:`.rules`). Everything in it is simulated (模拟).
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from devices.protocol.month import Month
from devices.simulator.world import World

STATE_FILE = "bureau.json"
LOG_FILE = "bureau.log"
WORLD_FILE = "bureau-world.json"


@dataclass(frozen=True, slots=True)
class Reported:
    """A package that was taken: when (ISO, Beijing), under which serial, its SHA-256 (hex)."""

    at: str
    serial: str
    digest: str


@dataclass(frozen=True, slots=True)
class Issued:
    """Clear data handed out: when last, how often, and the issue deadline (ISO) in them."""

    at: str
    deadline: str
    times: int = 1


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A clear that the taxpayer's side confirmed: when, under which serial, the new deadline."""

    at: str
    serial: str
    deadline: str


@dataclass(slots=True)
class PeriodRecord:
    """One disk and period, by invoice type, because a kind may report and clear type by type."""

    reported: dict[str, Reported] = field(default_factory=dict)
    issued: dict[str, Issued] = field(default_factory=dict)
    confirmed: dict[str, Confirmed] = field(default_factory=dict)

    @property
    def cleared(self) -> bool:
        """Whether everything that was reported is confirmed, and there is something."""
        return bool(self.confirmed) and self.reported.keys() <= self.confirmed.keys()


@dataclass(slots=True)
class Modes:
    """What is the matter with the whole bureau.

    ``slow_ms``: extra time of each call. ``down``: HTTP 503. ``maintenance``: a refusal of that
    name. ``double``: each request is worked on twice and the second answer goes out (a relay that
    repeats). ``garbage``: it acts, and what comes back is no message.
    """

    slow_ms: int = 0
    down: bool = False
    maintenance: bool = False
    double: bool = False
    garbage: bool = False


@dataclass(slots=True)
class State:
    """Everything that has happened. Tax ids, device numbers and months are the keys.

    ``filings`` and ``faults`` hold only what differs from the world: a filing that was changed
    (with its time), a taxpayer's faults once one of them was used or added.
    """

    modes: Modes = field(default_factory=Modes)
    filings: dict[str, dict[Month, tuple[str, str]]] = field(default_factory=dict)
    faults: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    disks: dict[str, dict[Month, PeriodRecord]] = field(default_factory=dict)
    tail: list[dict[str, Any]] = field(default_factory=list)

    def record(self, device_no: str, period: Month) -> PeriodRecord:
        """What is on record for a disk and period; an empty record where nothing is."""
        return self.disks.get(device_no, {}).get(period, PeriodRecord())

    def open_record(self, device_no: str, period: Month) -> PeriodRecord:
        """The same, to write into."""
        return self.disks.setdefault(device_no, {}).setdefault(period, PeriodRecord())

    def reported(self) -> dict[tuple[str, Month], Mapping[str, Reported]]:
        """For checkers: per disk and period, the packages taken, by invoice type."""
        return {key: rec.reported for key, rec in self._records() if rec.reported}

    def confirmed(self) -> dict[tuple[str, Month], Mapping[str, Confirmed]]:
        """For checkers: per disk and period, the confirmed clears, by invoice type."""
        return {key: rec.confirmed for key, rec in self._records() if rec.confirmed}

    def _records(self) -> Iterable[tuple[tuple[str, Month], PeriodRecord]]:
        for device_no, periods in self.disks.items():
            for period, record in periods.items():
                yield (device_no, period), record

    def dump(self) -> str:
        return json.dumps(
            {
                "simulated": "模拟",
                "modes": asdict(self.modes),
                "filings": {t: _by_text(periods) for t, periods in self.filings.items()},
                "faults": self.faults,
                "disks": {
                    device_no: {str(period): _plain(record) for period, record in periods.items()}
                    for device_no, periods in self.disks.items()
                },
                "tail": self.tail,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @classmethod
    def parse(cls, text: str) -> State:
        """Read what :meth:`dump` wrote. Raises ValueError, KeyError or TypeError otherwise."""
        raw = json.loads(text)
        return cls(
            modes=Modes(**raw["modes"]),
            filings={
                tax_id: {Month.parse(p): (value, at) for p, (value, at) in periods.items()}
                for tax_id, periods in raw["filings"].items()
            },
            faults=raw["faults"],
            disks={
                device_no: {Month.parse(p): _parse_record(r) for p, r in periods.items()}
                for device_no, periods in raw["disks"].items()
            },
            tail=raw["tail"],
        )


def read_state(directory: Path) -> State:
    """What the bureau in ``directory`` has on record, also while it runs; empty when unused."""
    path = directory / STATE_FILE
    return State.parse(path.read_text(encoding="utf-8")) if path.exists() else State()


def read_log(directory: Path) -> list[dict[str, Any]]:
    """The requests in order; a last line that is still being written is left out."""
    path = directory / LOG_FILE
    if not path.exists():
        return []
    complete, _, _ = path.read_bytes().rpartition(b"\n")
    return [json.loads(line) for line in complete.splitlines()]


class Store:
    """The state of one directory, opened for one bureau. Not thread-safe: the caller locks."""

    def __init__(self, directory: Path, world: World) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.world = self._first_world(world)
        self.state = read_state(directory)
        self._mend_log()

    def commit(self, entries: list[dict[str, Any]], *, changed: bool) -> None:
        """Make the state durable (when ``changed``), then append the log entries."""
        for entry in entries:
            self._seq += 1
            entry["seq"] = self._seq
        if changed:
            self.state.tail = entries
            _replace(self._directory / STATE_FILE, self.state.dump())
        self._append(entries)

    def _first_world(self, world: World) -> World:
        """The world kept in the directory, with what ``world`` has new; else ``world``."""
        path = self._directory / WORLD_FILE
        if path.exists():
            kept = World.load(path)
            tax_ids = {taxpayer.tax_id for taxpayer in kept.taxpayers}
            device_nos = {disk.device_no for disk in kept.disks}
            kept.taxpayers += [t for t in world.taxpayers if t.tax_id not in tax_ids]
            kept.disks += [d for d in world.disks if d.device_no not in device_nos]
            world = kept
        _replace(path, json.dumps(asdict(world), ensure_ascii=False))
        return world

    def _mend_log(self) -> None:
        """Cut a torn last line off, and add the entries of the last commit that are missing."""
        logged = read_log(self._directory)
        path = self._directory / LOG_FILE
        if path.exists():
            whole = path.read_bytes().rfind(b"\n") + 1
            os.truncate(path, whole)
        self._seq = max((entry["seq"] for entry in logged), default=0)
        missing = [entry for entry in self.state.tail if entry["seq"] > self._seq]
        self._append(missing)
        self._seq = max([self._seq, *(entry["seq"] for entry in missing)])

    def _append(self, entries: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        with (self._directory / LOG_FILE).open("ab", buffering=0) as log:
            log.write(lines.encode())


def _replace(path: Path, text: str) -> None:
    """Write the file so that after any kill it holds the old or the new text, whole."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _by_text(periods: Mapping[Month, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return {str(period): value for period, value in periods.items()}


def _plain(record: PeriodRecord) -> dict[str, Any]:
    """As ``dataclasses.asdict``, which copies so deeply that it took most of a commit."""
    return {
        "reported": {
            t: {"at": r.at, "serial": r.serial, "digest": r.digest}
            for t, r in record.reported.items()
        },
        "issued": {
            t: {"at": i.at, "deadline": i.deadline, "times": i.times}
            for t, i in record.issued.items()
        },
        "confirmed": {
            t: {"at": c.at, "serial": c.serial, "deadline": c.deadline}
            for t, c in record.confirmed.items()
        },
    }


def _parse_record(raw: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> PeriodRecord:
    return PeriodRecord(
        reported={t: Reported(**r) for t, r in raw["reported"].items()},
        issued={t: Issued(**r) for t, r in raw["issued"].items()},
        confirmed={t: Confirmed(**r) for t, r in raw["confirmed"].items()},
    )


def beijing(moment: dt.datetime) -> str:
    """How moments are written here: ISO to the second, Beijing time."""
    return moment.isoformat(timespec="seconds")
