"""The whole program: started from its file, rung by presence or by a broker, ended by signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import redis
from celery import Celery, _state
from celery.worker import state
from django.conf import settings

from clearing.worker.__main__ import main
from clearing.worker.app import BELL_QUEUE, BELL_TASK, Ear, make_app
from clearing.worker.config import MachineConfig
from clearing.worker.runner import Runner
from deploy.embedded import EmbeddedValkey, socket_folder
from devices.broker import COMMANDS, drop_account, grant_account
from devices.models import Machine
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.fake_server import TOKEN
from tests.clearing.worker.house import House

#: No machine of another test has so high a number.
PREFIX = "m700000007:"


def transport(valkey: EmbeddedValkey) -> str:
    return valkey.url.replace("unix:", "redis+socket:")


Program = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(autouse=True)
def _no_bell_left(valkey: EmbeddedValkey) -> None:
    """A test may end with a bell that nobody heard."""
    with redis.Redis.from_url(valkey.url) as client:
        for key in client.scan_iter(f"{PREFIX}*"):
            client.delete(key)


@pytest.fixture
def program(house: House, tmp_path: Path) -> Iterator[Program]:
    """Starts ``python -m clearing.worker run``; ends what a test leaves running."""
    started: list[subprocess.Popen[bytes]] = []

    def start(broker: str = "none") -> subprocess.Popen[bytes]:
        config = tmp_path / "machine.toml"
        config.touch(0o600)
        config.write_text(
            f'server = "{house.server.url}"\ntoken = "{TOKEN}"\nbroker = "{broker}"\n'
            f'prefix = "{PREFIX}"\ndata_dir = "{house.data_dir}"\n'
            f'rack_socket = "{house.socket}"\n'
            f'only_slots = ["{house.alices.slot}", "{house.bobs.slot}"]\n'
        )
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, "-m", "clearing.worker", "run", "--config", str(config)]
            started.append(subprocess.Popen(command, stderr=log, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_without_a_broker_presence_alone_rings(
    house: House, program: Program, tmp_path: Path
) -> None:
    house.server.orders = [house.order()]
    house.server.presence_answer = {"runnable": 1, "parallel": 8, "interval": 15}
    process = program()
    settle = house.server.wait_for("settle")
    assert settle.body["outcome"]["end"] == "done"
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0
    log = (tmp_path / "log").read_text()
    assert "stopped" in log
    assert TOKEN not in log and "12345678" not in log


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_everyone_cuts_no_write(
    house: House, program: Program, sent: signal.Signals
) -> None:
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY", seconds=1.5)
    house.server.orders = [house.order()]
    house.server.presence_answer = {"runnable": 1, "parallel": 8, "interval": 15}
    process = program()
    house.wait_until_hanging()
    for child in children_of(process.pid):  # as systemd does
        os.kill(child, sent)
    process.send_signal(sent)
    assert process.wait(90) == 0
    assert house.writes() == ["VERIFY_FISCAL_PIN", "DECLARE_DUTY"]
    assert house.server.verbs()[-1] == "release"
    assert house.journal_files() == []


def test_killed_worker_takes_its_child_along_and_tells_when_it_is_back(
    house: House, program: Program
) -> None:
    house.hang(Mode.HANG_BEFORE, "DECLARE_DUTY")
    house.server.orders = [house.order()]
    house.server.presence_answer = {"runnable": 1, "parallel": 8, "interval": 15}
    process = program()
    house.wait_until_hanging()
    process.kill()
    process.wait()
    house.wait_until_free()
    assert house.disk().declares == 0

    house.server.presence_answer["runnable"] = 0
    program()
    release = house.server.wait_for("release")
    assert release.body["detail"] == "worker lost"
    (pin,) = house.server.pins_of(release.body["attempt"])
    assert house.holds_pin(bytes.fromhex(pin["pin"]))


def test_two_workers_do_not_share_a_folder(house: House, program: Program) -> None:
    program()
    house.server.wait_for("presence")
    assert program().wait(90) == 2


def test_a_config_others_can_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "machine.toml"
    config.write_text(f'token = "{TOKEN}"')
    config.chmod(0o644)
    assert main(["run", "--config", str(config)]) == 2
    assert "chmod 600" in capsys.readouterr().err


def test_a_broker_that_is_away_stops_nothing(
    house: House, program: Program, tmp_path: Path
) -> None:
    house.server.orders = [house.order()]
    house.server.presence_answer = {"runnable": 1, "parallel": 8, "interval": 15}
    process = program(broker=f"redis+socket://{tmp_path}/nobody")
    house.server.wait_for("settle")
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0


# --- the bell -------------------------------------------------------------------------------------


class Bell(Runner):
    """Only hears."""

    def __init__(self) -> None:
        self.heard = threading.Semaphore(0)

    def work(self) -> None:
        self.heard.release()


@pytest.fixture
def apart() -> Iterator[None]:
    """Celery keeps its default app and its wish to stop in modules."""
    before = _state.default_app  # type: ignore[attr-defined]
    yield
    _state.set_default_app(before)
    state.should_stop = None


def ring(url: str, prefix: str, *args: object) -> None:
    app = Celery(broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": prefix}
    app.send_task(BELL_TASK, args=args, queue=BELL_QUEUE, ignore_result=True)
    app.close()


def test_the_bell_rings_over_the_account_that_the_server_gives_a_machine(
    valkey: EmbeddedValkey, tmp_path: Path, apart: None
) -> None:
    """No channel, no key but its own, few commands: Celery as it is set up here needs no more."""
    machine = cast(Machine, SimpleNamespace(broker_account=PREFIX.rstrip(":")))
    url = transport(valkey)
    account = grant_account(machine)
    config = MachineConfig("http://h", TOKEN, tmp_path, broker=account, prefix=PREFIX)
    runner = Bell()
    ear = Ear(make_app(config, runner), 2)
    ring(url, "m8:")  # somebody else's
    ring(url, PREFIX, "arguments", "do not matter")
    ear.start()
    try:
        assert runner.heard.acquire(timeout=30)
        ring(url, PREFIX)
        assert runner.heard.acquire(timeout=30)
        assert not runner.heard.acquire(blocking=False)
    finally:
        ear.stop(20)
    assert not ear.listening


def test_celery_says_every_command_that_the_account_has_and_no_other(
    tmp_path: Path, apart: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker of its own counts, from the first greeting to the end."""
    folder = tmp_path / "broker"
    folder.mkdir(mode=0o700)
    with EmbeddedValkey(folder, socket_folder(folder) / "v", durable=False) as broker:
        monkeypatch.setattr(settings, "REDIS_URL", broker.url)
        account = grant_account(cast(Machine, SimpleNamespace(broker_account=PREFIX.rstrip(":"))))
        config = MachineConfig("http://h", TOKEN, tmp_path, broker=account, prefix=PREFIX)
        runner = Bell()
        ear = Ear(make_app(config, runner), 1)
        for _ in range(3):
            ring(broker.broker_url, PREFIX)
        with redis.Redis.from_url(broker.url) as admin:
            admin.config_resetstat()
            ear.start()
            assert runner.heard.acquire(timeout=60)
            ear.stop(60)
            assert not ear.listening
            said = {name.removeprefix("cmdstat_") for name in admin.info("commandstats")}
            refused = [entry["object"] for entry in admin.acl_log()]
    assert refused == []
    said -= {"hello", "config|resetstat"}  # everybody may say hello; the other was the test
    assert said <= set(COMMANDS)
    # These two it says only with a bell in hand at the end, and where the address names a database.
    assert set(COMMANDS) - said <= {"lpush", "select"}


def test_a_bell_has_the_program_claim_at_once(
    house: House, program: Program, valkey: EmbeddedValkey
) -> None:
    """Presence says that nothing can run, so only the broker can have told."""
    machine = cast(Machine, SimpleNamespace(broker_account=PREFIX.rstrip(":")))
    program(broker=grant_account(machine))
    house.server.wait_for("presence")
    house.server.orders = [house.order()]
    ring(transport(valkey), PREFIX)
    assert house.server.wait_for("settle").body["outcome"]["end"] == "done"


def test_a_worker_gone_deaf_is_rung_by_the_answer_to_its_presence(
    house: House, program: Program, valkey: EmbeddedValkey
) -> None:
    """Its broker account is cut while HTTPS remains: the next answer is the bell."""
    machine = cast(Machine, SimpleNamespace(broker_account=PREFIX.rstrip(":")))
    house.server.presence_answer = {"runnable": 0, "parallel": 8, "interval": 1}
    process = program(broker=grant_account(machine))
    house.server.wait_for("presence")
    ring(transport(valkey), PREFIX)
    house.server.wait_for("claim")  # it hears; there is nothing, so nothing happens
    assert house.server.verbs().count("settle") == 0
    drop_account(machine.broker_account)
    ring(transport(valkey), PREFIX)  # to nobody
    house.server.orders = [house.order()]
    house.server.presence_answer = {"runnable": 1, "parallel": 8, "interval": 1}
    assert house.server.wait_for("settle").body["outcome"]["end"] == "done"
    assert process.poll() is None


def test_the_worker_s_redis_account_needs_no_channel(tmp_path: Path) -> None:
    config = MachineConfig("http://h", TOKEN, tmp_path, broker="redis://r/0", prefix=PREFIX)
    conf = make_app(config, Bell()).conf
    assert not conf.worker_enable_remote_control
    assert not conf.worker_send_task_events
    assert conf.broker_connection_max_retries is None
    assert not conf.worker_cancel_long_running_tasks_on_connection_loss
    assert not conf.task_create_missing_queues
    assert not conf.task_acks_late
    assert conf.broker_transport_options["global_keyprefix"] == PREFIX


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
