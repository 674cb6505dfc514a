"""The front desk's page: whose disks there are, and which are plugged in. Nothing to press."""

from __future__ import annotations

from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from agency import clock
from agency.access import Viewer, companies_of
from clearing.periods import current_period
from clearing.selectors.board import PER_PAGE, Query, rows_of
from clearing.selectors.presence import places_of
from clearing.selectors.search import search


def page(request: HttpRequest, viewer: Viewer) -> HttpResponse:
    """Companies by name with their disks and places; states stay with the bookkeepers."""
    now = clock.now()
    query = Query.of(request.GET)
    companies, _standings = search(companies_of(viewer), query.text)
    rows = rows_of(companies, current_period(now), now.date())
    rows.sort(key=lambda row: row.short_name)
    shown = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    places = places_of(disk.device_no for row in shown.object_list for disk in row.disks)
    listed = [
        (row, [(disk, places.get(disk.device_no, "")) for disk in row.disks])
        for row in shown.object_list
    ]
    return render(
        request,
        "clearing/desk.html",
        {
            "page": shown,
            "companies": listed,
            "query": query,
            "query_text": urlencode(query.parameters()),
        },
    )
