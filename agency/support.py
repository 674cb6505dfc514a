"""Support sessions (支持会话): the platform's operator reads one agency's data, for a while.

Only with the agency's consent, for a reason, and seen by the agency: each session and each page
that was looked at stands in its trail, opening and ending in the platform's trail too. Whether a
session runs is asked of the database, on its clock, for each request anew; nothing here writes to
an agency's other data. The platform's chain is appended to before the agency's.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from agency import audit, refusals
from agency.choices import Action
from agency.errors import ServiceError
from agency.models import PLATFORM, Agency, SupportSession, User
from agency.scope import agency_scope, current_agency_id

#: How long a session may be asked for.
MINUTES = (15, 30, 60)
REASON_AT_LEAST = 5


def running() -> QuerySet[SupportSession]:
    """The sessions that are open now, inside a scope."""
    return SupportSession.objects.filter(ended_at=None, expires_at__gt=Now()).order_by("pk")


def running_in(agency: Agency) -> list[SupportSession]:
    """The same, wherever a page is made: a refusal's is, outside of every scope."""
    if not agency.support_consent:
        return []
    if current_agency_id() == agency.pk:
        return list(running())
    with agency_scope(agency.pk):
        return list(running())


def running_session(*, operator_id: int, agency_id: int, session_id: int) -> SupportSession | None:
    """That session of that operator, while it is open and the agency consents."""
    with agency_scope(agency_id):
        return (
            running()
            .filter(pk=session_id, operator_id=operator_id, agency__support_consent=True)
            .select_related("agency")
            .first()
        )


@transaction.atomic
def consent_give(*, agency: Agency) -> None:
    """From now on a session may be opened; inside the agency's scope."""
    if _consent(agency, given=True):
        audit.record(Action.SUPPORT_ALLOWED, agency)


@transaction.atomic
def consent_withdraw(*, agency: Agency, by: str, now: dt.datetime) -> None:
    """No session any more; those that run end at once. Inside the agency's scope."""
    if _consent(agency, given=False):
        audit.record(Action.SUPPORT_WITHDRAWN, agency)
        for session in running():
            session_end(session=session, by=by, now=now)


def _consent(agency: Agency, *, given: bool) -> int:
    rows = Agency.objects.filter(pk=agency.pk).exclude(support_consent=given)
    return rows.update(support_consent=given)


def session_open(
    *, operator: User, agency: Agency, reason: str, minutes: int, now: dt.datetime
) -> SupportSession:
    """Open a session; one of the same operator that still runs there ends. ``now`` is real time.

    Raises ServiceError without the agency's consent, without a reason, for an odd time."""
    reason = " ".join(reason.split())
    if len(reason) < REASON_AT_LEAST:
        raise ServiceError(_("请写明原因，至少 %(n)s 个字。") % {"n": REASON_AT_LEAST})
    if minutes not in MINUTES:
        raise ServiceError(_("请选择时长。"))
    name = operator.get_username()
    with agency_scope(agency.pk):
        # Under the lock no consent is withdrawn between the question and the new row.
        consenting = Agency.objects.select_for_update(no_key=True).get(pk=agency.pk)
        if not consenting.support_consent:
            raise ServiceError(_("该机构没有同意平台支持，请其负责人先在“平台支持”页同意。"))
        for old in running().filter(operator_id=operator.pk):
            session_end(session=old, by=name, now=now)
        session = SupportSession.objects.create(
            agency=agency,
            operator_id=operator.pk,
            operator_name=name,
            reason=reason,
            opened_at=now,
            expires_at=now + dt.timedelta(minutes=minutes),
        )
        _record(Action.SUPPORT_OPENED, session, {"reason": reason, "minutes": minutes})
    return session


def session_end(*, session: SupportSession, by: str, now: dt.datetime) -> None:
    """End it before its time; nothing happens when it is over already."""
    with agency_scope(session.agency_id):
        if running().filter(pk=session.pk).update(ended_at=now, ended_by=by):
            _record(Action.SUPPORT_ENDED, session, {"reason": session.reason})


def page_looked_at(*, session: SupportSession, path: str) -> None:
    """Into the agency's trail, before the page leaves the server; inside the agency's scope."""
    refusals.counted(Action.SUPPORT_LOOKED, session, data={"path": path[:200]})


def _record(action: Action, session: SupportSession, data: dict[str, Any]) -> None:
    audit.record(action, session, data=data)
    with agency_scope(PLATFORM):
        audit.record(action, session.agency, data={**data, "operator": session.operator_name})
