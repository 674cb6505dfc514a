"""Runs all of Qingka on this machine as real processes, each on a leash (:mod:`deploy.leash`).

Embedded PostgreSQL and Valkey, web, server worker with beat, stand-in bureau (模拟税局), racks and
components of simulated disks (模拟税盘), reader machines. For the demo and the reliability tests;
production has systemd. Owns the start, the order of the end, and the killing of one reader machine.
It never signals a process that it did not start, and no reader machine sees a secret of the server.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Self

import psycopg

from agency.sealing import KeyRing
from agency.signing import SigningKey
from deploy.demonstration.child import Child
from deploy.demonstration.places import Places, write_private
from deploy.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedValkey
from deploy.private import locked, private_folder, within
from deploy.readers import PcscRack
from deploy.roles import APP, OWNER, create_database, create_roles
from devices.drivers.dates import Kind
from devices.simulator.world import World, WorldDisk

HOST = "127.0.0.1"
MIGRATE = ("manage.py", "migrate", "--database", "owner", "--verbosity", "0")

_DATABASE = "qingka"
_CARD = Kind.IC_CARD.value
_START_SECONDS = 90.0
_LEFTOVER_SECONDS = 30.0
_MOST_RESTARTS = 20


class StackError(RuntimeError):
    """Something did not start, or ended by itself; the text shows the end of its log."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class Stack:
    """Everything of one run folder. ``world`` lies in the folder before the start, or is written
    by ``prepare``: the commands (arguments of Python) between database and web, with the owner's
    rights on the database, which also write the configurations of ``machines``.
    ``pcsc``: the disks of each machine sit in readers of real pcscd (:mod:`deploy.readers`); names
    of machines: of these alone. ``restarts``: how many reader machines that ended by themselves
    :meth:`tend` starts again.
    """

    def __init__(
        self,
        root: Path,
        *,
        machines: Iterable[str],
        prepare: Iterable[Iterable[str]] = (MIGRATE,),
        clock_offset: float = 0.0,
        limits_scale: float = 1.0,
        port: int = 0,
        durable: bool = True,
        pcsc: bool | Collection[str] = False,
        restarts: int = _MOST_RESTARTS,
    ) -> None:
        self.places = Places(root.absolute())
        self.machines = tuple(machines)
        self.prepare = tuple(tuple(command) for command in prepare)
        self.clock_offset = clock_offset
        self._limits_scale = limits_scale
        self._lock: IO[str] | None = None
        self._tail: IO[str] | None = None
        self._children: dict[str, Child] = {}
        self._restarts = restarts
        self.pcsc = pcsc
        self.readers: dict[str, PcscRack] = {}
        self._components: dict[str, list[WorldDisk]] = {}
        self.host = self.bureau_host = HOST
        self.port = port or free_port()
        self.bureau_port = free_port()
        root = self.places.root
        self.postgres = EmbeddedPostgres(root / "pg", self.places.sockets, durable=durable)
        self.valkey = EmbeddedValkey(root / "vk", self.places.sockets / "v", durable=durable)

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def bureau_url(self) -> str:
        return f"http://{self.bureau_host}:{self.bureau_port}/"

    def inside(self, name: str) -> list[str]:
        """The words before a process's command that make it one of another place; here none."""
        return []

    def take(self) -> None:
        """Make the run folder ours. Raises EmbeddedError while another stack has it."""
        if self._lock is not None:
            return
        private_folder(self.places.root)
        self._lock = locked(self.places.root / "lock", "Qingka")
        # A killed stack's children are still ending: their leashes hold this one.
        tail = self.places.root / "tail.lock"
        if not within(_LEFTOVER_SECONDS, lambda: self._take_tail(tail)):
            self._lock.close()
            self._lock = None
            raise EmbeddedError(f"Processes of an earlier run in {self.places.root} do not end.")

    def _take_tail(self, path: Path) -> bool:
        try:
            self._tail = locked(path, "Qingka")
        except EmbeddedError:
            return False
        return True

    # -- the environment ------------------------------------------------------------------------

    def environment(self, *, owner: bool = False) -> dict[str, str]:
        """Of a process of the server; ``owner``: it may migrate. Makes the keys at first use."""
        keys = self._keys()
        values = {
            **_plain_environment(),
            "DJANGO_SETTINGS_MODULE": "deploy.settings",
            "QINGKA_MODE": "practice",
            "QINGKA_SECRET_KEY": keys["secret_key"],
            "QINGKA_SEAL_KEYS": keys["seal_keys"],
            "QINGKA_AUDIT_KEY": keys.get("audit_key", ""),
            "QINGKA_DATABASE_URL": self.postgres.url(APP, _DATABASE),
            "QINGKA_REDIS_URL": self.valkey.url,
            "QINGKA_ALLOWED_HOSTS": f"{self.host},localhost",
            "QINGKA_STORAGE_DIR": str(self.places.storage),
            "QINGKA_CLOCK_OFFSET": str(self.clock_offset),
            "QINGKA_LIMITS_SCALE": str(self._limits_scale),
        }
        if owner:
            values["QINGKA_OWNER_DATABASE_URL"] = self.postgres.url(OWNER, _DATABASE)
        return values

    def _keys(self) -> dict[str, str]:
        """Kept in the run folder, so that a second start opens what the first one sealed."""
        private_folder(self.places.root)
        path = self.places.root / "keys.json"
        if not path.exists():
            keys = {
                "secret_key": secrets.token_urlsafe(50),
                "seal_keys": KeyRing.generate(),
                "audit_key": SigningKey.generate(),
            }
            write_private(path, json.dumps(keys))
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
        return found

    # -- start ----------------------------------------------------------------------------------

    def start(self, *, reader_machines: bool = True) -> None:
        """Start everything; returns when all can be asked. Raises StackError or EmbeddedError."""
        self.take()
        for folder in (self.places.logs, self.places.storage):
            folder.mkdir(mode=0o700, exist_ok=True)
        try:
            with ThreadPoolExecutor() as together:
                databases = [together.submit(self.valkey.start), together.submit(self._database)]
                early = self.places.world.exists()
                if early:
                    self._start_simulated()
                for done in databases:
                    done.result()
            self._start_web()
            for number, command in enumerate(self.prepare):
                self._run(f"prepare-{number}", command)
            if not early:
                self._start_simulated()
            self._start_server_worker()
            self.wait_ready()
            for name, readers in self.readers.items():
                self.places.plug_machine(name, readers.config)
            for name in self.machines if reader_machines else ():
                self.start_machine(name)
        except BaseException:
            self.stop()
            raise

    def _database(self) -> None:
        self.postgres.start()
        with psycopg.connect(self.postgres.superuser_url(), autocommit=True) as conn:
            create_roles(conn)
            create_database(conn, _DATABASE)

    def _start_simulated(self) -> None:
        plain, world = _plain_environment(), ("--world", str(self.places.world))
        clock = ("--clock-offset", str(self.clock_offset))
        self._start_bureau()
        for number, name in enumerate(self.machines):
            place = ("--dir", str(self.places.disks), "--machine", name)
            where = ("--socket", str(self.places.rack_socket(name)))
            rack = ("-m", "devices.simulator.rack", *world, *place, *where)
            readers = self._readers_of(name, number) if self._has_pcsc(name) else None
            if readers is None:
                self._start(f"rack-{name}", rack, plain)
            else:
                self.readers[name] = readers
                self._start(f"rack-{name}", (*rack, *readers.plugs), plain, readers.inside)
            self._components.pop(name, None)
            if disks := self._plugged(name, lambda kind: kind != _CARD):
                self._components[name] = disks
                port = self.places.component_port(name)
                port.unlink(missing_ok=True)
                reach = ("--reach", self.bureau_host)
                component = ("-m", "devices.simulator.component", *world, *place, *clock, *reach)
                self._start(f"component-{name}", (*component, "--port-file", str(port)), plain)

    def _start_bureau(self) -> None:
        where = ("--host", self.bureau_host, "--port", str(self.bureau_port))
        place = ("--world", str(self.places.world), "--dir", str(self.places.bureau))
        clock = ("--clock-offset", str(self.clock_offset))
        bureau = ("-m", "clearing.bureau.standin", *place, *where, *clock)
        self._start("bureau", bureau, _plain_environment())

    def _has_pcsc(self, name: str) -> bool:
        return self.pcsc if isinstance(self.pcsc, bool) else name in self.pcsc

    def _plugged(self, name: str, wanted: Callable[[str], bool]) -> list[WorldDisk]:
        """The disks of a machine that are in a slot at the start, of the kinds wanted."""
        disks = World.load(self.places.world).disks
        return [disk for disk in disks if disk.machine == name and disk.slot and wanted(disk.kind)]

    def _connections(self, name: str) -> list[dict[str, str | bool]]:
        """What a machine's configuration says of the disks behind its component. The 金税盘 among
        them reach the bureau through it as well, so that both ways are played."""
        port = self.places.component_port(name).read_text(encoding="ascii").strip()
        return [
            {
                "slot": disk.slot,
                "kind": disk.kind,
                "address": f"http://{HOST}:{port}",
                "device_no": disk.device_no,
                "operate_net": disk.kind == Kind.AISINO,
            }
            for disk in self._components[name]
        ]

    def _readers_of(self, name: str, number: int) -> PcscRack | None:
        """Readers for every slot of a machine; None for one without slots."""
        slots = sorted({disk.slot for disk in self._plugged(name, lambda kind: kind == _CARD)})
        private_folder(self.places.sockets)
        try:
            return PcscRack(self.places.readers(number), slots) if slots else None
        except (RuntimeError, ValueError) as error:
            raise StackError(f"The card readers of {name} do not start: {error}") from None

    def _start_web(self) -> None:
        size = ("--workers", "2", "--threads", "12", "--keep-alive", "5")
        where = ("--config", "python:deploy.web", "--bind", f"{self.host}:{self.port}")
        web = ("-m", "gunicorn", *where, *size)
        self._start("web", web, self.environment())

    def _start_server_worker(self) -> None:
        beat = ("-B", "--schedule", str(self.places.root / "beat-schedule"))
        size = ("--pool", "threads", "--concurrency", "2")
        alone = ("--without-gossip", "--without-mingle", "--without-heartbeat")
        worker = ("-m", "celery", "-A", "deploy.celery", "worker", *beat, *size, *alone)
        self._start("server-worker", worker, self.environment())

    def start_machine(self, name: str) -> None:
        """Start a reader machine that does not run. Its configuration must be there."""
        if name in self._components:
            self.places.connect_machine(name, self._connections(name))
        self._start(name, self.machine_command(name), _plain_environment())

    def machine_command(self, name: str) -> tuple[str, ...]:
        """The program of a reader machine, as arguments of Python."""
        config = str(self.places.machine_config(name))
        return ("-m", "clearing.worker", "run", "--config", config)

    def kill_machine(self, name: str) -> None:
        """SIGKILL of a reader machine's program; its runs die with it, its disks do not."""
        self.kill(name)

    def kill(self, name: str) -> None:
        """SIGKILL of a process and all of its group."""
        self._children.pop(name).kill()

    def _start(
        self,
        name: str,
        arguments: Iterable[str],
        environment: Mapping[str, str],
        inside: Iterable[str] = (),
    ) -> Child:
        if name in self._children:
            raise StackError(f"{name} runs already")
        if self._tail is None:
            raise StackError("the run folder is not taken")
        log = self.places.logs / f"{name}.log"
        inside = (*self.inside(name), *inside)
        tail = self._tail.fileno()
        child = Child.start(name, arguments, environment, log=log, tail=tail, inside=inside)
        self._children[name] = child
        return child

    def _run(self, name: str, command: tuple[str, ...]) -> None:
        """Run one command to its end. Raises StackError when it fails."""
        child = self._start(name, command, self.environment(owner=True))
        status = child.wait()
        del self._children[name]
        if status:
            raise StackError(f"{' '.join(command)}:\n{child.last_lines()}")

    # -- while it runs --------------------------------------------------------------------------

    def wait_ready(self) -> None:
        """Until web, bureau, racks and components answer. Raises StackError."""
        asked: list[tuple[str, Callable[[], bool]]] = [
            ("web", lambda: _web_answers(f"{self.url}/healthz")),
            ("bureau", lambda: _port_answers(self.bureau_host, self.bureau_port)),
        ]
        asked += [
            (f"rack-{name}", lambda name=name: _socket_answers(self.places.rack_socket(name)))  # type: ignore[misc]
            for name in self.machines
        ]
        asked += [
            (f"component-{name}", self.places.component_port(name).exists)
            for name in self._components
        ]
        for name, answers in asked:
            if not within(_START_SECONDS, lambda a=answers: bool(self.ended()) or a()):  # type: ignore[misc]
                raise StackError(f"{name} does not answer:\n{self._children[name].last_lines()}")
            self.check()

    def ended(self) -> list[Child]:
        """Processes that ended though nobody asked them to."""
        return [child for child in self._children.values() if child.ended]

    def check(self) -> None:
        """Raises StackError when a process has ended by itself."""
        for child in self.ended():
            said = child.last_lines()
            raise StackError(f"{child.name} ended by itself, see {child.log}:\n{said}")

    def tend(self) -> list[str]:
        """Start reader machines again that ended by themselves, as systemd would; their names.

        Raises StackError for anything else that ended, and when it happens too often."""
        again = []
        for child in self.ended():
            if child.name not in self.machines or self._restarts <= 0:
                self.check()
            self._restarts -= 1
            self._children.pop(child.name).wait()
            self.start_machine(child.name)
            again.append(child.name)
        return again

    def stop(self) -> None:
        """End everything in good order: first who asks, then who answers; harmless twice."""
        disks = (f"{kind}-{name}" for kind in ("rack", "component") for name in self.machines)
        answering = {"web", "bureau", *disks}
        for names in (set(self._children) - answering, answering):
            group = [self._children.pop(name) for name in sorted(names & set(self._children))]
            for child in group:
                child.let_go()
            for child in group:
                child.wait()
        while self.readers:
            self.readers.popitem()[1].close()
        self.valkey.stop()
        self.postgres.stop()
        for lock in (self._tail, self._lock):
            if lock is not None:
                lock.close()
        self._tail = self._lock = None


def _plain_environment() -> dict[str, str]:
    """Ours, without anybody's settings and secrets."""
    dropped = ("QINGKA_", "DJANGO_", "PYTHONDONTWRITEBYTECODE", "PYTEST_", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(dropped)}


def _web_answers(url: str) -> bool:
    try:
        # No proxy of the surroundings may come between us and ourselves.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10):
            return True
    except urllib.error.HTTPError:
        return True  # whatever it says, it answers
    except OSError:
        return False


def _port_answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _socket_answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(os.fsencode(path)) == 0
