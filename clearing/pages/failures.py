"""失败处理: failures grouped by cause, each with its remedy and one retry for the group."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from agency import clock
from agency.access import companies_of, require
from agency.choices import Act
from agency.middleware import viewer_of
from clearing.periods import current_period
from clearing.selectors.confirmation import ActionKind
from clearing.selectors.failures import groups
from clearing.selectors.stops import pauses_of, unknowns_of


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Among the companies the viewer sees: a bookkeeper's own, a supervisor's all."""
    viewer = viewer_of(request)
    require(viewer, Act.REVIEW)
    now = clock.now()
    mine = companies_of(viewer)
    found = groups(mine, current_period(now), now.date())
    return render(
        request,
        "clearing/failures.html",
        {
            "groups": found,
            "pauses": pauses_of(mine),
            "unknowns": unknowns_of(mine),
            "may_pause": viewer.may(Act.PAUSE),
            "total": len({company for group in found for company in group.companies}),
            "actions": ActionKind,
            "may_way_out": viewer.may(Act.PIN_WAY_OUT),
        },
    )
