"""A permission of the server, counted on this machine's steady clock.

Owns the arithmetic: a grant lasts from before the request was sent, so that no delay on the way can
make it longer here than there.
"""

from __future__ import annotations

from collections.abc import Callable

from clearing.stages import Denied
from clearing.wire import Denial
from clearing.worker.steady import steady


class Grant:
    """The one permission in hand; the next request drops it."""

    def __init__(self, clock: Callable[[], float] = steady) -> None:
        self._clock = clock
        self._until: float | None = None

    def take(self, asked_at: float, seconds: float) -> None:
        """A permission of ``seconds`` came, asked for at ``asked_at`` (steady)."""
        self._until = asked_at + seconds

    def drop(self) -> None:
        self._until = None

    def remaining(self) -> float:
        """Seconds left; 0 without a permission."""
        return 0.0 if self._until is None else max(0.0, self._until - self._clock())

    def check(self, needed: float) -> None:
        """Raises Denied(lease_lost) when less than ``needed`` seconds are left, or none at all:
        what would be started now might end when somebody else is already allowed."""
        left = self.remaining()
        if left <= 0.0 or left < needed:
            raise Denied(Denial.LEASE_LOST, f"permission: {left:.1f} s left, {needed:g} needed")
