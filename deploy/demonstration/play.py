"""When the demo plays: on the 9th of the present month at 10:12, Beijing time, whatever day it is.

The difference to the wall clock is computed once and kept beside the data: a second start goes on
in the same time, which runs like the real one.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.demonstration.places import write_private
from devices.protocol.control import BEIJING
from devices.protocol.month import Month

DAY, HOUR, MINUTE = 9, 10, 12


@dataclass(frozen=True, slots=True)
class Play:
    """``offset``: seconds added to the wall clock. ``window``: the month in which it plays."""

    offset: float
    window: Month

    @classmethod
    def beginning(cls, now: dt.datetime) -> Self:
        """A play that begins ``now``."""
        today = now.astimezone(BEIJING)
        start = today.replace(day=DAY, hour=HOUR, minute=MINUTE, second=0, microsecond=0)
        return cls(math.ceil((start - today).total_seconds()), Month.of(start))

    @classmethod
    def of(cls, path: Path, now: dt.datetime) -> Self:
        """The play kept in ``path``, or one that begins now and is kept there."""
        if not path.exists():
            play = cls.beginning(now)
            write_private(path, json.dumps({"offset": play.offset, "window": str(play.window)}))
            return play
        raw = json.loads(path.read_text(encoding="utf-8"))
        return cls(float(raw["offset"]), Month.parse(raw["window"]))

    def time(self, now: dt.datetime) -> dt.datetime:
        """What time it is in the play."""
        return now.astimezone(BEIJING) + dt.timedelta(seconds=self.offset)

    def is_over(self, now: dt.datetime) -> bool:
        """Whether its month has ended: what was expected of it holds no longer."""
        return Month.of(self.time(now)) > self.window
