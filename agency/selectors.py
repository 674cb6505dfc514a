"""Reading in the agency layer: the audit trail, and the agencies of a person."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q, QuerySet

from agency.access import memberships_of
from agency.clock import BEIJING
from agency.models import Agency, AuditEntry, Company


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """What is looked for in the trail; an empty value asks for nothing."""

    company: str = ""
    person: str = ""
    action: str = ""
    since: dt.date | None = None
    until: dt.date | None = None


def audit_entries(query: AuditQuery) -> QuerySet[AuditEntry]:
    """The agency's entries that match, newest first; days are those of Beijing."""
    entries = AuditEntry.objects.defer("salt", "content_hash", "previous_hash", "hash")
    if query.company:
        found = Company.objects.filter(
            Q(short_name__icontains=query.company)
            | Q(name__icontains=query.company)
            | Q(tax_id__icontains=query.company)
        )
        entries = entries.filter(company_id__in=found.values("pk"))
    if query.person:
        entries = entries.filter(actor_name__icontains=query.person)
    if query.action:
        entries = entries.filter(action=query.action)
    if query.since:
        entries = entries.filter(at__gte=_midnight(query.since))
    if query.until:
        entries = entries.filter(at__lt=_midnight(query.until + dt.timedelta(days=1)))
    return entries.order_by("-sequence")


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), BEIJING)


def company_names(ids: Iterable[int | None]) -> dict[int, str]:
    """Short names of companies of the agency, by id; gone ones are missing."""
    wanted = {number for number in ids if number is not None}
    return dict(Company.objects.filter(pk__in=wanted).values_list("pk", "short_name"))


def agencies_of(user_id: int) -> list[Agency]:
    """The agencies a person belongs to, in the order of their memberships."""
    ids = [agency_id for agency_id, _member, _role in memberships_of(user_id)]
    found = Agency.objects.in_bulk(ids)
    return [found[agency_id] for agency_id in ids if agency_id in found]


def every_agency() -> list[int]:
    """Ids of all agencies, for jobs that must leave out none; their data open one by one."""
    return list(Agency.objects.order_by("pk").values_list("pk", flat=True))
