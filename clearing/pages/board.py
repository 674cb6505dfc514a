"""本月清卡, the start page: counters, table, and its two fragments that follow the work."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from agency import clock
from agency.access import Viewer, companies_of, require
from agency.choices import Act, Role
from agency.middleware import viewer_of
from agency.models import Company
from clearing.pages import client, desk
from clearing.pages.chosen import numbers
from clearing.periods import current_period
from clearing.selectors.batches import Progress, progress, running_batch, visible_batches
from clearing.selectors.board import PER_PAGE, Board, Query, Row, board, complete, rows_of
from clearing.selectors.confirmation import ActionKind
from clearing.selectors.deadlines import window_of
from clearing.selectors.stops import pauses_of, unknowns_of
from devices.alarms import alarms_for

#: Seconds between two looks: while something works, and while it only waits.
BUSY_SECONDS, WAITING_SECONDS, COUNTER_SECONDS = 2, 15, 10


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """The start page of each role."""
    viewer = viewer_of(request)
    if viewer.role == Role.CLIENT:
        return client.page(request, viewer)
    if viewer.role == Role.FRONT_DESK:
        return desk.page(request, viewer)
    return _board(request, viewer)


def _board(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    now = clock.now()
    period = current_period(now)
    mine = companies_of(viewer)
    query = Query.of(request.GET)
    found = board(mine, query, period, now.date())
    page = Paginator(found.rows, PER_PAGE).get_page(request.GET.get("page"))
    rows = list(page.object_list)
    complete(rows, period)
    return render(
        request,
        "clearing/board.html",
        {
            "window": window_of(period, now),
            "alarms": alarms_for(mine, clock.real_now(), everything=viewer.role != Role.BOOKKEEPER),
            "pauses": pauses_of(mine),
            "unknowns": unknowns_of(mine),
            "may_pause": viewer.may(Act.PAUSE),
            "page": page,
            "actions": ActionKind,
            "may_run": viewer.may(Act.RUN),
            "progress": _progress(request, mine),
            **_counters(found, query),
            **_rows(rows, query),
        },
    )


@require_GET
def rows(request: HttpRequest) -> HttpResponse:
    """The rows that are on somebody's page, and the progress above them, as they are now."""
    viewer, now, mine = _fragment(request)
    period = current_period(now)
    ids = numbers(request.GET.getlist("ids"))[:PER_PAGE]
    by_id = {row.id: row for row in rows_of(mine.filter(pk__in=ids), period, now.date())}
    shown = [by_id[number] for number in ids if number in by_id]
    complete(shown, period)
    return render(
        request,
        "clearing/board_rows.html",
        {
            "progress": _progress(request, mine),
            "may_run": viewer.may(Act.RUN),
            "fragment": True,
            **_rows(shown, Query.of(request.GET)),
        },
    )


@require_GET
def counters(request: HttpRequest) -> HttpResponse:
    """The counters as they are now; asked for more rarely than the rows."""
    _viewer, now, mine = _fragment(request)
    query = Query.of(request.GET)
    found = board(mine, query, current_period(now), now.date())
    return render(request, "clearing/board_counters.html", _counters(found, query))


def _fragment(request: HttpRequest) -> tuple[Viewer, dt.datetime, QuerySet[Company]]:
    viewer = viewer_of(request)
    require(viewer, Act.RUN)
    return viewer, clock.now(), companies_of(viewer)


def _counters(found: Board, query: Query) -> dict[str, Any]:
    return {
        "counters": found.counters,
        "flags": found.flags,
        "query": query,
        "counter_seconds": COUNTER_SECONDS if found.open else 0,
    }


def _rows(rows: list[Row], query: Query) -> dict[str, Any]:
    seconds = 0
    if any(row.open for row in rows):
        seconds = BUSY_SECONDS if any(row.busy for row in rows) else WAITING_SECONDS
    return {
        "rows": rows,
        "ids": ",".join(str(row.id) for row in rows),
        "row_seconds": seconds,
        "query": query,
        "query_text": urlencode(query.parameters()),
    }


def _progress(request: HttpRequest, mine: QuerySet[Company]) -> Progress | None:
    """Of the batch an address names (the one just started), else of the newest that works."""
    wanted = numbers([request.GET.get("batch", "")])
    batch = visible_batches(mine).filter(pk=wanted[0]).first() if wanted else running_batch(mine)
    return progress(batch, mine, clock.real_now()) if batch is not None else None
