"""Of whom a second factor is demanded, who has one, and who has shown it in this session.

The factors themselves (TOTP, recovery codes) are django-allauth's; this module only asks.
"""

from __future__ import annotations

from allauth.account.internal.flows.login import get_authentication_records
from allauth.mfa.models import Authenticator
from django.http import HttpRequest

from agency.access import memberships_of
from agency.choices import Role, SecondFactor
from agency.models import Agency, User

_LEADS = frozenset({Role.OWNER, Role.SUPERVISOR})


def demanded(agency: Agency, role: Role) -> bool:
    """A client's person comes by a link, without a password: never asked for a second factor."""
    if agency.second_factor == SecondFactor.ALL:
        return role != Role.CLIENT
    return agency.second_factor == SecondFactor.LEADS and role in _LEADS


def has_second_factor(user_id: int) -> bool:
    totp = Authenticator.objects.filter(user_id=user_id, type=Authenticator.Type.TOTP)
    return bool(totp.exists())


def step_before(request: HttpRequest) -> str:
    """The name of the page that a person of whom it is demanded must see first, or nothing.

    To have one is not enough: a session that began with the password alone, before there was one,
    may be somebody else's."""
    if not has_second_factor(request.user.pk or 0):
        return "mfa_activate_totp"
    records = get_authentication_records(request, request.user)
    return "" if any(record["method"] == "mfa" for record in records) else "mfa_reauthenticate"


def demanded_somewhere(user_id: int) -> bool:
    """Some agency of the person demands it, or the platform: they cannot switch it off."""
    if User.objects.filter(pk=user_id, is_staff=True).exists():
        return True
    roles = {agency_id: role for agency_id, _member, role in memberships_of(user_id)}
    agencies = Agency.objects.filter(pk__in=roles)
    return any(demanded(agency, roles[agency.pk]) for agency in agencies)
