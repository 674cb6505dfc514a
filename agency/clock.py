"""What time it is for the domain: periods, windows, deadlines, quiet hours, in Beijing time.

Services take ``now`` as an argument; only entrances (views, tasks, commands) ask here. Leases and
the age of a presence report never use this clock but the database's.
"""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import connection

BEIJING = ZoneInfo("Asia/Shanghai")


def now() -> dt.datetime:
    """Now, as an aware datetime of Beijing time; shifted in a practice environment only."""
    return dt.datetime.now(BEIJING) + dt.timedelta(seconds=settings.CLOCK_OFFSET)


def real_now() -> dt.datetime:
    """The database's clock, in the middle of a transaction too; for leases and presence."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: dt.datetime = cursor.fetchone()[0]
    return moment
