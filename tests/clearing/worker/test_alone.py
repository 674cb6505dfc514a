"""The whole program without its broker: none at all, one that dies and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery

from clearing.worker.app import BELL_QUEUE, BELL_TASK
from deploy.embedded import EmbeddedValkey, socket_folder
from tests.clearing.worker.fake_server import TOKEN, Answer, Call
from tests.clearing.worker.house import House

PREFIX = "m8:"

#: Stands in front of the real packages: whoever needs a broker's client does not start.
_NOT_HERE = "raise ImportError('there is no broker on this machine')\n"

Program = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def program(house: House, tmp_path: Path) -> Iterator[Program]:
    started: list[subprocess.Popen[bytes]] = []

    def start(broker: str = "none", **environment: str) -> subprocess.Popen[bytes]:
        config = tmp_path / "machine.toml"
        config.touch(0o600)
        config.write_text(
            f'server = "{house.server.url}"\ntoken = "{TOKEN}"\nbroker = "{broker}"\n'
            f'prefix = "{PREFIX}"\ndata_dir = "{house.data_dir}"\n'
            f'rack_socket = "{house.socket}"\nonly_slots = ["{house.alices.slot}"]\n'
        )
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, "-m", "clearing.worker", "run", "--config", str(config)]
            started.append(
                subprocess.Popen(
                    command, stderr=log, start_new_session=True, env=os.environ | environment
                )
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def a_run_from_presence_alone(house: House, number: int = 1) -> None:
    """The server has a run and says so in the next answer."""
    settled = len(house.server.of("settle"))
    house.server.orders = [house.order(number, intent="read")]
    house.server.presence_answer["runnable"] = 1
    house.server.wait_for("settle", settled + 1)
    house.server.presence_answer["runnable"] = 0
    assert house.server.of("settle")[-1].body["outcome"]["end"] == "done"


def test_https_alone_needs_no_broker_s_client_at_all(
    house: House, program: Program, tmp_path: Path
) -> None:
    """As on Windows, which Celery does not support: nothing of it is even imported.

    A run starts with the first presence that is told of it: no later than one interval."""
    told: list[str] = []

    def note(call: Call) -> Answer | None:
        told.append(call.verb)
        return None

    for name in ("celery", "kombu", "redis"):
        (tmp_path / f"{name}.py").write_text(_NOT_HERE)
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    house.server.presence_answer = {"runnable": 0, "parallel": 8, "interval": 0.2}
    process = program(PYTHONPATH=path)
    house.server.wait_for("presence", 2)  # nothing to do so far
    assert "claim" not in house.server.verbs()
    house.server.scripts["*"] = note
    a_run_from_presence_alone(house)
    assert told.index("claim") <= 2  # one presence may have been on its way already
    process.send_signal(signal.SIGTERM)
    assert process.wait(90) == 0


#: Sends the signal at the worst moment: while the main thread holds the lock of what it waits on.
_SIGNAL_WHILE_WAITING = """
import os, signal, sys, threading, time

def untimely(wait):
    def waiting(*args, **kwargs):
        callers = {sys._getframe(1).f_code.co_name, sys._getframe(2).f_code.co_name}
        if "serve" in callers:  # the program waits until it is told to end
            os.kill(os.getpid(), signal.SIGTERM)
        return wait(*args, **kwargs)
    return waiting

threading.Condition.wait = untimely(threading.Condition.wait)
time.sleep = untimely(time.sleep)
"""


def test_a_signal_is_heard_whatever_the_worker_does_at_that_moment(
    program: Program, tmp_path: Path
) -> None:
    """A handler that took the lock its own thread holds would leave the worker deaf for ever."""
    (tmp_path / "sitecustomize.py").write_text(_SIGNAL_WHILE_WAITING)
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    assert program(PYTHONPATH=path).wait(90) == 0


def test_a_broker_that_dies_and_comes_back_stops_nothing_and_is_heard_again(
    house: House, program: Program, tmp_path: Path
) -> None:
    folder = tmp_path / "broker"
    folder.mkdir(mode=0o700)
    with EmbeddedValkey(folder, socket_folder(folder) / "v", durable=False) as broker:
        url = broker.broker_url
        house.server.presence_answer = {"runnable": 0, "parallel": 8, "interval": 0.5}
        process = program(broker=url)
        house.server.wait_for("presence")
        heard(house, url, tmp_path / "log")

        broker.stop()
        a_run_from_presence_alone(house, 2)
        assert process.poll() is None

        broker.start()
        heard(house, url, tmp_path / "log")
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0


def heard(house: House, url: str, log: Path) -> None:
    """Presence says that nothing can run, so only the broker can have told.

    Rung again and again: that one bell in a hundred is lost is what presence is there for."""
    claims = len(house.server.of("claim"))
    app = Celery(broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": PREFIX}
    try:
        for _ in range(_RINGS):
            app.send_task(BELL_TASK, queue=BELL_QUEUE, ignore_result=True)
            if house.server.came("claim", claims + 1, timeout=5.0):
                return
    finally:
        app.close()
    raise AssertionError(log.read_text())


_RINGS = 6
