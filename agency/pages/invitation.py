"""The page behind an invitation's link: choose a login and a password, or join as who one is."""

from __future__ import annotations

import uuid
from typing import Any

from allauth.account.internal.flows.login import record_authentication
from django import forms
from django.contrib.auth import login
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from agency import audit, clock, people, refusals, throttle
from agency.access import invitation_of
from agency.accounts import SESSION_INVITATION, note_sign_in
from agency.audit import Actor
from agency.choices import ActorKind
from agency.errors import ServiceError
from agency.middleware import SESSION_AGENCY
from agency.models import Agency, Invitation, User
from agency.pages.password_field import hidden
from agency.scope import agency_scope


class NewPasswordForm(forms.Form):
    """A new password, twice."""

    password1 = forms.CharField(
        label=gettext_lazy("登录口令"),
        strip=False,
        max_length=128,
        widget=hidden("new-password"),
    )
    password2 = forms.CharField(
        label=gettext_lazy("再输一遍新口令"),
        strip=False,
        max_length=128,
        widget=hidden("new-password"),
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("password1") != cleaned.get("password2"):
            raise ValidationError(_("两次输入的口令不一样。"))
        return cleaned


class JoinForm(NewPasswordForm):
    """A login of one's own."""

    name = forms.CharField(label=gettext_lazy("姓名"), max_length=50)
    username = forms.CharField(
        label=gettext_lazy("账号"),
        max_length=150,
        widget=forms.TextInput({"autocomplete": "username"}),
    )
    field_order = ("name", "username", "password1", "password2")


@sensitive_post_parameters()
@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def page(request: HttpRequest, token: str) -> HttpResponse:
    """404 for a link that is wrong, used, revoked or over: which of them is nobody's business."""
    address = throttle.address_of(request)
    if not throttle.may_try(throttle.LINK_FROM_ONE_PLACE, address):
        return too_many(request)
    found = invitation_of(people.token_hash(token))
    if found is None:
        raise link_not_there(request, None)
    agency_id, invitation_id = found
    with agency_scope(agency_id):
        invitation = people.open_invitation(invitation_id, clock.real_now())
    if invitation is None:
        raise link_not_there(request, agency_id)
    throttle.forget(throttle.LINK_FROM_ONE_PLACE, address)
    user = request.user if isinstance(request.user, User) else None
    if user is None and "sign_in" in request.POST:
        request.session[SESSION_INVITATION] = token  # never in an address: a proxy may log those
        return redirect("account_login")
    form = JoinForm(request.POST or None, initial={"name": invitation.name})
    refusal = ""
    if request.method == "POST" and (user is not None or form.is_valid()):
        try:
            return _join(request, invitation, user, form)
        except ServiceError as refused:
            refusal = str(refused)
    return render(
        request,
        "agency/invitation.html",
        {
            "invitation": invitation,
            "host": Agency.objects.get(pk=agency_id),
            "form": form,
            "refusal": refusal,
            "by_link": user is not None and not user.has_usable_password(),
        },
    )


def link_not_there(request: HttpRequest, agency_id: int | None) -> Http404:
    """To be raised for a link that does not open. ``agency_id``: whose it was, if anybody's.

    The 404 of somebody who is signed in stands in the trail already, by the middleware."""
    if not request.user.is_authenticated:
        refusals.link_refused(address=throttle.address_of(request), agency_id=agency_id)
    return Http404()


def too_many(request: HttpRequest) -> HttpResponse:
    """Too many links from one place; that of somebody who is signed in is recorded by the
    middleware."""
    if not request.user.is_authenticated:
        refusals.link_refused(address=throttle.address_of(request))
    return render(request, "agency/too_many.html", status=429)


def _check_may_choose(request: HttpRequest, invitation: Invitation) -> None:
    """Each name that is tried says whether it is taken: ServiceError after a few."""
    address = throttle.address_of(request)
    tries = (
        (throttle.JOIN_BY_ONE_INVITATION, invitation.pk),
        (throttle.JOIN_FROM_ONE_PLACE, address),
    )
    for limit, who in tries:
        if not throttle.may_try(limit, who):
            refusals.link_refused(address=address, agency_id=invitation.agency_id)
            raise ServiceError(_("尝试次数过多，请 %(n)s 分钟后再试。") % {"n": limit.minutes})


def _join(
    request: HttpRequest, invitation: Invitation, user: User | None, form: JoinForm
) -> HttpResponse:
    new = user is None
    name = invitation.name if user is not None else str(form.cleaned_data["name"])
    if user is None:
        _check_may_choose(request, invitation)
    with transaction.atomic():
        if user is None:
            said = form.cleaned_data
            user = people.account_create(username=said["username"], password=said["password1"])
        actor = Actor(ActorKind.USER, name, user.pk)
        with (
            audit.acting(actor, request_id=str(uuid.uuid4())),
            agency_scope(invitation.agency_id),
        ):
            member = people.invitation_accept(
                invitation=invitation, user=user, name=name, now=clock.real_now()
            )
    if new:
        throttle.forget(throttle.JOIN_FROM_ONE_PLACE, throttle.address_of(request))
        login(request, user)
        record_authentication(request, user, "password")
        note_sign_in(member.agency_id, member.pk)
    request.session[SESSION_AGENCY] = invitation.agency_id
    return redirect("home")
