"""The private servers: started, stopped, killed, left over, started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from deploy import embedded
from deploy.embedded import EmbeddedError, EmbeddedPostgres, EmbeddedValkey, socket_folder
from deploy.private import SOCKET_PATH_BYTES, works_in

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A private folder whose name needs quoting everywhere."""
    folder = tmp_path / 'a "b" c%'
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def postgres(here: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(here / "pg", socket_folder(here / "s"), durable=False)


@pytest.fixture
def valkey(here: Path) -> EmbeddedValkey:
    return EmbeddedValkey(here / "vk", socket_folder(here / "s") / "vk", durable=False)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A living process that has nothing to do with us."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def show(postgres: EmbeddedPostgres, setting: str) -> str:
    with psycopg.connect(postgres.superuser_url()) as conn:
        row = conn.execute("SELECT current_setting(%s)", [setting]).fetchone()
    assert row is not None
    return str(row[0])


def start_in_another_process(postgres: EmbeddedPostgres) -> subprocess.Popen[str]:
    """Start the server from a process that can be killed; it runs when this returns."""
    code = (
        "import sys; from pathlib import Path; from deploy.embedded import EmbeddedPostgres\n"
        "pg = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "pg.start(); print('started', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, postgres.data_dir, postgres.socket_dir],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def postmaster_of(postgres: EmbeddedPostgres) -> int:
    pid_file = postgres.data_dir / "cluster" / "postmaster.pid"
    return int(pid_file.read_text().split("\n", 1)[0])


def parent_of(pid: int) -> int:
    shown = subprocess.run(
        ["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(shown.stdout)


def test_postgres_speaks_utf8_and_utc_and_listens_nowhere(postgres: EmbeddedPostgres) -> None:
    with postgres:
        assert show(postgres, "server_encoding") == "UTF8"
        assert show(postgres, "TimeZone") == "UTC"
        assert show(postgres, "listen_addresses") == ""


def test_postgres_is_durable_unless_told_otherwise(here: Path, postgres: EmbeddedPostgres) -> None:
    with postgres:
        assert show(postgres, "fsync") == "off"
    with EmbeddedPostgres(postgres.data_dir, postgres.socket_dir) as durable:
        assert show(durable, "fsync") == "on"
        assert show(durable, "full_page_writes") == "on"


def test_valkey_keeps_everything_and_listens_nowhere(valkey: EmbeddedValkey) -> None:
    with valkey, Redis.from_url(valkey.url, decode_responses=True) as client:
        settings = client.config_get("*")
    assert settings["port"] == "0"
    assert settings["appendonly"] == "yes"
    assert settings["maxmemory-policy"] == "noeviction"


def test_data_survives_a_restart(postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
    with postgres, psycopg.connect(postgres.superuser_url()) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    with postgres, psycopg.connect(postgres.superuser_url()) as conn:
        assert conn.execute("SELECT seven FROM kept").fetchone() == (7,)

    with valkey, Redis.from_url(valkey.url, decode_responses=True) as client:
        client.set("kept", "七")
        client.execute_command("ACL", "SETUSER", "m1", "on", ">word", "~m1:*", "+get")
        client.execute_command("ACL", "SAVE")
    with valkey, Redis.from_url(valkey.url, decode_responses=True) as client:
        assert client.get("kept") == "七"
        assert "m1" in client.acl_users()


def test_servers_leave_no_process_and_no_socket_behind(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    with postgres, valkey:
        pid = postmaster_of(postgres)
    assert not works_in(pid, postgres.data_dir / "cluster")
    assert list(postgres.socket_dir.iterdir()) == []


def test_postgres_ends_when_its_starter_is_killed(postgres: EmbeddedPostgres) -> None:
    process = start_in_another_process(postgres)
    pid = postmaster_of(postgres)

    kill(process)

    deadline = time.monotonic() + 10
    while works_in(pid, postgres.data_dir / "cluster"):
        assert time.monotonic() < deadline, "PostgreSQL outlived its starter"
        time.sleep(0.02)


def test_a_leftover_whose_leash_was_killed_is_ended_and_its_data_kept(
    postgres: EmbeddedPostgres,
) -> None:
    process = start_in_another_process(postgres)
    with psycopg.connect(postgres.superuser_url()) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    leftover = postmaster_of(postgres)
    os.kill(parent_of(leftover), signal.SIGKILL)
    kill(process)
    assert works_in(leftover, postgres.data_dir / "cluster")

    with postgres, psycopg.connect(postgres.superuser_url()) as conn:
        assert conn.execute("SELECT seven FROM kept").fetchone() == (7,)
        assert postmaster_of(postgres) != leftover


def test_a_killed_postmaster_whose_session_still_works_is_survived(
    postgres: EmbeddedPostgres,
) -> None:
    process = start_in_another_process(postgres)
    with psycopg.connect(postgres.superuser_url()) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 7 AS seven")
    busy = psycopg.pq.PGconn.connect(postgres.superuser_url().encode())
    busy.send_query(b"SELECT sum(sqrt(n)) FROM generate_series(1, 4e6) AS n")
    os.kill(postmaster_of(postgres), signal.SIGKILL)
    kill(process)

    with postgres, psycopg.connect(postgres.superuser_url()) as conn:
        assert conn.execute("SELECT seven FROM kept").fetchone() == (7,)
    busy.finish()
    assert "is still in use" in postgres.log_file.read_text(encoding="utf-8")


def test_a_stale_pid_that_belongs_to_a_stranger_is_left_alone(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, stranger: subprocess.Popen[bytes]
) -> None:
    with postgres, valkey:
        stale = (postgres.data_dir / "cluster" / "postmaster.pid").read_text().splitlines()
    stale[0] = str(stranger.pid)
    text = "\n".join(stale) + "\n"
    (postgres.data_dir / "cluster" / "postmaster.pid").write_text(text)
    (postgres.socket_dir / ".s.PGSQL.5432.lock").write_text(text)
    (valkey.data_dir / "valkey.pid").write_text(f"{stranger.pid}\n")

    with postgres, valkey:
        assert postmaster_of(postgres) != stranger.pid
    assert stranger.poll() is None


def test_a_second_run_on_the_same_data_is_refused_and_the_first_goes_on(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    with postgres, valkey:
        with pytest.raises(EmbeddedError, match="Another run uses PostgreSQL's data"):
            EmbeddedPostgres(postgres.data_dir, postgres.socket_dir).start()
        with pytest.raises(EmbeddedError, match="Another run uses Valkey's data"):
            EmbeddedValkey(valkey.data_dir, valkey.socket_path).start()
        assert show(postgres, "fsync") == "off"


def test_the_socket_of_another_server_is_not_taken_away(
    here: Path, postgres: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    with postgres, valkey:
        with pytest.raises(EmbeddedError, match=r"The PostgreSQL of .* uses"):
            EmbeddedPostgres(here / "pg2", postgres.socket_dir, durable=False).start()
        with pytest.raises(EmbeddedError, match="Another server answers"):
            EmbeddedValkey(here / "vk2", valkey.socket_path, durable=False).start()
        with Redis.from_url(valkey.url) as client:
            assert client.ping()


def test_a_long_socket_path_is_refused_and_a_short_one_offered(here: Path) -> None:
    long = here / ("长" * 40)
    with pytest.raises(EmbeddedError, match=rf"may have {SOCKET_PATH_BYTES} bytes"):
        EmbeddedPostgres(here / "pg", long).start()

    short = socket_folder(long)
    assert len(os.fsencode(short / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES
    assert short == socket_folder(long)
    assert not short.exists()


def test_a_comma_in_a_socket_path_is_refused_and_avoided(here: Path) -> None:
    with pytest.raises(EmbeddedError, match="comma"):
        EmbeddedPostgres(here / "pg", here / "a,b").start()
    assert "," not in str(socket_folder(here / "a,b"))


def test_a_folder_open_to_others_is_refused_and_not_changed(here: Path) -> None:
    shared = here / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(EmbeddedError, match="open to other users"):
        EmbeddedPostgres(here / "pg", shared).start()
    assert shared.stat().st_mode & 0o777 == 0o777


def test_half_made_data_is_made_anew(postgres: EmbeddedPostgres) -> None:
    ruin = postgres.data_dir / "cluster.new"
    postgres.data_dir.mkdir(mode=0o700)
    ruin.mkdir()
    (ruin / "postgresql.conf").write_text("killed half w")
    with postgres:
        assert show(postgres, "fsync") == "off"


def test_data_of_another_postgres_version_is_refused(postgres: EmbeddedPostgres) -> None:
    with postgres:
        pass
    (postgres.data_dir / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(EmbeddedError, match=r"made by PostgreSQL 9, installed is \d+"):
        postgres.start()


def test_a_server_that_does_not_come_up_says_why(valkey: EmbeddedValkey) -> None:
    valkey.data_dir.mkdir(mode=0o700)
    (valkey.data_dir / "users.acl").write_text("user m1 nonsense\n")
    with pytest.raises(EmbeddedError, match=r"Valkey ended at once\. Its log .*\n(.*\n)*.*ACL"):
        valkey.start()


def test_root_without_user_namespaces_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match=r"util-linux.*Run this as an ordinary user"):
        embedded._as_ordinary_user()
