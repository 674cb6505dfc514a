"""Writing in the agency layer: agencies, members, companies, assignments.

All but :func:`agency_create` run inside an ``agency_scope``; each is one transaction and leaves its
audit entry.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action, Role, SecondFactor
from agency.errors import ServiceError
from agency.models import Agency, Assignment, Company, Membership, User
from agency.scope import agency_scope


@transaction.atomic
def agency_create(*, name: str, practice: bool = False) -> Agency:
    """A new, empty agency; the caller adds its owner next.

    A real one demands a second factor of its owner and supervisors from the first day."""
    demanded = SecondFactor.NOBODY if practice else SecondFactor.LEADS
    agency = Agency.objects.create(name=name, practice=practice, second_factor=demanded)
    with agency_scope(agency.pk):
        audit.record(Action.AGENCY_CREATED, agency, data={"practice": practice})
    return agency


@transaction.atomic
def member_add(
    *, agency: Agency, username: str, password: str, name: str, role: Role
) -> Membership:
    """A person with a login of their own (an existing login is taken up, its password kept).

    Raises ServiceError for a weak password or a person who is a member already."""
    user = User.objects.filter(username__iexact=username).first()
    if user is None:
        user = User(username=username)
        try:
            user.full_clean(exclude=["password"])
            validate_password(password, user)
        except ValidationError as error:
            raise ServiceError(" ".join(error.messages)) from None
        user.set_password(password)
        user.save()
    if user.is_staff:
        raise ServiceError(_("平台运维账号不能加入机构"))
    if Membership.objects.filter(user=user).exists():
        raise ServiceError(_("%(name)s 已是本机构成员") % {"name": username})
    member = Membership.objects.create(agency=agency, user=user, name=name, role=role)
    audit.record(Action.MEMBER_ADDED, member, data={"role": str(role), "username": username})
    return member


@transaction.atomic
def company_assign(*, companies: Iterable[Company], member: Membership) -> int:
    """Put companies into a person's hands; how many were not there before."""
    new = 0
    for company in companies:
        _row, created = Assignment.objects.get_or_create(
            agency_id=company.agency_id, company=company, membership=member
        )
        if created:
            new += 1
            audit.record(
                Action.COMPANY_ASSIGNED,
                company,
                company_id=company.pk,
                data={"member": member.name},
            )
    return new


@transaction.atomic
def company_unassign(*, company: Company, member: Membership) -> None:
    """Take a company out of a person's hands; nothing happens when it was not there."""
    deleted, _rows = Assignment.objects.filter(company=company, membership=member).delete()
    if deleted:
        audit.record(
            Action.COMPANY_UNASSIGNED,
            company,
            company_id=company.pk,
            data={"member": member.name},
        )
