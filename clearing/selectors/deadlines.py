"""Until when a window is open: the agency's own date, the operator's, then the published rule."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db.models import Q
from django.utils.translation import gettext as _

from clearing.deadlines import CalendarUnknown, deadline_for
from clearing.models import DeadlineNotice, DeadlineOverride
from devices.protocol.month import Month


def deadline(bureau_id: int | None, window: Month) -> dt.date:
    """The filing deadline of a bureau in the month ``window`` (the month after the period).

    An agency's override goes before the operator's notice, and each that names the bureau before
    the one for all. Raises CalendarUnknown when there is neither and the calendar does not know
    the year."""
    for rows in (DeadlineOverride.objects.all(), DeadlineNotice.objects.all()):
        wanted = Q(bureau__isnull=True) | Q(bureau_id=bureau_id)
        found: dict[int | None, dt.date] = dict(
            rows.filter(wanted, month=str(window)).values_list("bureau_id", "deadline")
        )
        if found:
            return deadline_for(window, found.get(bureau_id) or found.get(None))
    return deadline_for(window)


@dataclass(frozen=True, slots=True)
class Window:
    """The filing window as a page shows it; ``problem`` says why no deadline is known."""

    period: Month
    deadline: dt.date | None
    days_left: int | None
    problem: str = ""


def window_of(period: Month, now: dt.datetime, bureau_id: int | None = None) -> Window:
    """The window of ``period`` at a bureau; without one, as it is for most of the agency."""
    try:
        last = deadline(bureau_id, period.window)
    except CalendarUnknown as unknown:
        return Window(period, None, None, _(unknown.template).format(year=unknown.year))
    return Window(period, last, (last - now.date()).days)
