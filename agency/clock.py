"""What time it is for the domain: periods, windows, deadlines, quiet hours, in Beijing time.

Services take ``now`` as an argument; only entrances (views, tasks, commands) ask here. Leases and
the age of a presence report never use this clock but the database's.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from django.conf import settings

BEIJING = ZoneInfo("Asia/Shanghai")


def now() -> dt.datetime:
    """Now, as an aware datetime of Beijing time; shifted in a practice environment only."""
    return dt.datetime.now(BEIJING) + dt.timedelta(seconds=settings.CLOCK_OFFSET)
