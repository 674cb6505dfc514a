"""Who am I, and what may I do: the definer look-ups, the table of rights, ``access_*``.

What looks across agencies is a SECURITY DEFINER function owned by the role ``qingka_lookup``: it
returns ids, a role or a number, nothing else. Those about people are here, those about refusals in
``agency/refusals.py``, the other layers' in ``devices/lookups.py`` and ``clearing/lookups.py``, and
there are no others. The way to an object in a request is
an ``access_*`` function: outside the agency (or not there) it is a 404, inside it a refusal is a
403 that names who may.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.db import connection
from django.db.models import QuerySet
from django.http import Http404
from django.utils.translation import gettext as _

from agency.choices import Act, Role
from agency.models import (
    Assignment,
    ClientLink,
    Company,
    Cover,
    Invitation,
    Membership,
    SupportSession,
    User,
)
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

INVITATION_SQL = lookup_function(
    "invitation_of(bytea)",
    """
CREATE FUNCTION invitation_of(wanted bytea)
RETURNS TABLE (agency_id bigint, invitation_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT i.agency_id, i.id FROM agency_invitation i WHERE i.token_hash = wanted
$$;
""",
)

CLIENT_LINK_SQL = lookup_function(
    "client_link_of(bytea)",
    """
CREATE FUNCTION client_link_of(wanted bytea)
RETURNS TABLE (agency_id bigint, link_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT l.agency_id, l.id FROM agency_clientlink l WHERE l.token_hash = wanted
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
        Act.CLIENT_LINKS,
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
    Role.OWNER: _LEAD | {Act.EXPORT_AUDIT, Act.MEMBERS, Act.SUPPORT_CONSENT},
    Role.SUPERVISOR: _LEAD,
    Role.BOOKKEEPER: _STAFF,
    Role.FRONT_DESK: frozenset({Act.SEE, Act.START_WAITING, Act.CUSTODY}),
    Role.CLIENT: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Viewer:
    """A signed-in person in one agency; ``more_rights`` come from the agency's settings.

    ``covering``: ids of the memberships whose companies this person has today (代班)."""

    user_id: int
    agency_id: int
    membership_id: int
    role: Role
    name: str
    more_rights: frozenset[Act] = frozenset()
    covering: tuple[int, ...] = ()

    def may(self, act: Act) -> bool:
        return act in RIGHTS[self.role] or act in self.more_rights


class Refused(PermissionDenied):
    """A forbidden act within the agency; the text names who may."""


def memberships_of(user_id: int) -> list[tuple[int, int, Role]]:
    """(agency id, membership id, role) of a user in all agencies; works outside of a scope."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM memberships_of(%s)", [user_id])
        return [(agency, member, Role(role)) for agency, member, role in cursor.fetchall()]


def is_operator(user: User) -> bool:
    """The platform's operator (平台运维): staff who belong to no agency. A member never is one."""
    return user.is_active and user.is_staff and not memberships_of(user.pk)


def machine_of(token_hash: bytes) -> tuple[int, int] | None:
    """(agency id, machine id) of a machine's token, revoked ones included; outside of a scope."""
    return _pair("SELECT * FROM principal_of(%s)", token_hash)


def redeem(code_hash: bytes) -> tuple[int, int] | None:
    """(agency id, id of the enrolment code), used and expired ones included; outside of a scope.

    Uses nothing up: that is one conditional UPDATE inside the agency's scope."""
    return _pair("SELECT * FROM redeem(%s)", code_hash)


def invitation_of(token_hash: bytes) -> tuple[int, int] | None:
    """(agency id, invitation id), used and expired ones included; outside of a scope."""
    return _pair("SELECT * FROM invitation_of(%s)", token_hash)


def client_link_of(token_hash: bytes) -> tuple[int, int] | None:
    """(agency id, link id), revoked ones included; outside of a scope."""
    return _pair("SELECT * FROM client_link_of(%s)", token_hash)


def _pair(sql: str, token_hash: bytes) -> tuple[int, int] | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, [token_hash])
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
    """The companies a viewer may see: all, those assigned or covered, or a client's own."""
    companies = Company.objects.all()
    if viewer.role in {Role.BOOKKEEPER, Role.CLIENT}:
        hands = (viewer.membership_id, *viewer.covering)
        held = Assignment.objects.filter(membership_id__in=hands)
        companies = companies.filter(pk__in=held.values("company_id"))
    return companies


def covering(membership_id: int, today: dt.date) -> tuple[int, ...]:
    """Ids of the memberships that this one covers on that day; inside the agency's scope."""
    covers = Cover.objects.filter(
        substitute_id=membership_id, since__lte=today, until__gte=today
    ).order_by("absent_id")
    return tuple(covers.values_list("absent_id", flat=True).distinct())


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


def access_member(viewer: Viewer, member_id: int, act: Act) -> Membership:
    """A person of the agency who is still in it. 404 when there is none; 403 without the right."""
    require(viewer, act)
    member = Membership.objects.filter(pk=member_id, active=True).first()
    if member is None:
        raise Http404
    return member


def access_invitation(viewer: Viewer, invitation_id: int) -> Invitation:
    """An invitation of the agency; 404 and 403 as always."""
    require(viewer, Act.MEMBERS)
    invitation = Invitation.objects.filter(pk=invitation_id).first()
    if invitation is None:
        raise Http404
    return invitation


def access_cover(viewer: Viewer, cover_id: int) -> Cover:
    """A cover of the agency; 404 and 403 as always."""
    require(viewer, Act.ASSIGN)
    cover = Cover.objects.select_related("absent", "substitute").filter(pk=cover_id).first()
    if cover is None:
        raise Http404
    return cover


def access_support_session(viewer: Viewer, session_id: int) -> SupportSession:
    """A support session in the agency; 404 and 403 as always."""
    require(viewer, Act.SUPPORT_CONSENT)
    session = SupportSession.objects.filter(pk=session_id).first()
    if session is None:
        raise Http404
    return session


def access_client_link(viewer: Viewer, link_id: int) -> ClientLink:
    """A client's link, for whoever holds one of the companies it shows."""
    link = ClientLink.objects.select_related("membership").filter(pk=link_id).first()
    if link is None:
        raise Http404
    mine = companies_of(viewer)
    if not mine.filter(assignments__membership_id=link.membership_id).exists():
        raise Refused(_("该客户未分派给您，请联系主管。"))
    require(viewer, Act.CLIENT_LINKS)
    return link
