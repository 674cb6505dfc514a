"""The broker only rings: what a message does twice, late, never, or to a deaf worker."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis

from agency.scope import agency_scope
from clearing.bell import send_bells
from clearing.models import Attempt, Batch, Run
from deploy.embedded import EmbeddedValkey
from devices.simulator.rack_faults import Mode
from tests.reliability.regressions.desk import MONTH, Desk, until

pytestmark = pytest.mark.committed


def bells(desk: Desk, valkey: EmbeddedValkey) -> int:
    """Messages that lie in the machine's queue."""
    with redis.Redis.from_url(valkey.url) as client:
        return int(client.llen(f"{desk.prefix}bell"))


def test_a_redelivered_message_starts_nothing_a_second_time(
    desk: Desk, valkey: EmbeddedValkey
) -> None:
    """celery#5935: Redis hands a long job's message out again while the job still runs."""
    desk.hang(Mode.HANG_BEFORE, "UPDATE_CONTROLS", seconds=3)
    desk.start_machine()
    run = desk.press()
    desk.wait_until_hanging()
    send_bells(desk.machine.broker_account, 5)
    until(lambda: bells(desk, valkey) == 0, "the bells are not heard")
    assert desk.run(run).state == "claimed"
    assert desk.wait_for(run, "done", "failed").state == "done"
    assert desk.writes() == MONTH
    with agency_scope(desk.agency.pk):
        assert Attempt.objects.count() == 1


def test_a_lost_message_costs_no_run(desk: Desk, valkey: EmbeddedValkey) -> None:
    """kombu#305, kombu#1836: messages vanish between a queue and a worker that starts anew."""
    desk.start_machine()
    desk.kill_machine()
    run = desk.press()
    assert bells(desk, valkey) == 1
    with redis.Redis.from_url(valkey.url) as client:
        client.flushall()
    desk.start_machine()
    assert desk.wait_for(run, "done", "failed").state == "done"
    assert desk.writes() == MONTH


def test_a_message_for_a_run_that_is_gone_or_settled_brings_nothing_back(
    desk: Desk, valkey: EmbeddedValkey
) -> None:
    """netbox#21129: a queued message carried a copy of its deleted job, and saved it again."""
    run = desk.press()  # its disk is nowhere yet
    with agency_scope(desk.agency.pk):
        Run.objects.filter(pk=run.pk).delete()
        Batch.objects.all().delete()
    send_bells(desk.machine.broker_account, 3)  # as they lay in the queue
    desk.start_machine()
    until(lambda: bells(desk, valkey) == 0, "the bells are not heard")
    again = desk.press()
    assert desk.wait_for(again, "done", "failed").state == "done"
    send_bells(desk.machine.broker_account, 3)  # for a run that is settled
    until(lambda: bells(desk, valkey) == 0, "the bells are not heard")
    assert desk.run(again).state == "done"
    with agency_scope(desk.agency.pk):
        assert list(Run.objects.values_list("pk", flat=True)) == [again.pk]
        assert Attempt.objects.count() == 1
    assert desk.writes() == MONTH


class Hole:
    """A way to the broker that lets everything through until it is told to go deaf: connections
    stay open, and nothing passes any more."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self._target = str(target)
        self._deaf = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def go_deaf(self) -> None:
        self._deaf.set()

    def close(self) -> None:
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            broker = socket.socket(socket.AF_UNIX)
            broker.connect(self._target)
            self._sockets += [client, broker]
            for ends in ((client, broker), (broker, client)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self._deaf.is_set():
                    sink.sendall(data)
        except OSError:
            return


def test_a_worker_deaf_to_its_broker_works_on(desk: Desk, valkey: EmbeddedValkey) -> None:
    """celery#10205: after a broken connection a worker looks connected and hears nothing."""
    hole = Hole(valkey.socket_path.with_name(f"h{desk.machine.pk}"), valkey.socket_path)
    try:
        parts = urlsplit(desk.broker)
        desk.start_machine(urlunsplit(parts._replace(path=str(hole.path))))
        read = desk.press(intent="read")
        desk.wait_for(read, "done")
        hole.go_deaf()
        run = desk.press()
        assert desk.wait_for(run, "done", "failed").state == "done"
        assert desk.writes() == MONTH
    finally:
        hole.close()
