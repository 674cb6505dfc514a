"""A month in which every password is a marker, lived through by everything that could spill one.

Real processes. Passwords come by the first sheet, by a sheet uploaded on the page and by the page
for one disk; they are right and wrong; a run's process is killed, raises with the password in its
text, and dies of an error that nobody catches; a page raises with it in hand; people mistype it.
Beside them goes the *planted* one, which is put where it must be found.
"""

from __future__ import annotations

import os
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import redis
from celery import Celery
from psycopg import sql

from clearing.bell import BELL_QUEUE, transport_url
from deploy.demonstration.child import ROOT
from deploy.demonstration.people import PEOPLE, accounts_of
from deploy.demonstration.press import press
from deploy.demonstration.scenario import Case, Client, clients
from devices.simulator import evidence
from devices.simulator.card_state import CardState
from tests.devices.import_sheets import line, sheet
from tests.reliability.leaks import ProcessWatch, Secret, broker_keys
from tests.reliability.month import MonthUnderTest
from tests.reliability.person import Person

PLANTED = "Tz5hWq8P"
#: Not digits alone: eight of those stand in any table of numbers.
MARKERS = {
    "PIN": "Kq7xVm2Z",
    "device password": "Wb4jTn9R",
    "certificate password": "Hs6pLd3Y",
    "wrong PIN": "Fz8cGk5X",
    "right PIN typed later": "Mv3wQt6J",
    "PIN of the killed run": "Ny2dZs7H",
    "PIN of the run that raised": "Gk9tBx4L",
    "PIN of the run that nobody caught": "Rj6mCf8W",
    "typed, refused": "Py9rBn4D",
    "typed, the page raised": "Xd7gVt3K",
    "uploaded device password": "Lc5nMw9S",
    "uploaded certificate password": "Vh8kPq2T",
    "uploaded in a bad sheet": "Bt4fJr6N",
    "own password": 'Zq7密"\\令&口x%8é',
    "wrong own password": "Ud3sYk7G-wrong",
    "typed as the account": "Ew6zHn5C-typed",
}
FORGED = "2026-01-01 00:00:00,000 INFO forged by the"

#: Who it is, once more: asked before secrets and exports.
_AGAIN = "/again?next=/account"
#: For every call of the machine API; each takes what it knows.
_SAID: dict[str, Any] = {
    **{"version": "t", "api": 1, "slots": [], "detail": "", "outcome": {"end": "failed"}},
    **{"stage": "clear", "unit": "025", "period": "2026-10", "sha256": "0" * 64, "content": "e30="},
    "attempt": "0f8fad5b-d9cb-469f-a165-70867728950e",
}

_SITE = """
import os, signal, sys
from pathlib import Path

HERE, WORDS = Path(__file__).parent, sys.orig_argv

if "clearing.worker.child" in WORDS:
    from clearing import procedure
    run = procedure.run

    def crashing(order, **ports):
        how = HERE / order.device_no
        if not how.exists():
            return run(order, **ports)
        way, secret = how.read_text(), order.device_password
        how.unlink()
        if way == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if way == "raised":
            raise RuntimeError(f"no card takes {secret} of {order}")
        from clearing.worker.ledger import ServerLedger

        def settle(self, outcome):
            raise ValueError(f"{secret} {order}")

        ServerLedger.settle = settle
        return run(order, **ports)

    procedure.run = crashing

if "gunicorn" in WORDS:
    from agency import sealing
    seal = sealing.seal

    def sealing_fails(plain, *, context):
        if plain == "CRASHES":
            raise RuntimeError("it cannot be sealed")
        return seal(plain, context=context)

    sealing.seal = sealing_fails
"""


class MarkedMonth:
    """Live it with :meth:`live`; afterwards ``places`` holds what was seen while it ran."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.rows = _rows()
        site = folder / "site"
        site.mkdir()
        page = _SITE.replace("CRASHES", MARKERS["typed, the page raised"])
        (site / "sitecustomize.py").write_text(page, encoding="utf-8")
        for way in ("killed", "raised", "uncaught"):
            (site / self.rows[way].device_no).write_text(way)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))
        self.month = MonthUnderTest(folder / "m", list(self.rows.values()))
        self.root = self.month.places.root
        self._mark = f"QK_WATCHED={self.root}"
        patch.setenv("QK_WATCHED", str(self.root))
        #: (kind of place, its name) → what stood there.
        self.places: dict[tuple[str, str], bytes] = {}
        #: Messages as they lay in the queues while the batch waited.
        self.waiting: list[bytes] = []
        self.states: dict[str, str] = {}
        self.processes = ProcessWatch(self._mark)
        self._closing = ExitStack()

    @property
    def spared(self) -> list[Path]:
        """What stands for the world outside: the simulated disks and bureau, the sheet on the
        agency's own computer, and the note on which the people have their login password. And the
        databases that come with PostgreSQL, in which nothing of ours ever is."""
        places, laid_down = self.month.places, self.root / "pg" / "cluster" / "base"
        world = [places.world, places.disks, places.bureau]
        world += [laid_down / name for name in ("1", "4", "5")]
        return [*world, self.root / "clients.xlsx", self.root / "accounts.json"]

    @property
    def configurations(self) -> dict[str, dict[str, Any]]:
        places, names = self.month.places, self.month.stack.machines
        return {
            name: tomllib.loads(places.machine_config(name).read_text("utf-8")) for name in names
        }

    def secrets(self) -> dict[str, Secret]:
        """The markers, the login password, the PINs that the cards hold now."""
        found: dict[str, Secret] = dict(MARKERS)
        found["login password"] = accounts_of(self.month.places).password
        for name in ("card", "killed", "uncaught"):
            state = evidence._state(self.month.places.disks, self.rows[name].device_no)
            assert isinstance(state, CardState)
            found[f"rolled PIN of {name}"] = bytes(state.pin)
        return found

    def credentials(self) -> dict[str, Secret]:
        """The machines' own: these stand in their configuration, and nowhere else."""
        found: dict[str, Secret] = {}
        for name, values in self.configurations.items():
            found[f"token of {name}"] = values["token"]
            found[f"broker password of {name}"] = urlsplit(values["broker"]).password or ""
        return found

    def live(self) -> None:
        stack, month = self.month.stack, self.month
        with stack, self.processes, self._closing:
            stack.start()
            month.wait_present(120)
            with _overheard(stack.valkey.url, self.root / "overheard.txt"):
                self._work()
                self._people()
                self._machines()
                self._plant()
                self._forge()
            self.states = {run.device_no: run.state for run in month.runs()}
            for name, rows in _tables(month):
                self.places["table", name] = rows
            for key, content in broker_keys(stack.valkey.url).items():
                self.places["broker", key] = content
        for number, shown in enumerate(self.processes.seen):
            self.places["process", str(number)] = shown

    # -- what happens ----------------------------------------------------------------------------

    def _work(self) -> None:
        """The batch waits in the queues of machines that are away, and is then done."""
        stack, month = self.month.stack, self.month
        for name in stack.machines:
            stack.kill_machine(name)
        month.press()
        self.waiting = [
            message
            for key, content in broker_keys(stack.valkey.url).items()
            if key.endswith(f":{BELL_QUEUE}")
            for message in content.splitlines()
        ]
        for name in stack.machines:
            stack.start_machine(name)
        month.wait_settled(240)

    def _people(self) -> None:
        password, month = accounts_of(self.month.places).password, self.month
        owner = self._person("owner")
        owner.send("/login", username="owner", password=MARKERS["wrong own password"])
        owner.send("/login", username=MARKERS["typed as the account"], password="x")
        owner.send("/login", username="owner", password=password)
        self._type_passwords(owner, password)
        self._upload(owner)
        self._invite(owner, password)
        for who in PEOPLE:
            person = owner if who.username == "owner" else self._person(who.username)
            if person is not owner:
                person.send("/login", username=who.username, password=password)
            person.walk("/", "/audit", "/machines", "/members", "/import/", "/account")
        wang = self._person("wang")
        wang.send("/login", username="wang", password=password)
        own = MARKERS["own password"]
        wang.send(_AGAIN, password=password)
        changed = {"oldpassword": password, "password1": own, "password2": own}
        assert wang.send("/account/password", **changed).url.path == "/account"
        wang.send("/login", username="wang", password=own)
        owner.send(_AGAIN, password=password)
        owner.send("/audit/export")
        right = self.rows["wrong"].device_no
        press(month.stack.url, "owner", password, companies=[self._company_of(right)])
        month.wait_settled(240)

    def _type_passwords(self, owner: Person, password: str) -> None:
        """A wrong own password, one that is too long for any disk, an error of ours with the typed
        one in hand, then the right PIN."""
        wrong = owner.send(_AGAIN, password=MARKERS["wrong own password"])
        assert wrong.url.path == "/again"
        owner.send(_AGAIN, password=password)
        form = f"/disks/{self._disk(self.rows['wrong'].device_no)}/password"
        refused = owner.send(form, device_password=20 * MARKERS["typed, refused"])
        assert refused.url.path == form
        crashed = owner.send(form, device_password=MARKERS["typed, the page raised"])
        assert crashed.status_code == 500
        taken = owner.send(form, device_password=MARKERS["right PIN typed later"])
        assert taken.url.path != form

    def _upload(self, owner: Person) -> None:
        bad = line(税号="91", 设备口令=MARKERS["uploaded in a bad sheet"], 设备类型="税控盘")
        assert "/import/" in str(owner.send("/import/", file=sheet(bad)).url)
        good = line(
            企业名称=f"武汉虚构\n{FORGED} company",
            设备类型="税控盘",
            设备口令=MARKERS["uploaded device password"],
            证书口令=MARKERS["uploaded certificate password"],
        )
        shown = owner.send("/import/", file=sheet(good))
        done = owner.send(shown.url.path, action="confirm")
        assert done.url.path == "/", done.text

    def _invite(self, owner: Person, password: str) -> None:
        owner.send(_AGAIN, password=password)
        made = owner.send("/members/invite", page="/members", name=PLANTED, role="front_desk")
        assert made.status_code == 200

    def _machines(self) -> None:
        """Every call of the machine API, for runs that ended; the claim gets nothing."""
        configurations = self.configurations
        with self.month.database() as connection:
            runs = connection.execute(
                "SELECT a.run_id, a.key, m.name FROM clearing_attempt a"
                " JOIN devices_machine m ON m.id = a.machine_id"
            ).fetchall()
        for name, values in configurations.items():
            headers = {"Authorization": f"Machine {values['token']}"}
            with httpx.Client(headers=headers, trust_env=False, timeout=120) as client:
                for run in (run for run in runs if run.name == name):
                    said = {**_SAID, "attempt": str(run.key), "facts": []}
                    for verb in ("intend", "record", "keep", "renew", "settle", "release"):
                        self._call(client, name, f"runs/{run.run_id}/{verb}", said)
                for path in ("presence", "claim", "nothing"):
                    self._call(client, name, path, _SAID)

    def _call(self, client: httpx.Client, name: str, path: str, said: dict[str, Any]) -> None:
        answer = client.post(f"{self.month.stack.url}/machine/v1/{path}", json=said)
        assert (answer.status_code == 404) == (path == "nothing"), answer.text
        self.places["machine API", f"{name} {path} {said['attempt']}"] = answer.content

    # -- what must be found ------------------------------------------------------------------------

    def _plant(self) -> None:
        """The planted secret in a log line, in the argument of a task that is done and of one that
        waits, in a trail entry (the invitation), a file of a machine's, a process."""
        stack = self.month.stack
        httpx.get(f"{stack.url}/{PLANTED}/", trust_env=False, timeout=120)
        for queue in ("celery", "nobodys"):
            _send(stack.valkey.url, "qingka:", queue, "agency.settle_refusals", PLANTED)
        (self.root / "machines" / "planted.log").write_text(PLANTED)
        with subprocess.Popen(["sleep", "300"], env={**os.environ, "X": PLANTED}) as sleeper:
            wanted = PLANTED.encode()
            for _ in range(600):
                if self.processes.saw([wanted]):
                    break
                threading.Event().wait(0.1)
            sleeper.kill()

    def _forge(self) -> None:
        """Lines that would look like the log's own, wherever text from outside gets to a log."""
        url, broker = self.month.stack.url, self.month.stack.valkey.url
        httpx.get(f"{url}/x%0A{quote(f'{FORGED} path')}/", trust_env=False, timeout=120)
        _send(broker, "qingka:", "celery", f"x\n{FORGED} server task")
        for values in self.configurations.values():
            _send(broker, values["prefix"], BELL_QUEUE, f"x\n{FORGED} machine task")
        logs = self.month.places.logs
        wanted = {"web": "path", "server-worker": "server task"}
        wanted |= dict.fromkeys(self.month.stack.machines, "machine task")
        for log, what in wanted.items():
            for _ in range(900):
                if f"{FORGED} {what}" in (logs / f"{log}.log").read_text("utf-8"):
                    break
                threading.Event().wait(0.1)

    # -- small things ------------------------------------------------------------------------------

    def _person(self, name: str) -> Person:
        person = Person(self.month.stack.url, name)
        self._closing.enter_context(person.http)
        person.answers = _Named(self.places)
        return person

    def _disk(self, device_no: str) -> int:
        return self._one("SELECT id AS found FROM devices_taxdisk WHERE device_no = %s", device_no)

    def _company_of(self, device_no: str) -> int:
        query = "SELECT company_id AS found FROM devices_taxdisk WHERE device_no = %s"
        return self._one(query, device_no)

    def _one(self, query: str, value: str) -> int:
        with self.month.database() as connection:
            row = connection.execute(query, [value]).fetchone()
        assert row is not None
        return int(row.found)


class _Named(dict[str, bytes]):
    """A person's answers, as places."""

    def __init__(self, places: dict[tuple[str, str], bytes]) -> None:
        super().__init__()
        self._places = places

    def __setitem__(self, name: str, content: bytes) -> None:
        super().__setitem__(name, content)
        kind = "export" if "/audit/export" in name else "page"
        self._places[kind, name] = content


def _rows() -> dict[str, Client]:
    """Disks known by their markers: right passwords, a wrong one in the sheet, three accidents."""
    rows = [row for row in clients() if row.has_disk]
    cards = [row for row in rows if row.kind == "ic_card" and row.case is Case.NORMAL]
    boxes = [row for row in rows if row.kind == "baiwang" and row.case is Case.NORMAL]
    wrong = next(row for row in rows if row.case is Case.WRONG_PIN and row.kind == "ic_card")

    def pin(row: Client, name: str) -> Client:
        return replace(row, pin=MARKERS[name], sheet_pin=MARKERS[name])

    return {
        "card": pin(cards[0], "PIN"),
        "box": replace(
            pin(boxes[0], "device password"), certificate=MARKERS["certificate password"]
        ),
        "wrong": replace(
            wrong, pin=MARKERS["right PIN typed later"], sheet_pin=MARKERS["wrong PIN"]
        ),
        "killed": pin(cards[1], "PIN of the killed run"),
        "raised": pin(boxes[1], "PIN of the run that raised"),
        "uncaught": pin(cards[2], "PIN of the run that nobody caught"),
    }


def _tables(month: MonthUnderTest) -> Iterator[tuple[str, bytes]]:
    """Each table's rows as text: what PostgreSQL stores compressed cannot hide here."""
    with month.database() as connection:
        names = connection.execute(
            "SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for name in names:
            query = sql.SQL("SELECT t::text AS row FROM {} t").format(sql.Identifier(name.name))
            found = connection.execute(query).fetchall()
            yield name.name, "\n".join(each.row for each in found).encode()


def _send(url: str, prefix: str, queue: str, task: str, *args: str) -> None:
    """Into a queue what none of ours would send."""
    app = Celery(broker=transport_url(url), set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": prefix}
    app.send_task(task, args=args, queue=queue, ignore_result=True)
    app.close()


@contextmanager
def _overheard(url: str, path: Path) -> Iterator[None]:
    """Everything that anybody says to the broker meanwhile, in a file."""
    ended = threading.Event()

    def listen() -> None:
        with (
            redis.Redis.from_url(url) as client,
            client.monitor() as monitor,
            path.open("w", encoding="utf-8") as file,
        ):
            while not ended.is_set():
                said = monitor.next_command()  # the sweeper's clock speaks every two seconds
                file.write(f"{said['command']}\n")

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(60)
