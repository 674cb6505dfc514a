"""专属链接: the way in of a client's own person, without a password or an e-mail address.

A link belongs to one membership with the role client; revoking it ends the membership, so that
every session opened by it sees nothing from the next request on. The token is kept as a hash.
"""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from dataclasses import dataclass, field

from django.db import transaction

from agency import audit
from agency.choices import Action, Role
from agency.models import Assignment, ClientLink, Company, Membership, User
from agency.people import token_hash
from agency.services import company_assign


@dataclass(frozen=True, slots=True)
class LinkMade:
    """A link and its token, which is shown once and kept only as a hash."""

    row: ClientLink
    token: str = field(repr=False)


@transaction.atomic
def link_create(*, company: Company, name: str, by: str, now: dt.datetime) -> LinkMade:
    """A person of the client who sees this company, and their link. ``now`` is real time."""
    user = User(username=f"link-{uuid.uuid4().hex}")
    user.set_unusable_password()
    user.save()
    member = Membership.objects.create(
        agency_id=company.agency_id, user=user, name=name, role=Role.CLIENT
    )
    company_assign(companies=[company], member=member)
    token = secrets.token_urlsafe(32)
    row = ClientLink.objects.create(
        agency_id=company.agency_id,
        membership=member,
        token_hash=token_hash(token),
        created_by=by,
        created_at=now,
    )
    audit.record(Action.CLIENT_LINK_CREATED, member, company_id=company.pk)
    return LinkMade(row, token)


@transaction.atomic
def link_revoke(*, link: ClientLink, now: dt.datetime) -> None:
    """The link and whoever came by it are out; nothing happens the second time."""
    if ClientLink.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=now):
        Membership.objects.filter(pk=link.membership_id).update(active=False)
        audit.record(Action.CLIENT_LINK_REVOKED, link.membership, company_id=_company(link))


def open_link(link_id: int) -> ClientLink | None:
    """The link while it opens; nothing is noted."""
    links = ClientLink.objects.select_related("membership__user")
    return links.filter(pk=link_id, revoked_at=None, membership__active=True).first()


@transaction.atomic
def link_use(*, link_id: int, now: dt.datetime) -> Membership | None:
    """The person behind the link, or None when it is revoked; each use stands in the trail."""
    link = open_link(link_id)
    if link is None:
        return None
    if ClientLink.objects.filter(pk=link_id, revoked_at=None).update(used_at=now) != 1:
        return None
    audit.record(Action.CLIENT_LINK_USED, link.membership, company_id=_company(link))
    member: Membership = link.membership
    return member


def _company(link: ClientLink) -> int | None:
    held = Assignment.objects.filter(membership_id=link.membership_id).order_by("pk")
    return held.values_list("company_id", flat=True).first()
