"""The way back in (登录有困难): for a person who has lost the phone, or the password.

A second factor is taken away, or a link is made by which the person chooses a new password. Either
ends all sessions of the person, stands in the trail, and is told to them when they sign in next.
An agency does this for people who belong to it alone; for others there are their recovery codes
and ``manage.py way_back``. Never tells or sets a password itself.
"""

from __future__ import annotations

import datetime as dt

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth.password_validation import validate_password
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.http import base36_to_int, int_to_base36
from django.utils.translation import gettext as _

from agency import audit
from agency.access import memberships_of
from agency.choices import Action, Role
from agency.errors import ServiceError
from agency.models import PLATFORM, Membership, User
from agency.scope import agency_scope


class _Tokens(PasswordResetTokenGenerator):
    """Good for a day (PASSWORD_RESET_TIMEOUT), until the next sign-in, and while the person's
    agencies and roles are what they were."""

    key_salt = "agency.way_back"

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        return f"{super()._make_hash_value(user, timestamp)}{memberships_of(user.pk)}"


_tokens = _Tokens()


def check_may_help(member: Membership, *, helper_id: int) -> None:
    """Raises ServiceError, with the way that is left, for whom an agency may not help."""
    if member.user_id == helper_id:
        raise ServiceError(_("您自己的两步验证和口令，请在“我的账号”中更改。"))
    if member.role == Role.CLIENT:
        raise ServiceError(_("企业客户凭专属链接进入，没有口令。"))
    if member.user.is_staff or len(memberships_of(member.user_id)) != 1:
        raise ServiceError(
            _("%(name)s 还属于其他机构，本机构不能重设。请用恢复码，或请平台运维核实后重设。")
            % {"name": member.name}
        )


@transaction.atomic
def second_factor_reset(*, user: User, by: str, now: dt.datetime) -> None:
    """The phone is gone: the next sign-in takes the password alone, and leads to a new set-up where
    a second factor is demanded."""
    Authenticator.objects.filter(user=user).delete()
    _note(user, Action.SECOND_FACTOR_RESET, by=by, now=now)


@transaction.atomic
def password_link(*, user: User, by: str, now: dt.datetime) -> str:
    """A token for :func:`user_of`. The old password stays until the new one is chosen."""
    _note(user, Action.PASSWORD_LINK_MADE, by=by, now=now)
    return f"{int_to_base36(user.pk)}-{_tokens.make_token(user)}"


def user_of(token: str) -> User | None:
    """Whose link it is, while it can be used."""
    number, _dash, rest = token.partition("-")
    try:
        user = User.objects.filter(pk=base36_to_int(number), is_active=True).first()
    except ValueError:
        return None
    return user if user is not None and _tokens.check_token(user, rest) else None


@transaction.atomic
def password_renew(*, user: User, password: str) -> None:
    """The person has chosen a new one; the link is used up by it. ServiceError for a weak one."""
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise ServiceError(" ".join(error.messages)) from None
    user.set_password(password)
    user.save(update_fields=["password"])
    _end_sessions(user)
    _record(user, Action.PASSWORD_RENEWED)


def untold(user: User) -> list[tuple[str, dt.datetime]]:
    """Who reset something of this person, and when; each is told once."""
    found = []
    for agency_id, membership_id, _role in memberships_of(user.pk):
        with agency_scope(agency_id):
            rows = Membership.objects.filter(pk=membership_id, reset_at__isnull=False)
            found += list(rows.values_list("reset_by", "reset_at"))
            rows.update(reset_at=None, reset_by="")
    return [(by, at) for by, at in found if at is not None]


def _note(user: User, action: Action, *, by: str, now: dt.datetime) -> None:
    _end_sessions(user)
    for agency_id, membership_id, _role in memberships_of(user.pk):
        with agency_scope(agency_id):
            Membership.objects.filter(pk=membership_id).update(reset_at=now, reset_by=by)
    _record(user, action)


def _end_sessions(user: User) -> None:
    for session in UserSession.objects.filter(user=user):
        session.end()


def _record(user: User, action: Action) -> None:
    """In the trail of each agency of the person; an operator's in the platform's."""
    places = memberships_of(user.pk)
    for agency_id, membership_id, _role in places:
        with agency_scope(agency_id):
            audit.record(action, Membership.objects.get(pk=membership_id))
    if not places:
        with agency_scope(PLATFORM):
            audit.record(action, user)
