"""Claims runs and has them done, at most so many at a time.

Owns the loop journal → claim → child → next, the places, and what happens when a child dies: its
journal is delivered and its run given back. Threads come from the broker's bell (``work``) and from
presence answers (``start``); both meet the same bound. A run of a group of slots waits for its turn
without a place, and its lease is kept meanwhile. An exception ends in the log with its type
and place, never its text, and never leaves a claimed run behind if the server can be told.
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence

from clearing.wire import Order
from clearing.worker.client import ServerClient, ServerError
from clearing.worker.config import MachineConfig
from clearing.worker.deliver import flush, give_back
from clearing.worker.journal import Journal
from clearing.worker.overseer import COMMAND, Overseer, Verdict
from clearing.worker.places import Places
from clearing.worker.steady import steady
from clearing.worker.task import Task
from clearing.worker.turns import Turns
from devices.protocol.failures import Failure

log_ = logging.getLogger(__name__)

Ended = Callable[[Order, Verdict], None]
_FLUSH_SECONDS = 5.0


class Runner:
    """The runs of one machine; shared by all threads."""

    def __init__(
        self,
        config: MachineConfig,
        client: ServerClient,
        journal: Journal,
        places: Places,
        *,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._config = config
        self._client = client
        self._journal = journal
        self._places = places
        self._command = command
        #: Called after each run, from its thread.
        self.ended: Ended = lambda order, verdict: None
        self._lock = threading.Condition()
        self._limit = config.parallel
        self._working = 0
        self._aside = 0
        self._rung = False
        self._stop_seconds: float | None = None
        self._overseers: dict[Overseer, str] = {}
        self._turns = Turns()
        # Claims whose answer never came: asked again under the same id, so nothing stays behind.
        self._unanswered: deque[str] = deque()

    # -- from outside -------------------------------------------------------------------------

    def work(self) -> None:
        """Claim and run until nothing is left; returns at once when every place is taken (whoever
        holds one will look again before it leaves)."""
        while self._enter():
            try:
                again = True
                while again and not self.stopping:
                    again = self._next()
            except Exception as error:
                log_.error("worker thread: %s", place_of(error))
            finally:
                more = self._leave()
            if not more:
                return

    def start(self, count: int) -> None:
        """Have ``count`` runs begun, as far as places are free, each in a thread of its own."""
        for _ in range(min(count, self.free)):
            threading.Thread(target=self.work, name="run").start()

    def flush(self) -> None:
        """Bring to the server what dead attempts left in the journal. Raises ServerError."""
        flush(self._journal, self._client, within=_FLUSH_SECONDS)

    def set_limit(self, parallel: int) -> None:
        """The server's own bound; never above the machine's."""
        with self._lock:
            self._limit = max(1, min(parallel, self._config.parallel))
            self._lock.notify_all()

    @property
    def free(self) -> int:
        with self._lock:
            return 0 if self.stopping else max(0, self._limit - self._working)

    def slots_in_use(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._overseers.values())

    @property
    def stopping(self) -> bool:
        return self._stop_seconds is not None

    def stop(self, within: float) -> None:
        """Take no new runs; those at work end before their next permission, after ``within``
        seconds wherever they are, a write excepted."""
        with self._lock:
            self._stop_seconds = within
            overseers = list(self._overseers)
            self._lock.notify_all()
        self._turns.wake()
        for overseer in overseers:
            overseer.stop(within)

    def wait(self) -> None:
        """Until no thread is at work."""
        with self._lock:
            self._lock.wait_for(lambda: self._working == self._aside == 0)

    # -- places -------------------------------------------------------------------------------

    def _enter(self) -> bool:
        with self._lock:
            if self.stopping:
                return False
            if self._working >= self._limit:
                self._rung = True
                return False
            self._rung = False
            self._working += 1
            return True

    def _step_aside(self) -> None:
        """Leave the place to another thread, with a claimed run in hand."""
        with self._lock:
            self._aside += 1
        self._leave()
        threading.Thread(target=self.work, name="run").start()

    def _come_back(self) -> None:
        """Take a place again, as soon as one is free; a stopping worker has no bound any more."""
        with self._lock:
            self._lock.wait_for(lambda: self._working < self._limit or self.stopping)
            self._working += 1
            self._aside -= 1

    def _leave(self) -> bool:
        """Give the place back; True when somebody rang in vain meanwhile."""
        with self._lock:
            self._working -= 1
            self._lock.notify_all()
            return self._rung

    # -- one run ------------------------------------------------------------------------------

    def _next(self) -> bool:
        """One claim and its run; whether to go on. A run that did not come to its end stops the
        thread: the next bell or presence answer starts afresh, so nothing spins."""
        try:
            self.flush()
        except ServerError as error:
            log_.warning("journal not delivered: %s", error)
        order = self._claim()
        if order is None:
            return False
        verdict = self._do(order)
        self.ended(order, verdict)
        return verdict.told

    def _claim(self) -> Order | None:
        with self._lock:
            attempt = self._unanswered.popleft() if self._unanswered else str(uuid.uuid4())
        try:
            return self._client.claim(attempt)
        except ServerError as error:
            log_.warning("no claim: %s", error)
            with self._lock:
                self._unanswered.append(attempt)
        except Failure as failure:
            log_.error("claim: %s", failure)
        return None

    def _do(self, order: Order) -> Verdict:
        """Have the order run by a child. Whatever happens, the run is settled or given back."""
        arrived = steady()
        verdict = Verdict(detail="not started")
        try:
            verdict = self._in_turn(order, arrived)
        except Exception as error:
            log_.error("run %s: %s", order.run_id, place_of(error))
        if not verdict.told and not verdict.busy:
            log_.warning("run %s: %s", order.run_id, verdict.detail)
            self._give_back(order, verdict.detail)
        return verdict

    def _in_turn(self, order: Order, arrived: float) -> Verdict:
        """The run, once its group of slots is free for it."""
        group = self._config.hardware.group_of(order.slot)
        if group is None:
            return self._oversee(order, arrived)
        waits = not self._turns.is_free(group.name)
        if waits:
            self._step_aside()
        every = order.limits.lease / 3
        with self._turns.turn(group.name, lambda: self._keep_lease(order, every), every) as ours:
            if waits:
                self._come_back()
            if ours and not self.stopping:
                return self._oversee(order, arrived)
        return Verdict(detail=f"gave up waiting for {group.name}")

    def _keep_lease(self, order: Order, within: float) -> bool:
        """Whether to go on waiting."""
        if self.stopping:
            return False
        try:
            return self._client.renew(order.run_id, order.attempt, within=within)
        except ServerError as error:
            log_.warning("run %s: lease not renewed: %s", order.run_id, error)
            return True

    def _oversee(self, order: Order, arrived: float) -> Verdict:
        task = Task(
            order=order,
            server=self._config.server,
            token=self._config.token,
            data_dir=self._config.data_dir,
            hardware=self._config.hardware,
            server_seen=self._client.clock.seen,
            arrived=arrived,
            parent=os.getpid(),
            hold_seconds=self._config.hold_seconds,
        )
        overseer = Overseer(task, self._client, self._places, command=self._command)
        with self._lock:
            self._overseers[overseer] = order.slot
            within = self._stop_seconds
        if within is not None:
            overseer.stop(within)
        try:
            return overseer.run()
        finally:
            with self._lock:
                del self._overseers[overseer]

    def _give_back(self, order: Order, detail: str) -> None:
        try:
            give_back(
                self._journal,
                self._client,
                run_id=order.run_id,
                attempt=order.attempt,
                device_no=order.device_no,
                detail=detail,
            )
        except Exception as error:
            log_.error("run %s: not given back: %s", order.run_id, place_of(error))


def place_of(error: BaseException) -> str:
    """Type and innermost place of an error; its text may hold a secret."""
    trace = error.__traceback__
    where = ""
    while trace is not None:
        where = f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return type(error).__name__ + where
