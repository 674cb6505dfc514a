"""登录有困难: the owner helps a member back in; the page behind the link of a new password."""

from __future__ import annotations

import uuid

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from agency import audit, clock, throttle, way_back
from agency.access import access_member
from agency.audit import Actor
from agency.choices import Act, ActorKind
from agency.errors import ServiceError
from agency.middleware import viewer_of
from agency.models import User
from agency.pages.invitation import NewPasswordForm, link_not_there, too_many
from agency.pages.proof import recently_proven


class HelpForm(forms.Form):
    """What was lost."""

    what = forms.ChoiceField(choices=[("second_factor", ""), ("password", "")])


@never_cache
@require_http_methods(["GET", "POST"])
@recently_proven()
def reset(request: HttpRequest, member_id: int) -> HttpResponse:
    """Take the second factor away, or show the link of a new password, once."""
    viewer = viewer_of(request)
    member = access_member(viewer, member_id, Act.MEMBERS)
    refusal = link = ""
    try:
        way_back.check_may_help(member, helper_id=viewer.user_id)
    except ServiceError as refused:
        refusal = str(refused)
    form = HelpForm(request.POST or None)
    if request.method == "POST" and not refusal and form.is_valid():
        now = clock.real_now()
        if form.cleaned_data["what"] == "second_factor":
            way_back.second_factor_reset(user=member.user, by=viewer.name, now=now)
            messages.success(request, _("已重设 %(name)s 的两步验证。") % {"name": member.name})
            return redirect("members")
        token = way_back.password_link(user=member.user, by=viewer.name, now=now)
        link = request.build_absolute_uri(reverse("password-renew", args=[token]))
    context = {"member": member, "refusal": refusal, "link": link}
    return render(request, "agency/way_back.html", context)


@sensitive_post_parameters()
@login_not_required
@never_cache
@require_http_methods(["GET", "POST"])
def renew(request: HttpRequest, token: str) -> HttpResponse:
    """404 for a link that is wrong, used or over; a second factor is asked for as ever."""
    address = throttle.address_of(request)
    if not throttle.may_try(throttle.LINK_FROM_ONE_PLACE, address):
        return too_many(request)
    user = way_back.user_of(token)
    if user is None:
        raise link_not_there(request, None)
    throttle.forget(throttle.LINK_FROM_ONE_PLACE, address)
    form = NewPasswordForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            with audit.acting(_actor(user), request_id=str(uuid.uuid4())):
                way_back.password_renew(user=user, password=form.cleaned_data["password1"])
        except ServiceError as refused:
            form.add_error(None, str(refused))
        else:
            messages.success(request, _("新口令已生效，请登录。"))
            return redirect("account_login")
    return render(request, "agency/password_renew.html", {"form": form, "owner": user})


def _actor(user: User) -> Actor:
    kind = ActorKind.OPERATOR if user.is_staff else ActorKind.USER
    return Actor(kind, user.get_username(), user.pk)
