"""Time that no one can set: for grants, limits and the procedure's clock.

Must never be used to tell a date by itself; dates start from the server's time.
"""

from __future__ import annotations

import datetime as dt
import time

from devices.protocol.control import BEIJING

_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def steady() -> float:
    """Seconds on a clock that never jumps, the same for all processes of the machine.

    Where the system has one it goes on while the machine sleeps: a permission given before the lid
    was closed must not look fresh in the morning.
    """
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class OrderClock:
    """The order's time, going on steadily since the moment ``since`` at which it arrived."""

    def __init__(self, now: str, since: float) -> None:
        self._start = dt.datetime.fromisoformat(now)
        self._since = since

    def now(self) -> dt.datetime:
        return (self._start + dt.timedelta(seconds=steady() - self._since)).astimezone(BEIJING)


class ServerClock:
    """How far the machine's wall clock is from the server's, from the times in its answers."""

    def __init__(self, server: float | None = None, at: float = 0.0) -> None:
        self._seen: tuple[float, float] | None = None if server is None else (server, at)

    def saw(self, server: dt.datetime) -> None:
        """An answer carried this time just now."""
        self._seen = (server.timestamp(), steady())

    @property
    def seen(self) -> tuple[float, float] | None:
        """The last server time (epoch seconds) and when, steadily, it was seen."""
        return self._seen

    def difference(self) -> float | None:
        """Server minus machine in seconds, or None before the first answer.

        Goes by the wall clock of *now*: one that was set since the last answer is noticed.
        """
        if self._seen is None:
            return None
        server, at = self._seen
        return server + (steady() - at) - time.time()
