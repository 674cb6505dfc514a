"""批次: the list of clicks, and how far one has come."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from agency import clock
from agency.access import Refused, companies_of, require
from agency.choices import Act
from agency.middleware import viewer_of
from agency.models import Company
from clearing.models import Batch
from clearing.pages.board import BUSY_SECONDS
from clearing.selectors.batches import list_batches, progress, runs_of, visible_batches

PER_PAGE = 50


def access_batch(mine: QuerySet[Company], batch_id: int) -> Batch:
    """404 when it is not there or not ours; 403 when no company of it is the viewer's."""
    batch = visible_batches(mine).filter(pk=batch_id).first()
    if batch is not None:
        return batch
    if Batch.objects.filter(pk=batch_id).exists():
        raise Refused(_("该批次里没有分派给您的客户。"))
    raise Http404


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The batches that touch a company of the viewer, newest first."""
    viewer = viewer_of(request)
    require(viewer, Act.RUN)
    mine = companies_of(viewer)
    page = Paginator(visible_batches(mine), PER_PAGE).get_page(request.GET.get("page"))
    batches = list_batches(list(page.object_list), mine)
    return render(request, "clearing/batches.html", {"page": page, "batches": batches})


@require_GET
def page(request: HttpRequest, batch_id: int) -> HttpResponse:
    """One batch; asked for by htmx, only its changing part."""
    viewer = viewer_of(request)
    require(viewer, Act.RUN)
    mine = companies_of(viewer)
    batch = access_batch(mine, batch_id)
    view = progress(batch, mine, clock.real_now())
    runs = Paginator(runs_of(batch, mine), PER_PAGE).get_page(request.GET.get("page"))
    fragment = bool(request.headers.get("HX-Request"))
    return render(
        request,
        "clearing/batch_part.html" if fragment else "clearing/batch.html",
        {
            "progress": view,
            "page": runs,
            "seconds": BUSY_SECONDS if view.running else 0,
        },
    )
