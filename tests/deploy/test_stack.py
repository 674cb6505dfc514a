"""The stack: real processes on leashes, which end with whoever started them, killed or not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.demonstration.child import ROOT, Child
from deploy.demonstration.places import Places
from deploy.demonstration.scenario import MACHINES, build, clients
from deploy.embedded import EmbeddedError
from deploy.stack import Stack, StackError
from devices.protocol.month import Month

SLEEP = ("-c", "import time; print('up', flush=True); time.sleep(60)")


@pytest.fixture
def tail() -> Iterator[int]:
    """What a leash keeps open; here it guards nothing."""
    reading, writing = os.pipe()
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run folder with a small world in it."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    world, _expected = build(Month(2026, 11), clients()[:3])
    world.save(folder / "world.json")
    return folder


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that name the folder, ourselves left out."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words and int(line.parent.name) != os.getpid():
            found.append(words)
    return found


def wait_for(log: Path, text: str) -> None:
    until = time.monotonic() + 20
    while text not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < until, f"{text!r} did not appear"
        time.sleep(0.05)


def test_a_child_let_go_ends_and_its_log_remains(tmp_path: Path, tail: int) -> None:
    child = Child.start("sleeper", SLEEP, os.environ, log=tmp_path / "log", tail=tail)
    wait_for(child.log, "up")
    assert not child.ended
    child.let_go()
    assert child.wait() == 128 + signal.SIGTERM
    assert child.last_lines() == "  up"


def test_a_killed_child_takes_its_own_children_along(tmp_path: Path, tail: int) -> None:
    """As Celery's beat is one of the server worker."""
    script = (
        "import subprocess, sys, time\n"
        "wait = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"subprocess.Popen([*wait, {str(tmp_path)!r}])\n"
        "print('up', flush=True); time.sleep(60)"
    )
    child = Child.start("parent", ("-c", script), os.environ, log=tmp_path / "log", tail=tail)
    wait_for(child.log, "up")
    assert len(processes_of(tmp_path)) >= 2
    child.kill()
    until = time.monotonic() + 5
    while processes_of(tmp_path) and time.monotonic() < until:
        time.sleep(0.05)
    assert processes_of(tmp_path) == []


def test_a_run_folder_belongs_to_one_stack(root: Path) -> None:
    with Stack(root, machines=()), pytest.raises(EmbeddedError, match="Another run"):
        Stack(root, machines=()).take()
    with Stack(root, machines=()):
        pass


def test_only_the_server_gets_secrets_and_only_who_migrates_is_owner(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QINGKA_SECRET_KEY", "of somebody else")
    stack = Stack(root, machines=())
    server = stack.environment()
    assert server["QINGKA_SECRET_KEY"] not in {"", "of somebody else"}
    assert "QINGKA_OWNER_DATABASE_URL" not in server
    assert "qingka_owner" in stack.environment(owner=True)["QINGKA_OWNER_DATABASE_URL"]
    again = Stack(root, machines=()).environment()
    for name in ("QINGKA_SECRET_KEY", "QINGKA_SEAL_KEYS"):
        assert again[name] == server[name], "a second start opens what the first one sealed"
    assert (root / "keys.json").stat().st_mode & 0o777 == 0o600


def test_a_machines_configuration_is_read_by_the_worker(root: Path) -> None:
    from clearing.worker.config import load

    places = Places(root)
    places.write_machine_config(
        "读盘机A", server="http://127.0.0.1:1", token="t", broker="b", prefix="p:", parallel=3
    )
    config = load(places.machine_config("读盘机A"))
    assert (config.name, config.parallel, config.prefix) == ("读盘机A", 3, "p:")
    assert config.rack_socket == places.rack_socket("读盘机A")
    assert config.data_dir.parent == root / "machines"


def test_disks_behind_a_component_join_a_machines_configuration(root: Path) -> None:
    from clearing.worker.config import load
    from clearing.worker.hardware import Component

    places, disk = Places(root), ("A-01", "baiwang", "http://127.0.0.1:1", "661900000001")
    places.write_machine_config(
        "读盘机A", server="http://127.0.0.1:1", token="t", broker="b", prefix="p:", parallel=3
    )
    tables = [dict(zip(("slot", "kind", "address", "device_no"), disk, strict=True))]
    for _ in range(2):  # connecting anew replaces
        places.connect_machine("读盘机A", tables)
    assert "[[components]]" in places.machine_config("读盘机A").read_text(encoding="utf-8")
    config = load(places.machine_config("读盘机A"))
    assert config.components == (Component(*disk),)
    assert config.rack_socket == places.rack_socket("读盘机A")
    places.plug_machine("读盘机A", {"readers": "pcsc", "only_slots": ["A-02"]})
    for _ in range(2):
        places.connect_machine("读盘机A", tables)
    config = load(places.machine_config("读盘机A"))
    assert config.uses_pcsc and config.only_slots == ("A-02", "A-01")
    assert config.hardware.blind_slots() == ("A-01",)


def test_a_preparation_that_fails_stops_everything_and_shows_why(root: Path) -> None:
    failing = ("-c", "import sys; sys.exit('the reason')")
    stack = Stack(root, machines=MACHINES, prepare=[failing], durable=False)
    with pytest.raises(StackError, match="the reason"):
        stack.start()
    assert processes_of(root) == []


_STARTS = """
import sys; from pathlib import Path; from deploy.stack import Stack
stack = Stack(Path(sys.argv[1]), machines=sys.argv[2:], durable=False)
stack.start(reader_machines=False)
print("up", stack.url, flush=True)
sys.stdin.read()
"""


def test_a_stack_whose_holder_is_killed_leaves_nothing_and_can_be_started_again(
    root: Path,
) -> None:
    command = [sys.executable, "-c", _STARTS, str(root), *MACHINES]
    for ending in (signal.SIGKILL, None):  # the second start ends in good order
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline().startswith("up http://127.0.0.1:")
            assert len(processes_of(root)) > 5
            if ending is not None:
                holder.send_signal(ending)
    until = time.monotonic() + 30
    while processes_of(root) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_of(root) == []
