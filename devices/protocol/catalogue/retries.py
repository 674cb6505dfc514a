"""How often and after how long something is tried again by itself: the one table of retries.

Owns first pause, growth, bound and jitter, by failure class and, where the class alone would be
wrong, by code. A class that is not here is never tried again by itself: a person moves next.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from devices.protocol.catalogue.device_entries import DEVICE_ENTRIES
from devices.protocol.catalogue.month_entries import MONTH_ENTRIES
from devices.protocol.failures import Code, FailureClass

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Patience:
    """``first``: seconds before the first new try; each further pause is ``factor`` times longer,
    up to ``longest``. ``tries``: how many before a person must look; None where it is no trouble
    that is waited for but somebody's move. ``scaled``: shrinks with the limits of an environment
    (what waits for people and months does not)."""

    first: float
    factor: float = 2.0
    longest: float = _HOUR
    tries: int | None = 6
    scaled: bool = True

    def pause(self, tried: int, *, scale: float = 1.0) -> float:
        """Seconds after ``tried`` tries (1 after the first), jittered by a fifth either way."""
        seconds = min(self.first * self.factor ** (max(1, tried) - 1), self.longest)
        spread = random.uniform(0.8, 1.2)  # noqa: S311 - spreads machines, guards nothing
        return seconds * spread * (scale if self.scaled else 1.0)

    def exhausted(self, tried: int) -> bool:
        """Whether the next step is a person's."""
        return self.tries is not None and tried > self.tries


_BY_CLASS: Mapping[FailureClass, Patience] = {FailureClass.RETRY: Patience(30.0)}
_BY_CODE: Mapping[Code, Patience] = {
    Code.BUREAU_UNREACHABLE: Patience(60.0),
    Code.BUREAU_GARBLED: Patience(60.0),
    Code.PIN_HELD: Patience(60.0, factor=1.0, tries=None),
    Code.NOT_FILED: Patience(2 * _HOUR, factor=1.0, longest=2 * _HOUR, tries=None, scaled=False),
    Code.COMPARISON_FAILED: Patience(
        2 * _HOUR, factor=1.0, longest=2 * _HOUR, tries=None, scaled=False
    ),
    Code.OUTSIDE_WINDOW: Patience(
        6 * _HOUR, factor=1.0, longest=6 * _HOUR, tries=None, scaled=False
    ),
}
#: A confirmation that is owed: the disk is cleared, so this never becomes a failure.
CONFIRM = Patience(60.0, longest=2 * _HOUR, tries=None)
#: A run that its machine lost or gave back, before anything irreversible.
GIVEN_BACK = Patience(0.0)
#: Between two probes of a bureau that is paused.
PROBE = Patience(60.0, longest=_HOUR / 2, tries=None)

#: Failures that say: the bureau itself is down. So many different runs in a row pause it.
BUREAU_DOWN = frozenset({Code.BUREAU_UNREACHABLE, Code.BUREAU_GARBLED})
BUREAU_DOWN_LIMIT = 5

_CLASSES = {entry.code: entry.cls for entry in DEVICE_ENTRIES + MONTH_ENTRIES}


def patience_of(code: Code) -> Patience | None:
    """How a failure is tried again by itself; None when it is not."""
    return _BY_CODE.get(code) or _BY_CLASS.get(_CLASSES[code])
