"""成员: who is in the agency, invitations, roles, covers, and the demanded second factor."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from agency import clock, people
from agency.access import access_cover, access_invitation, access_member, require
from agency.choices import Act, Role, SecondFactor
from agency.errors import ServiceError
from agency.middleware import viewer_of
from agency.models import Agency, Cover, Invitation, Membership
from agency.pages.proof import recently_proven

proven = recently_proven(back="members")
_ROLES = [(role.value, role.label) for role in people.INVITED]


class InviteForm(forms.Form):
    """Who is invited, as what."""

    name = forms.CharField(label=gettext_lazy("姓名"), max_length=50)
    role = forms.ChoiceField(label=gettext_lazy("角色"), choices=_ROLES, initial=Role.BOOKKEEPER)


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=gettext_lazy("角色"), choices=_ROLES)


class DemandForm(forms.Form):
    second_factor = forms.ChoiceField(
        label=gettext_lazy("要求两步验证"), choices=SecondFactor.choices
    )


class CoverForm(forms.Form):
    """Whose companies, in whose hands, on which days (both included)."""

    absent = forms.TypedChoiceField(label=gettext_lazy("不在的人"), coerce=int)
    substitute = forms.TypedChoiceField(label=gettext_lazy("代班人"), coerce=int)
    since = forms.DateField(label=gettext_lazy("起"), widget=forms.DateInput({"type": "date"}))
    until = forms.DateField(label=gettext_lazy("止"), widget=forms.DateInput({"type": "date"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        names = Membership.objects.filter(role=Role.BOOKKEEPER, active=True).order_by("pk")
        choices = list(names.values_list("pk", "name"))
        for name in ("absent", "substitute"):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            field.choices = choices


@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """For whoever arranges covers; what only the owner may do is shown to the owner."""
    viewer = viewer_of(request)
    require(viewer, Act.ASSIGN)
    agency = Agency.objects.get(pk=viewer.agency_id)
    today = clock.now().date()
    return render(
        request,
        "agency/members.html",
        {
            "members": Membership.objects.select_related("user")
            .filter(active=True)
            .exclude(role=Role.CLIENT)
            .order_by("pk"),
            "invitations": Invitation.objects.filter(accepted_at=None, revoked_at=None).order_by(
                "-pk"
            ),
            "now": clock.real_now(),
            "covers": Cover.objects.select_related("absent", "substitute").filter(until__gte=today),
            "may_manage": viewer.may(Act.MEMBERS),
            "roles": _ROLES,
            "invite": InviteForm(),
            "demand": DemandForm({"second_factor": agency.second_factor}),
            "cover": CoverForm(),
        },
    )


def _said(request: HttpRequest, form: forms.Form) -> dict[str, Any] | None:
    """What the form says, or its errors as messages."""
    if form.is_valid():
        return form.cleaned_data
    for errors in form.errors.values():
        for error in errors:
            messages.error(request, str(error))
    return None


@never_cache
@require_POST
@proven
def invite(request: HttpRequest) -> HttpResponse:
    """Make the link; the answer to the button shows it, and nothing else does."""
    viewer = viewer_of(request)
    require(viewer, Act.MEMBERS)
    said = _said(request, InviteForm(request.POST))
    if said is None:
        return redirect("members")
    made = people.invitation_create(
        agency=Agency.objects.get(pk=viewer.agency_id),
        name=said["name"],
        role=Role(said["role"]),
        by=viewer.name,
        now=clock.real_now(),
    )
    link = request.build_absolute_uri(reverse("invitation", args=[made.token]))
    return render(request, "agency/link_made.html", {"link": link, "invitation": made.row})


@require_POST
@proven
def revoke(request: HttpRequest, invitation_id: int) -> HttpResponse:
    invitation = access_invitation(viewer_of(request), invitation_id)
    people.invitation_revoke(invitation=invitation, now=clock.real_now())
    messages.success(request, _("已撤回邀请。"))
    return redirect("members")


@require_POST
@proven
def role(request: HttpRequest, member_id: int) -> HttpResponse:
    member = access_member(viewer_of(request), member_id, Act.MEMBERS)
    said = _said(request, RoleForm(request.POST))
    if said is not None:
        try:
            with transaction.atomic():
                people.member_change_role(member=member, role=Role(said["role"]))
        except ServiceError as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, _("已更改 %(name)s 的角色。") % {"name": member.name})
    return redirect("members")


@require_POST
@proven
def remove(request: HttpRequest, member_id: int) -> HttpResponse:
    member = access_member(viewer_of(request), member_id, Act.MEMBERS)
    try:
        with transaction.atomic():
            people.member_remove(member=member)
    except ServiceError as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, _("已移除 %(name)s。") % {"name": member.name})
    return redirect("members")


@require_POST
@proven
def demand(request: HttpRequest) -> HttpResponse:
    viewer = viewer_of(request)
    require(viewer, Act.MEMBERS)
    said = _said(request, DemandForm(request.POST))
    if said is not None:
        agency = Agency.objects.get(pk=viewer.agency_id)
        people.second_factor_demand(agency=agency, of=SecondFactor(said["second_factor"]))
        messages.success(request, _("已更改两步验证要求。"))
    return redirect("members")


@require_POST
def cover(request: HttpRequest) -> HttpResponse:
    viewer = viewer_of(request)
    require(viewer, Act.ASSIGN)
    said = _said(request, CoverForm(request.POST))
    if said is not None:
        try:
            with transaction.atomic():
                people.cover_create(
                    absent=access_member(viewer, said["absent"], Act.ASSIGN),
                    substitute=access_member(viewer, said["substitute"], Act.ASSIGN),
                    since=said["since"],
                    until=said["until"],
                )
        except ServiceError as refusal:
            messages.error(request, str(refusal))
        else:
            messages.success(request, _("已安排代班。"))
    return redirect("members")


@require_POST
def cover_end(request: HttpRequest, cover_id: int) -> HttpResponse:
    people.cover_end(cover=access_cover(viewer_of(request), cover_id))
    messages.success(request, _("已结束代班。"))
    return redirect("members")
