"""One child watched over from its birth to its end, in the thread that claimed its run.

Owns the limits: a call that outlasts its own is ended with SIGKILL, and so is a run; the lease is
renewed only while the call in hand is inside its limit. It never ends a child inside a write that
still has time, and it marks the slot of a cut disk call before it cuts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clearing.worker.client import ServerClient, ServerError
from clearing.worker.leash import STOP_LINE
from clearing.worker.places import Places
from clearing.worker.steady import steady
from clearing.worker.task import Task
from clearing.worker.watch import DISK

log_ = logging.getLogger(__name__)

COMMAND = (sys.executable, "-m", "clearing.worker.child")

#: Between two calls a child only thinks and writes its journal; starting takes a moment.
_IDLE_SECONDS = 20.0
#: What a write brought back is journaled before anything ends the child.
_AFTER_WRITE_SECONDS = 2.0
_LAST_WORDS_SECONDS = 5.0
_LONGEST_TICK = 3600.0

Event = dict[str, Any]
# Pushed by ourselves, not by the child.
_STOP: Event = {"event": "stop"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a child ended. ``told``: the server knows the end of its run, with ``code``. ``busy``:
    it could not have the disk, and gave the run back. ``cut``: it died inside a disk call, the slot
    is marked. ``killed``: by a signal."""

    told: bool = False
    busy: bool = False
    cut: bool = False
    killed: bool = False
    code: str = ""
    detail: str = ""


@dataclass(slots=True)
class _Call:
    name: str
    writes: bool
    until: float


class Overseer:
    """Runs one task; :meth:`run` is called once, :meth:`stop` from any thread."""

    def __init__(
        self,
        task: Task,
        client: ServerClient,
        places: Places,
        *,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._task = task
        self._client = client
        self._places = places
        self._command = command
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._stop_seconds = 0.0
        self._stop_at: float | None = None
        self._call: _Call | None = None
        self._idle_since = steady()
        self._spare_until = 0.0
        self._run_until = steady() + task.order.limits.run
        self._renewing: threading.Thread | None = None
        self._told = self._busy = False
        self._code = self._why = ""

    def stop(self, within: float) -> None:
        """Ask the child to end before its next permission; after ``within`` seconds it is ended
        as soon as it is not inside a write."""
        self._stop_seconds = within
        self._events.put(_STOP)

    def run(self) -> Verdict:
        """Start the child and stay with it until it is gone. Raises OSError when none starts."""
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            close_fds=True,
        )
        reader = threading.Thread(
            target=_read_events, args=(process.stdout, self._events), daemon=True
        )
        try:
            reader.start()
            self._say(process, self._task.to_line())
            self._watch_over(process)
        finally:
            # Whatever went wrong here: no child outlives its overseer.
            _kill(process)
            process.wait()
            reader.join(_LAST_WORDS_SECONDS)
            _close(process.stdin)
            _close(process.stdout)
        self._hear_the_rest()
        cut = not self._told and self._in_disk_call()
        if cut:
            self._mark()
        return Verdict(
            told=self._told,
            busy=self._busy,
            cut=cut,
            killed=process.returncode < 0,
            code=self._code,
            detail=self._why or f"child ended with {process.returncode}{self._where()}",
        )

    # -- the child ----------------------------------------------------------------------------

    def _say(self, process: subprocess.Popen[bytes], line: bytes) -> None:
        try:
            assert process.stdin is not None  # noqa: S101 - a pipe
            process.stdin.write(line)
            process.stdin.flush()
        except OSError:  # dead already; its end is seen on the other pipe
            log_.debug("run %s: child did not listen", self._task.order.run_id)

    def _watch_over(self, process: subprocess.Popen[bytes]) -> None:
        """Until the child's output ends, or its time does."""
        lease_third = self._task.order.limits.lease / 3
        renew_at = steady() + lease_third
        while True:
            now = steady()
            if (why := self._overdue(now)) is not None:
                self._why = why
                if self._in_disk_call():  # before the locks are given back by its death
                    self._mark()
                return
            if now >= renew_at:
                renew_at = now + lease_third
                self._renew(lease_third)
            tick = min(self._deadline(), renew_at) - steady()
            try:
                event = self._events.get(timeout=min(max(0.0, tick), _LONGEST_TICK))
            except queue.Empty:
                continue
            if event is None:  # it closed its output: it is about to end by itself
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LAST_WORDS_SECONDS)
                return
            if event is _STOP:
                self._stop_at = steady() + self._stop_seconds
                self._say(process, STOP_LINE)
            else:
                self._heard(event)

    def _hear_the_rest(self) -> None:
        """What a dead child had said that was not listened to yet."""
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._events.get_nowait()
                if event is not None and event is not _STOP:
                    self._heard(event)

    def _heard(self, event: Event) -> None:
        run_id = self._task.order.run_id
        match event:
            case {"event": "call", "name": str(name), "limit": int() | float() as limit}:
                until = steady() + limit + margin(limit)
                self._call = _Call(name, bool(event.get("writes")), until)
            case {"event": "end"}:
                if self._call is not None and self._call.writes:
                    self._spare_until = steady() + _AFTER_WRITE_SECONDS
                self._call, self._idle_since = None, steady()
            case {"event": "settled"}:
                self._told, self._code = True, str(event.get("code", ""))
                log_.info("run %s: %s %s", run_id, event.get("end"), event.get("code", ""))
            case {"event": "busy"}:
                self._busy = True
                log_.warning("run %s: disk or slot in use on this machine", run_id)
            case {"event": "crashed" | "unsettled" as what, "why": str(why)}:
                self._why = f"{what}: {why}"
                log_.error("run %s: %s", run_id, self._why)
            case _:
                log_.error("run %s: child said something strange", run_id)

    # -- time ---------------------------------------------------------------------------------

    def _deadline(self) -> float:
        """When something has to be done about the child, steadily."""
        call = self._call
        if call is not None and call.writes:
            return call.until  # the run's own limit and a stop wait for a write
        ends = [self._run_until]
        ends.append(call.until if call is not None else self._idle_until())
        if self._stop_at is not None:
            ends.append(self._stop_at)
        return max(min(ends), self._spare_until)

    def _idle_until(self) -> float:
        return self._idle_since + max(_IDLE_SECONDS, self._task.order.limits.call)

    def _overdue(self, now: float) -> str | None:
        """Why the child must be ended now, or None."""
        if now < self._deadline():
            return None
        if self._call is not None and now >= self._call.until:
            return f"over the limit{self._where()}"
        if now >= self._run_until:
            return f"over the limit of the run{self._where()}"
        if self._stop_at is not None and now >= self._stop_at:
            return f"worker stopped{self._where()}"
        return "over the limit between two calls"

    def _where(self) -> str:
        return f" in {self._call.name}" if self._call is not None else ""

    def _in_disk_call(self) -> bool:
        return self._call is not None and self._call.name.startswith(DISK)

    def _mark(self) -> None:
        """Nobody opens the slot before a probe was answered. What a component was asked it may
        still be doing: it is not even probed before its limit has passed once more."""
        slot = self._task.order.slot
        component = self._task.hardware.component_of(slot)
        self._places.mark(slot, rest=self._task.order.limits.call if component else 0.0)

    def _renew(self, within: float) -> None:
        """In a thread of its own: a slow server must not delay the end of a hung call."""
        if self._renewing is None or not self._renewing.is_alive():
            self._renewing = threading.Thread(target=self._renew_now, args=(within,), daemon=True)
            self._renewing.start()

    def _renew_now(self, within: float) -> None:
        order = self._task.order
        try:
            if not self._client.renew(order.run_id, order.attempt, within=within):
                log_.warning("run %s: lease lost", order.run_id)  # its next intent is refused
        except ServerError as error:
            log_.warning("run %s: lease not renewed: %s", order.run_id, error)


def margin(limit: float) -> float:
    """How much longer than its limit a call may take here: for the way and a busy machine."""
    return 0.25 + 0.1 * limit


def _read_events(stdout: Any, events: queue.Queue[Event | None]) -> None:
    """Lines of the child as events; None at the end of its output."""
    try:
        for line in stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = {}
            events.put(event if isinstance(event, dict) else {})
    except (OSError, ValueError):  # closed under our hands
        pass
    finally:
        events.put(None)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    try:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _close(pipe: Any) -> None:
    with contextlib.suppress(OSError):  # an unwritten rest for a dead reader
        pipe.close()
