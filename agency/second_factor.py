"""Of whom a second factor is demanded, and who has one.

The factors themselves (TOTP, recovery codes) are django-allauth's; this module only asks.
"""

from __future__ import annotations

from allauth.mfa.models import Authenticator

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


def lacks_second_factor(agency: Agency, role: Role, user_id: int) -> bool:
    """The agency demands one of this role, and the person has none."""
    return demanded(agency, role) and not has_second_factor(user_id)


def demanded_somewhere(user_id: int) -> bool:
    """Some agency of the person demands it, or the platform: they cannot switch it off."""
    if User.objects.filter(pk=user_id, is_staff=True).exists():
        return True
    roles = {agency_id: role for agency_id, _member, role in memberships_of(user_id)}
    agencies = Agency.objects.filter(pk__in=roles)
    return any(demanded(agency, roles[agency.pk]) for agency in agencies)
