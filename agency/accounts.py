"""Where django-allauth touches the house: signing in, sealing of its secrets, our own words.

allauth keeps who signed in how, the second factor and the list of sessions. Its sign-up, e-mail and
password-reset pages have no address here, its rate limits are off (``agency.throttle``), and how
recent a proof must be is ``agency.pages.proof``'s to say.
"""

from __future__ import annotations

import base64
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.contrib import messages
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from agency import audit, sealing, way_back
from agency.access import is_operator, memberships_of
from agency.audit import Actor
from agency.choices import Action, ActorKind
from agency.middleware import SESSION_AGENCY
from agency.models import PLATFORM, Membership, User
from agency.scope import agency_scope, current_agency_id
from agency.second_factor import demanded_somewhere
from agency.throttle import address_of

_WRONG = _("账号或口令不对。请核对后再试；忘记口令请联系本机构负责人。")
PROOF_CONTEXT = "second_factor"
#: The token of an invitation that is to be accepted after signing in: in no address of the way.
SESSION_INVITATION = "invitation"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """Nobody signs up by themselves; a sign-in stands in the trail of the agency that opens."""

    error_messages = {
        **DefaultAccountAdapter.error_messages,
        "username_password_mismatch": _WRONG,
        "email_password_mismatch": _WRONG,
        "invalid_login": _WRONG,
        "incorrect_password": _("登录口令不对。"),
        "enter_current_password": _("现在的登录口令不对，没有更改。"),
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def is_ajax(self, request: HttpRequest) -> bool:
        """Every answer is a page: allauth's answers for programs repeat what was typed."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        address: str = address_of(request)
        return address or "127.0.0.1"  # a socket of our own proxy

    def is_reauthentication_required(self, app: str) -> bool:
        """``agency.pages.proof`` stands before every page that needs it."""
        return False

    def post_login(self, request: HttpRequest, user: Any, **kwargs: Any) -> Any:
        memberships = memberships_of(user.pk)
        if memberships:
            request.session[SESSION_AGENCY] = memberships[0][0]
            note_sign_in(*memberships[0][:2])
        elif is_operator(user):
            with (
                agency_scope(PLATFORM),
                audit.acting(Actor(ActorKind.OPERATOR, user.get_username(), user.pk)),
            ):
                audit.record(Action.SIGNED_IN)
        for by, at in way_back.untold(user):
            messages.warning(
                request,
                gettext("%(by)s 于 %(time)s 重设了您的两步验证或口令。如非您所要求，请联系负责人。")
                % {"by": by, "time": f"{timezone.localtime(at):%Y-%m-%d %H:%M}"},
            )
        return super().post_login(request, user, **kwargs)

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        invitation = request.session.pop(SESSION_INVITATION, None)
        if invitation is not None:
            return reverse("invitation", args=[invitation])
        if isinstance(request.user, User) and is_operator(request.user):
            return reverse("operator:index")
        return str(super().get_login_redirect_url(request))

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """The pages say what happened, in our words."""


def note_sign_in(agency_id: int, membership_id: int, action: Action = Action.SIGNED_IN) -> None:
    """Into the trail of that agency, as that person."""
    with agency_scope(agency_id):
        member = Membership.objects.get(pk=membership_id)
        with audit.acting(Actor(ActorKind.USER, member.name, member.user_id)):
            audit.record(action, member)


def note_here(action: Action) -> None:
    """Into the trail of the agency that is open; a person without one leaves no entry."""
    if current_agency_id() is not None:
        audit.record(action)


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    """Secrets of second factors are sealed like every other secret."""

    error_messages = {
        **DefaultMFAAdapter.error_messages,
        "incorrect_code": _("验证码不对，或刚刚用过。请等下一个验证码再试。"),
        "cannot_delete_authenticator": _("您的账号或所在的机构要求两步验证，不能停用。"),
    }

    def encrypt(self, text: str) -> str:
        return base64.b64encode(sealing.seal(text, context=PROOF_CONTEXT)).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return sealing.open_sealed(base64.b64decode(encrypted_text), context=PROOF_CONTEXT).decode()

    def get_totp_label(self, user: Any) -> str:
        return str(user.get_username())

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        return not demanded_somewhere(authenticator.user_id)
