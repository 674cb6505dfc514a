"""Signing in and out, and choosing the agency."""

from __future__ import annotations

from typing import Any

from allauth.account import views as account
from django.contrib.auth import views as auth
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from agency.access import memberships_of
from agency.accounts import note_sign_in
from agency.middleware import SESSION_AGENCY
from agency.operator import visiting


@method_decorator(login_not_required, name="dispatch")
@method_decorator(require_http_methods(["GET", "POST"]), name="dispatch")
class LoginView(account.LoginView):  # type: ignore[misc]
    """The sign-in page; whoever has a second factor is asked for it next."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.headers.get("HX-Request"):
            # A fragment was asked for after the session had ended: the whole page must change.
            return HttpResponseClientRefresh()
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return answer


class LogoutView(auth.LogoutView):
    """Whoever signs out has left the agency they were visiting, too, and leaves nothing behind."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        visiting.leave(request)
        answer = super().post(request, *args, **kwargs)
        answer.headers["Clear-Site-Data"] = '"cache", "storage"'
        return answer


@require_POST
def switch_agency(request: HttpRequest) -> HttpResponse:
    """Go on in another agency of the same person; a foreign one is a 404 like any unknown."""
    wanted = request.POST.get("agency", "")
    for agency_id, membership_id, _role in memberships_of(request.user.pk or 0):
        if str(agency_id) == wanted:
            request.session[SESSION_AGENCY] = agency_id
            note_sign_in(agency_id, membership_id)
            return redirect("home")
    raise Http404


@login_not_required
@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers; asks nobody else."""
    return HttpResponse("ok", content_type="text/plain")
