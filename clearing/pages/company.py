"""A company: disks, control data, the timeline of a period, evidence, the months before."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from agency import clock
from agency.access import access_company, companies_of
from agency.choices import Act
from agency.middleware import viewer_of
from clearing.pages.chosen import period_of
from clearing.periods import current_period
from clearing.selectors import company as read
from clearing.selectors.backups import hold_of
from clearing.selectors.confirmation import ActionKind
from clearing.selectors.deadlines import window_of


@require_GET
def page(request: HttpRequest, company_id: int) -> HttpResponse:
    """``?period=YYYY-MM`` looks back; without it, the present period.

    Needs the right to work on the company: the front desk sees names and places only."""
    viewer = viewer_of(request)
    company = access_company(viewer, company_id, Act.RUN)
    now = clock.now()
    present = current_period(now)
    period = period_of(request.GET.get("period", ""), present)
    before = read.months_by_company(companies_of(viewer).filter(pk=company.pk), present)
    row = read.row_of(company, period, now.date())
    return render(
        request,
        "clearing/company.html",
        {
            "company": company,
            "row": row,
            "disks": read.disk_views(company, row, period, now),
            "window": window_of(period, now, company.bureau_id),
            "is_present": period == present,
            "runs": read.timeline(company, period),
            "backups": read.backups(company, period),
            "evidence": read.evidence(company, period),
            "months": before.get(company.pk, []),
            "present": present,
            "members": read.members(company),
            "actions": ActionKind,
            "may_enter_password": viewer.may(Act.ENTER_PASSWORD),
            "may_way_out": viewer.may(Act.PIN_WAY_OUT),
            "may_by_hand": viewer.may(Act.BY_HAND),
            "hold": hold_of(company),
            "may_keep_backups": viewer.may(Act.KEEP_BACKUPS),
            "may_see_audit": viewer.may(Act.SEE_AUDIT),
        },
    )
