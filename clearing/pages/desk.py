"""The front desk's page: whose disks there are, which are plugged in, and one button: start what
waits for the disk at the counter."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from agency import clock
from agency.access import Viewer, companies_of
from agency.choices import Act
from agency.errors import ServiceError
from agency.middleware import viewer_of
from clearing.pages.password import access_disk
from clearing.periods import current_period
from clearing.selectors.board import PER_PAGE, Query, rows_of
from clearing.selectors.lines import DiskLine
from clearing.selectors.presence import places_of
from clearing.selectors.search import search
from clearing.services import run_start_waiting
from clearing.states import Reason, RunState


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
        (row, [(disk, places.get(disk.device_no, ""), _startable(disk)) for disk in row.disks])
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


def _startable(disk: DiskLine) -> bool:
    run = disk.run
    return run is not None and (
        run.state in {RunState.QUEUED, RunState.UNKNOWN}
        or run.reason in {Reason.DISK, Reason.MACHINE}
    )


@require_POST
def start(request: HttpRequest, disk_id: int) -> HttpResponse:
    """The button."""
    disk = access_disk(viewer_of(request), disk_id, Act.START_WAITING)
    try:
        with transaction.atomic():
            run_start_waiting(disk_id=disk.pk, real_now=clock.real_now())
    except ServiceError as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, _("已排到最前，马上开始。办完之前请勿拔盘。"))
    return redirect("home")
