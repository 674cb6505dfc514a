"""A private PgBouncer in transaction mode before an embedded PostgreSQL, for the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy import leash
from deploy.embedded import EmbeddedPostgres
from deploy.private import private_folder

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class Bouncer:
    """Every client shares ``servers`` connections, one transaction at a time."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, *, servers: int) -> None:
        self.folder = folder
        self.socket = folder / ".s.PGSQL.6432"
        self.log = folder / "log"
        private_folder(folder)
        (folder / "users").write_text('"qingka_app" ""\n', encoding="utf-8")
        self.config = folder / "pgbouncer.ini"
        self.config.write_text(
            f"""[databases]
qingka = host={postgres.socket_dir} port=5432 dbname=qingka
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
unix_socket_mode = 0700
auth_type = trust
auth_file = {folder}/users
admin_users = qingka_app
pool_mode = transaction
default_pool_size = {servers}
max_client_conn = 100
query_wait_timeout = 120
""",
            encoding="utf-8",
        )
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, role: str) -> str:
        return f"postgresql://{role}@/qingka?host={self.folder}&port=6432"

    def __enter__(self) -> Self:
        assert PROGRAM is not None
        # It refuses to run as root; like PostgreSQL, it gets a user of its own name space.
        user = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
        command = [*(user if os.geteuid() == 0 else []), PROGRAM, str(self.config)]
        kept = [sys.executable, "-I", "-S", leash.__file__, "INT,KILL", "10"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*kept, *command], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(self.log.read_text(encoding="utf-8"))
            time.sleep(0.02)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket))
            except OSError:
                return False
            return True
