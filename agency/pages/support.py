"""平台支持: the owner's consent, the support sessions that run, and those that were."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from agency import support
from agency.access import access_support_session, require
from agency.choices import Act
from agency.clock import real_now
from agency.middleware import viewer_of
from agency.models import Agency, SupportSession
from agency.pages.proof import recently_proven

PER_PAGE = 20
proven = recently_proven(back="support")


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    viewer = viewer_of(request)
    require(viewer, Act.SUPPORT_CONSENT)
    sessions = SupportSession.objects.order_by("-pk")
    return render(
        request,
        "agency/support.html",
        {
            "consent": Agency.objects.get(pk=viewer.agency_id).support_consent,
            "page": Paginator(sessions, PER_PAGE).get_page(request.GET.get("page")),
            "now": real_now(),
            "at_most": support.MINUTES[-1],
        },
    )


@require_POST
@proven
def allow(request: HttpRequest) -> HttpResponse:
    viewer = viewer_of(request)
    require(viewer, Act.SUPPORT_CONSENT)
    support.consent_give(agency=Agency.objects.get(pk=viewer.agency_id))
    messages.success(request, _("已同意平台支持。"))
    return redirect("support")


@require_POST
def withdraw(request: HttpRequest) -> HttpResponse:
    """Asks for no proof: whoever wants the operator out should not have to wait."""
    viewer = viewer_of(request)
    require(viewer, Act.SUPPORT_CONSENT)
    agency = Agency.objects.get(pk=viewer.agency_id)
    support.consent_withdraw(agency=agency, by=viewer.name, now=real_now())
    messages.success(request, _("已撤回同意，进行中的支持会话已结束。"))
    return redirect("support")


@require_POST
def end(request: HttpRequest, session_id: int) -> HttpResponse:
    viewer = viewer_of(request)
    session = access_support_session(viewer, session_id)
    support.session_end(session=session, by=viewer.name, now=real_now())
    messages.success(request, _("支持会话已结束。"))
    return redirect("support")
