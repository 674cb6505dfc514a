"""专属链接: opened and revoked on a company's page; exchanged for a session when followed."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from agency import audit, client_links, clock, throttle
from agency.access import access_client_link, access_company, client_link_of
from agency.audit import SYSTEM
from agency.choices import Act
from agency.middleware import SESSION_AGENCY, viewer_of
from agency.models import Agency, ClientLink
from agency.operator import visiting
from agency.pages.invitation import link_not_there, too_many
from agency.people import token_hash
from agency.scope import agency_scope


class LinkForm(forms.Form):
    """For whom the link is."""

    name = forms.CharField(label=gettext_lazy("使用人姓名"), max_length=50)


@never_cache
@require_http_methods(["GET", "POST"])
def index(request: HttpRequest, company_id: int) -> HttpResponse:
    """The company's links; POST opens one more, and only its answer shows the address."""
    viewer = viewer_of(request)
    company = access_company(viewer, company_id, Act.CLIENT_LINKS)
    form = LinkForm(request.POST or None)
    link = ""
    if request.method == "POST" and form.is_valid():
        made = client_links.link_create(
            company=company, name=form.cleaned_data["name"], by=viewer.name, now=clock.real_now()
        )
        link = request.build_absolute_uri(reverse("client-enter", args=[made.token]))
        form = LinkForm()
    rows = ClientLink.objects.select_related("membership").filter(
        membership__assignments__company=company, revoked_at=None
    )
    return render(
        request,
        "agency/client_links.html",
        {"company": company, "form": form, "link": link, "rows": rows.order_by("pk")},
    )


@require_POST
def revoke(request: HttpRequest, link_id: int) -> HttpResponse:
    link = access_client_link(viewer_of(request), link_id)
    client_links.link_revoke(link=link, now=clock.real_now())
    messages.success(request, _("已停用专属链接。"))
    return redirect("home")


@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def enter(request: HttpRequest, token: str) -> HttpResponse:
    """Exchange the link for a session and go on to an address without it.

    Somebody else who is signed in is asked first, and stays signed in until they press the button.
    Wrong and revoked links are the same 404."""
    address = throttle.address_of(request)
    if not throttle.may_try(throttle.LINK_FROM_ONE_PLACE, address):
        return too_many(request)
    found = client_link_of(token_hash(token))
    if found is None:
        raise link_not_there(request, None)
    agency_id, link_id = found
    with agency_scope(agency_id):
        link = client_links.open_link(link_id)
    if link is None:
        raise link_not_there(request, agency_id)
    throttle.forget(throttle.LINK_FROM_ONE_PLACE, address)
    somebody_else = request.user.is_authenticated and request.user.pk != link.membership.user_id
    if somebody_else and request.method == "GET":
        host = Agency.objects.get(pk=agency_id)
        return render(request, "agency/link_enter.html", {"host": host})
    # Whoever happens to be signed in in this browser is not who acts here.
    with audit.acting(SYSTEM), agency_scope(agency_id):
        member = client_links.link_use(link_id=link_id, now=clock.real_now())
    if member is None:
        raise link_not_there(request, agency_id)
    visiting.leave(request)
    login(request, member.user)
    request.session[SESSION_AGENCY] = agency_id
    return redirect("home")
