"""How short the time limits of a storm may be on this computer, as busy as it is.

A storm scales every limit and lease by one factor, so that a lost machine is soon noticed. Where
others take the processors, the same call takes many times as long: limits made for a quiet computer
would then cut off what is well, and the storm would tell of the neighbours and not of the product.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

#: Where nothing else runs: a lease lasts 12 s, a call 6 s.
QUIET = 0.1
#: The product's own is 1; with that, a try after a failure would keep a storm waiting for minutes.
LONGEST = 0.5
_ROUNDS = 2
#: What starts most often in a storm.
_WORK = (sys.executable, "-c", "import clearing.worker.child")


def time_factor() -> float:
    """Measured now: the time that some work takes, over the processor time it needs."""
    before, began = os.times(), time.monotonic()
    for _ in range(_ROUNDS):
        started = [subprocess.Popen(_WORK) for _ in range(os.cpu_count() or 1)]
        for one in started:
            one.wait()
    after, took = os.times(), time.monotonic() - began
    needed = sum(after[2:4]) - sum(before[2:4])
    return factor_for(took * (os.cpu_count() or 1) / max(needed, 0.01))


def factor_for(slower: float) -> float:
    """For a computer on which everything takes so many times as long."""
    return round(min(LONGEST, QUIET * max(1.0, slower)), 2)
