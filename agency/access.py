"""Who am I, and what may I do: the definer look-ups, the table of rights, ``access_*``.

Holds the only SQL that looks across agencies: SECURITY DEFINER functions owned by the role
``qingka_lookup``, which return ids and a role, nothing else. The way to an object in a request is
an ``access_*`` function: outside the agency (or not there) it is a 404, inside it a refusal is a
403 that names who may.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import Q, QuerySet
from django.http import Http404
from django.utils.translation import gettext as _

from agency.choices import Act, Role
from agency.models import Company, Membership
from agency.tenancy import lookup_function

MEMBERSHIPS_SQL = lookup_function(
    "memberships_of(bigint)",
    """
CREATE FUNCTION memberships_of(wanted bigint)
RETURNS TABLE (agency_id bigint, membership_id bigint, role varchar)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT m.agency_id, m.id, m.role FROM agency_membership m
  WHERE m.user_id = wanted AND m.active ORDER BY m.id
$$;
""",
)

_STAFF = frozenset(
    {
        Act.SEE,
        Act.RUN,
        Act.START_WAITING,
        Act.MARK_FILED,
        Act.HOLD,
        Act.ENTER_PASSWORD,
        Act.CUSTODY,
        Act.REVIEW,
        Act.OPEN_BACKUP,
    }
)
_LEAD = _STAFF | {
    Act.PIN_WAY_OUT,
    Act.BY_HAND,
    Act.IMPORT,
    Act.ASSIGN,
    Act.PAUSE,
    Act.MACHINES,
    Act.SEE_AUDIT,
    Act.KEEP_BACKUPS,
}
RIGHTS: dict[Role, frozenset[Act]] = {
    Role.OWNER: _LEAD | {Act.EXPORT_AUDIT, Act.MEMBERS},
    Role.SUPERVISOR: _LEAD,
    Role.BOOKKEEPER: _STAFF,
    Role.FRONT_DESK: frozenset({Act.SEE, Act.START_WAITING, Act.CUSTODY}),
    Role.CLIENT: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Viewer:
    """A signed-in person in one agency; ``more_rights`` come from the agency's settings."""

    user_id: int
    agency_id: int
    membership_id: int
    role: Role
    name: str
    more_rights: frozenset[Act] = frozenset()

    def may(self, act: Act) -> bool:
        return act in RIGHTS[self.role] or act in self.more_rights


class Refused(PermissionDenied):
    """A forbidden act within the agency; the text names who may."""


def memberships_of(user_id: int) -> list[tuple[int, int, Role]]:
    """(agency id, membership id, role) of a user in all agencies; works outside of a scope."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM memberships_of(%s)", [user_id])
        return [(agency, member, Role(role)) for agency, member, role in cursor.fetchall()]


def machine_of(token_hash: bytes) -> tuple[int, int] | None:
    """(agency id, machine id) of a machine's token, revoked ones included; outside of a scope."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM principal_of(%s)", [token_hash])
        row = cursor.fetchone()
    return (row[0], row[1]) if row else None


def redeem(code_hash: bytes) -> tuple[int, int] | None:
    """(agency id, id of the enrolment code), used and expired ones included; outside of a scope.

    Uses nothing up: that is one conditional UPDATE inside the agency's scope."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM redeem(%s)", [code_hash])
        row = cursor.fetchone()
    return (row[0], row[1]) if row else None


def due_agencies(kind: str) -> list[int]:
    """Ids of the agencies in which a cross-tenant job of that kind has something to do."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM due_agencies(%s)", [kind])
        return [row[0] for row in cursor.fetchall()]


def agencies_pausing(address: str, since: dt.datetime) -> int:
    """How many agencies have paused this bureau address since, by what they saw themselves."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT agencies_pausing(%s, %s)", [address, since])
        return int(cursor.fetchone()[0])


def require(viewer: Viewer, act: Act) -> None:
    """Raise Refused, naming who may, when the viewer's role does not include the act."""
    if viewer.may(act):
        return
    allowed = [role for role, acts in RIGHTS.items() if act in acts]
    people = Membership.objects.filter(role__in=allowed, active=True).order_by("id")[:3]
    names = "、".join(f"{member.get_role_display()} {member.name}" for member in people)
    raise Refused(
        _("您没有“%(act)s”的权限，请联系：%(names)s")
        % {"act": act.label, "names": names or _("负责人")}
    )


def companies_of(viewer: Viewer) -> QuerySet[Company]:
    """The companies a viewer may see: all, those assigned, or a client's own."""
    companies = Company.objects.all()
    if viewer.role in {Role.BOOKKEEPER, Role.CLIENT}:
        companies = companies.filter(Q(assignments__membership_id=viewer.membership_id))
    return companies


def access_company(viewer: Viewer, company_id: int, act: Act) -> Company:
    """The company, for an act. 404 when it is not there, not ours, or not this person's;
    403 (Refused) when the role may not do the act."""
    company = companies_of(viewer).filter(pk=company_id).first()
    if company is None:
        if viewer.role != Role.CLIENT and Company.objects.filter(pk=company_id).exists():
            raise Refused(_("该客户未分派给您，请联系主管。"))
        raise Http404
    require(viewer, act)
    return company
