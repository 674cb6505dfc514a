"""Runs of one group of slots, one after another.

Owns the queue inside the worker, so that waiting costs neither a process nor a place. That really
only one process uses a group is the business of its file lock (``Places.hold_group``).
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator


class Turns:
    """Whose turn it is in each group; shared by all threads of the worker."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queues: dict[str, deque[object]] = {}

    def is_free(self, group: str) -> bool:
        with self._changed:
            return not self._queues.get(group)

    @contextlib.contextmanager
    def turn(self, group: str, keep_on: Callable[[], bool], every: float) -> Iterator[bool]:
        """Wait for the group and have it for the block; yields False when ``keep_on``, asked every
        so many seconds and at :meth:`wake`, says that it is not worth waiting any longer."""
        me = object()
        with self._changed:
            queue = self._queues.setdefault(group, deque())
            queue.append(me)
        try:
            yield self._wait(queue, me, keep_on, every)
        finally:
            with self._changed:
                queue.remove(me)
                self._changed.notify_all()

    def wake(self) -> None:
        """Have everyone who waits ask whether to go on."""
        with self._changed:
            self._changed.notify_all()

    def _wait(
        self, queue: deque[object], me: object, keep_on: Callable[[], bool], every: float
    ) -> bool:
        while True:
            with self._changed:
                if queue[0] is me:
                    return True
                self._changed.wait(every)
                if queue[0] is me:
                    return True
            if not keep_on():
                return False
