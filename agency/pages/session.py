"""Signing in and out, and choosing the agency; the only pages that open a scope by themselves."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import AuthenticationForm
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRefresh

from agency import audit, refusals, throttle
from agency.access import memberships_of
from agency.audit import Actor
from agency.choices import Action, ActorKind
from agency.middleware import SESSION_AGENCY
from agency.models import Membership
from agency.scope import agency_scope
from agency.throttle import address_of


class LoginForm(AuthenticationForm):
    """Django's form, with a plain sentence when it fails."""

    error_messages = {
        "invalid_login": _("账号或口令不对。请核对后再试；忘记口令请联系本机构负责人。"),
        "inactive": _("此账号已停用，请联系本机构负责人。"),
        "too_many": _("登录尝试次数过多，请 15 分钟后再试；忘记口令请联系本机构负责人。"),
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = _("账号")
        self.fields["password"].label = _("登录口令")

    def clean(self) -> dict[str, Any]:
        """Count the try before the password is looked at; the limit is per account and address, so
        that a guesser elsewhere does not lock a person out."""
        assert self.request is not None  # noqa: S101 (LoginView gives it)
        who = (self.cleaned_data.get("username", ""), address_of(self.request))
        if not throttle.may_try(throttle.LOGIN, *who):
            raise ValidationError(self.error_messages["too_many"], code="too_many")
        try:
            cleaned = super().clean()
        except ValidationError:
            refusals.sign_in_refused(username=who[0], address=who[1])
            raise
        throttle.forget(throttle.LOGIN, *who)
        return cleaned


@method_decorator(login_not_required, name="dispatch")
@method_decorator(require_http_methods(["GET", "POST"]), name="dispatch")
class LoginView(auth_views.LoginView):
    """The sign-in page; a success stands in the trail of the agency that opens."""

    template_name = "agency/login.html"
    authentication_form = LoginForm
    redirect_authenticated_user = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.headers.get("HX-Request"):
            # A fragment was asked for after the session had ended: the whole page must change.
            return HttpResponseClientRefresh()
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        memberships = memberships_of(form.get_user().pk)
        if memberships:
            self.request.session[SESSION_AGENCY] = memberships[0][0]
            _note_sign_in(self.request, *memberships[0][:2])
        return response


def _note_sign_in(request: HttpRequest, agency_id: int, membership_id: int) -> None:
    with agency_scope(agency_id):
        member = Membership.objects.get(pk=membership_id)
        with audit.acting(Actor(ActorKind.USER, member.name, member.user_id)):
            audit.record(Action.SIGNED_IN, member)


@require_POST
def switch_agency(request: HttpRequest) -> HttpResponse:
    """Go on in another agency of the same person; a foreign one is a 404 like any unknown."""
    wanted = request.POST.get("agency", "")
    for agency_id, membership_id, _role in memberships_of(request.user.pk or 0):
        if str(agency_id) == wanted:
            request.session[SESSION_AGENCY] = agency_id
            _note_sign_in(request, agency_id, membership_id)
            return redirect("home")
    raise Http404


@login_not_required
@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """The process answers; asks nobody else."""
    return HttpResponse("ok", content_type="text/plain")
