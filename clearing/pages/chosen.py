"""Which companies an address or a form names, checked against what the viewer may see."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.db.models import QuerySet
from django.http import Http404, QueryDict

from agency.access import Viewer, access_company, companies_of, require
from agency.choices import Act
from agency.models import Company
from clearing.selectors.board import Query, board
from clearing.selectors.failures import groups
from devices.protocol.month import Month


def numbers(values: Iterable[str]) -> list[int]:
    """Ids from repeated fields, each of which may hold several parted by commas. 404 for others."""
    found = [part for value in values for part in value.split(",") if part]
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in found):
        raise Http404
    return [int(part) for part in dict.fromkeys(found)]


def chosen_companies(
    viewer: Viewer, values: QueryDict, act: Act, period: Month, today: dt.date
) -> QuerySet[Company]:
    """The ticked companies; with ``all`` every one that matches the board's filter, with ``code``
    alone those of one cause of failure (a list of ids could outgrow an address).

    The first that is not the viewer's decides between 404 and 403, as for a single company."""
    mine = companies_of(viewer)
    if values.get("code") and not values.get("company"):
        require(viewer, act)
        causes = {group.code: group.companies for group in groups(mine, period, today)}
        return mine.filter(pk__in=causes.get(str(values["code"]), []))
    if values.get("all"):
        require(viewer, act)
        rows = board(mine, Query.of(values), period, today).rows
        return mine.filter(pk__in=[row.id for row in rows])
    ids = numbers(values.getlist("company"))
    seen = set(mine.filter(pk__in=ids).values_list("pk", flat=True))
    for foreign in [number for number in ids if number not in seen][:1]:
        access_company(viewer, foreign, act)  # raises
    require(viewer, act)
    return mine.filter(pk__in=ids)


def period_of(text: str, now_period: Month) -> Month:
    """The period an address names; the present one when it names none. 404 for anything odd."""
    if not text:
        return now_period
    try:
        period = Month.parse(text)
    except ValueError:
        raise Http404 from None
    if period > now_period:
        raise Http404
    return period
