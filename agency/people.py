"""Who belongs to an agency: invitations, roles, removal, covers (代班), the demanded second factor.

Inside an ``agency_scope``; each function is one transaction and leaves its entry in the trail. An
agency is never left without an owner.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from dataclasses import dataclass, field

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action, Role, SecondFactor
from agency.errors import ServiceError
from agency.models import Agency, Assignment, Cover, Invitation, Membership, User
from agency.services import company_unassign

INVITATION_LIFE = dt.timedelta(days=7)
#: Roles that are given by invitation; a client's person comes by a link of their own.
INVITED = (Role.OWNER, Role.SUPERVISOR, Role.BOOKKEEPER, Role.FRONT_DESK)


def token_hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


@dataclass(frozen=True, slots=True)
class InvitationMade:
    """An invitation and its token, which is shown once and kept only as a hash."""

    row: Invitation
    token: str = field(repr=False)


@transaction.atomic
def invitation_create(
    *, agency: Agency, name: str, role: Role, by: str, now: dt.datetime
) -> InvitationMade:
    """A link for one person, good once and for seven days. ``now`` is real time."""
    if role not in INVITED:
        raise ServiceError(_("企业客户请在客户页开通专属链接"))
    token = secrets.token_urlsafe(32)
    row = Invitation.objects.create(
        agency=agency,
        token_hash=token_hash(token),
        name=name,
        role=role,
        invited_by=by,
        created_at=now,
        expires_at=now + INVITATION_LIFE,
    )
    audit.record(Action.MEMBER_INVITED, row, data={"role": str(role)})
    return InvitationMade(row, token)


def open_invitation(invitation_id: int, now: dt.datetime) -> Invitation | None:
    """The invitation while it can be accepted."""
    return Invitation.objects.filter(
        pk=invitation_id, accepted_at=None, revoked_at=None, expires_at__gt=now
    ).first()


@transaction.atomic
def invitation_revoke(*, invitation: Invitation, now: dt.datetime) -> None:
    """Nothing happens when it was accepted or revoked before."""
    rows = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, revoked_at=None)
    if rows.update(revoked_at=now):
        audit.record(Action.INVITATION_REVOKED, invitation)


@transaction.atomic
def invitation_accept(
    *, invitation: Invitation, user: User, name: str, now: dt.datetime
) -> Membership:
    """The person joins with the invitation's role; a former member comes back with it and with
    no company in hand.

    Raises ServiceError when somebody was faster, for a member, an operator and a client's person:
    who came by a link has no account to join with."""
    if not user.has_usable_password():
        raise ServiceError(
            _("您凭专属链接进入，没有账号。请先退出再打开此邀请，或换一个浏览器打开。")
        )
    rows = Invitation.objects.filter(
        pk=invitation.pk, accepted_at=None, revoked_at=None, expires_at__gt=now
    )
    if rows.update(accepted_at=now) != 1:
        raise ServiceError(_("此邀请已用过、已撤回或已过期"))
    if user.is_staff:
        raise ServiceError(_("平台运维账号不能加入机构"))
    member = Membership.objects.filter(user=user).first()
    if member is not None and member.active:
        raise ServiceError(_("您已是本机构成员"))
    if member is None:
        member = Membership(agency_id=invitation.agency_id, user=user)
    else:
        _hand_back(member)
    member.name, member.role, member.active = name, invitation.role, True
    member.save()
    audit.record(Action.MEMBER_JOINED, member, data={"role": str(member.role)})
    return member


def account_create(*, username: str, password: str) -> User:
    """A login of one's own. Raises ServiceError for a weak password or a name that is taken."""
    user = User(username=username)
    try:
        user.full_clean(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        raise ServiceError(" ".join(error.messages)) from None
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save()
    except IntegrityError:  # somebody took the name in this moment
        raise ServiceError(_("这个账号已有人使用，请换一个（不区分大小写）。")) from None
    return user


def _hand_back(member: Membership) -> None:
    """No company is in this person's hands any more."""
    held = Assignment.objects.select_related("company").filter(membership=member)
    for row in held.order_by("pk"):
        company_unassign(company=row.company, member=member)


def _keep_an_owner(member: Membership) -> None:
    """Lock the owners and refuse when this one is the last."""
    owners = Membership.objects.select_for_update().filter(role=Role.OWNER, active=True)
    if {owner.pk for owner in owners.order_by("pk")} == {member.pk}:
        raise ServiceError(_("这是最后一位负责人，不能移除或改任"))


@transaction.atomic
def member_change_role(*, member: Membership, role: Role) -> None:
    """Raises ServiceError for the last owner and where a client's person is concerned."""
    if Role.CLIENT in {role, member.role}:
        raise ServiceError(_("企业客户的角色不能更改"))
    if role == member.role:
        return
    _keep_an_owner(member)
    before = str(member.role)
    Membership.objects.filter(pk=member.pk).update(role=role)
    audit.record(Action.MEMBER_ROLE_CHANGED, member, data={"from": before, "to": str(role)})


@transaction.atomic
def member_remove(*, member: Membership) -> None:
    """The person sees nothing of the agency from the next request on and holds no company of it;
    the trail keeps the name."""
    _keep_an_owner(member)
    Membership.objects.filter(pk=member.pk).update(active=False)
    Cover.objects.filter(Q(absent=member) | Q(substitute=member)).delete()
    _hand_back(member)
    audit.record(Action.MEMBER_REMOVED, member)


@transaction.atomic
def second_factor_demand(*, agency: Agency, of: SecondFactor) -> None:
    """Takes effect at the next request of everybody concerned."""
    Agency.objects.filter(pk=agency.pk).update(second_factor=of)
    audit.record(Action.SECOND_FACTOR_DEMANDED, agency, data={"of": str(of)})


@transaction.atomic
def cover_create(
    *, absent: Membership, substitute: Membership, since: dt.date, until: dt.date
) -> Cover:
    """From ``since`` to ``until``, both included, the substitute has the absent one's companies."""
    if absent.pk == substitute.pk:
        raise ServiceError(_("代班人不能是本人"))
    if until < since:
        raise ServiceError(_("止日不能早于起日"))
    if {absent.role, substitute.role} != {Role.BOOKKEEPER}:
        raise ServiceError(_("只有记账会计需要代班"))
    cover = Cover.objects.create(
        agency_id=absent.agency_id, absent=absent, substitute=substitute, since=since, until=until
    )
    data = {"absent": absent.name, "since": str(since), "until": str(until)}
    audit.record(Action.MEMBER_COVERED, substitute, data=data)
    return cover


@transaction.atomic
def cover_end(*, cover: Cover) -> None:
    audit.record(Action.MEMBER_COVER_ENDED, cover.substitute, data={"absent": cover.absent.name})
    cover.delete()
