"""The watcher with real pcscd: changes within a second, restarts, new readers, sixteen of them."""

from __future__ import annotations

import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devices.drivers import pcsc_codes
from devices.drivers.pcsc_service import PcscService
from devices.drivers.pcsc_watch import PcscWatch, ReaderView, ServiceView
from devices.drivers.pcsc_watcher import PcscWatcher
from devices.simulator.pcscd import DRIVER
from devices.simulator.vpcd import FISCAL_ATR
from tests.devices.pcsc.desk import Desk, number, slot, until


class Seen:
    """The views of a watch that runs in a thread."""

    def __init__(self, service: PcscService) -> None:
        self.watch = PcscWatch(service)
        self._views: queue.SimpleQueue[ServiceView] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        for view in self.watch.views():
            self._views.put(view)

    def next(self, wanted: Callable[[ServiceView], bool], *, seconds: float = 5.0) -> ServiceView:
        end = time.monotonic() + seconds
        while not wanted(view := self._views.get(timeout=max(0.0, end - time.monotonic()))):
            pass
        return view


@pytest.fixture
def seen(desk: Desk) -> Iterator[Seen]:
    seen = Seen(desk.service)
    yield seen
    seen.watch.stop()
    seen.thread.join(5)


def in_slot(desk: Desk, view: ServiceView, place: int) -> ReaderView:
    return {reader.name: reader for reader in view.readers}[desk.reader(place)]


def test_the_first_view_shows_all_readers_and_what_is_in_them(desk: Desk, seen: Seen) -> None:
    view = seen.next(lambda view: view.up)
    assert [reader.name for reader in view.readers] == [desk.reader(n) for n in (1, 2, 3, 4)]
    assert [reader.present for reader in view.readers] == [True, True, False, False]
    assert in_slot(desk, view, 1).atr == FISCAL_ATR.hex().upper()
    assert ServiceView.from_line(view.to_line()) == view


def test_pulls_and_insertions_are_told_within_a_second(desk: Desk, seen: Seen) -> None:
    seen.next(lambda view: view.up)
    desk.control.pull(slot(1))
    seen.next(lambda view: not in_slot(desk, view, 1).present, seconds=10)
    desk.control.insert(slot(3), number(1))
    seen.next(lambda view: in_slot(desk, view, 3).present, seconds=10)


def test_another_disk_in_the_same_reader_is_another_insertion(desk: Desk, seen: Seen) -> None:
    before = in_slot(desk, seen.next(lambda view: view.up), 1).insertion
    desk.control.swap(slot(1), number(2))
    seen.next(
        lambda view: (
            in_slot(desk, view, 1).present and in_slot(desk, view, 1).insertion == before + 2
        )
    )


def test_use_by_somebody_is_shown_and_does_not_count_as_an_insertion(
    desk: Desk, seen: Seen
) -> None:
    before = in_slot(desk, seen.next(lambda view: view.up), 1)
    channel = desk.channel()
    used = in_slot(desk, seen.next(lambda view: in_slot(desk, view, 1).in_use), 1)
    assert used.insertion == before.insertion
    channel.close()
    seen.next(lambda view: not in_slot(desk, view, 1).in_use)


def test_a_restarted_daemon_is_a_new_session_with_new_insertions(desk: Desk, seen: Seen) -> None:
    """pyscard#82: a monitor ended without a word when pcscd was restarted."""
    descriptors = len(os.listdir("/proc/self/fd"))
    session = seen.next(lambda view: view.up).session
    for _ in range(3):
        desk.virtual.kill(0)
        away = seen.next(lambda view: not view.up, seconds=1)
        assert int(away.problem, 16) in pcsc_codes.SERVICE_AWAY
        desk.virtual.start(0)
        view = seen.next(lambda view: view.up and in_slot(desk, view, 1).present)
        assert view.session == session + 1
        session = view.session
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


def test_a_daemon_that_comes_back_with_another_reader_shows_it(
    desk: Desk, daemon_folder: Path, seen: Seen
) -> None:
    """With a running daemon only USB readers come and go: see test_watch_readers."""
    seen.next(lambda view: view.up)
    library = daemon_folder / "0" / "lib" / "late.so"
    library.write_bytes(DRIVER.read_bytes())
    conf = daemon_folder / "0" / "conf" / "readers"
    late = f"DEVICENAME /dev/null:0x9999\nLIBPATH {library}\nCHANNELID 0x9999\n"
    conf.write_text(f'{conf.read_text()}\nFRIENDLYNAME "late"\n{late}')
    desk.virtual.kill(0)
    desk.virtual.start(0)
    view = seen.next(lambda view: len(view.readers) == 6)
    assert view.readers[-1].name.startswith("late")


def test_stop_ends_a_watch_that_waits(seen: Seen) -> None:
    seen.next(lambda view: view.up)
    began = time.monotonic()
    seen.watch.stop()
    seen.thread.join(5)
    assert time.monotonic() - began < 0.8


def test_stop_ends_a_watch_without_a_daemon(desk: Desk, seen: Seen) -> None:
    seen.next(lambda view: view.up)
    desk.virtual.kill(0)
    seen.next(lambda view: not view.up)
    seen.watch.stop()
    seen.thread.join(2)
    assert not seen.thread.is_alive()


# --- in a process of its own ---------------------------------------------------------------------


def test_a_watcher_at_another_daemon_follows_sixteen_readers_without_spinning(
    scratch: Path,
) -> None:
    """CardMonitor turns in circles at exactly sixteen."""
    desk = Desk(scratch, scratch, readers=16, disks=2)
    try:
        changed = threading.Event()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        watcher = PcscWatcher(desk.service, changed=changed.set)
        until(lambda: len(watcher.view().readers) == 16)
        time.sleep(2)
        changed.clear()
        desk.control.pull(slot(2))
        assert changed.wait(10)
        until(lambda: not in_slot(desk, watcher.view(), 2).present, seconds=10)
        watcher.stop()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert used.ru_utime - before.ru_utime < 1
    finally:
        desk.close()


def test_a_watching_process_ends_with_whoever_started_it(desk: Desk) -> None:
    command = [sys.executable, "-m", "devices.drivers.pcsc_watch", "--socket"]
    with subprocess.Popen(
        [*command, str(desk.service.socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        assert ServiceView.from_line(process.stdout.readline()).up
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_watching_process_that_dies_is_started_again(desk: Desk) -> None:
    watcher = PcscWatcher(desk.service)
    try:
        until(lambda: watcher.view().up)
        process = watcher._process
        assert process is not None
        process.kill()
        until(lambda: watcher._process is not process and watcher.view().up)
    finally:
        watcher.stop()


def test_a_daemon_that_answers_nothing_is_silent(desk: Desk) -> None:
    watcher = PcscWatcher(desk.service, silent=6.0)
    try:
        until(lambda: watcher.view().up)
        os.kill(desk.virtual.pid(0), signal.SIGSTOP)
        until(lambda: watcher.view().problem == "silent", seconds=20)
        os.kill(desk.virtual.pid(0), signal.SIGCONT)
        until(lambda: watcher.view().up)
    finally:
        watcher.stop()
