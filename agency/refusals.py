"""Refusals in the trail: each kind at once, equal ones of a minute counted, in a transaction of
their own, in the chain of the actor's agency or, where there is none, of the platform.

What may come as often is counted the same way (``counted``): the operator's looks.

What was typed by somebody who is not signed in is never kept: people type passwords into the wrong
field.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from typing import Any

from allauth.account.internal.userkit import filter_users_by_email, get_user_by_username
from django.db import connection
from django.db.models import Model

from agency import audit
from agency.access import memberships_of
from agency.audit import Actor
from agency.choices import Action, ActorKind
from agency.clock import real_now
from agency.edge import without_token
from agency.models import PLATFORM, Membership, RefusalCount, User
from agency.scope import agency_scope, current_agency_id
from agency.tenancy import lookup_function

NOBODY = Actor(ActorKind.UNKNOWN, "未登录者")

REFUSALS_SQL = lookup_function(
    "agencies_with_refusals(timestamptz)",
    """
CREATE FUNCTION agencies_with_refusals(before timestamptz) RETURNS TABLE (agency_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT DISTINCT r.agency_id FROM agency_refusalcount r WHERE r.minute < before
$$;
""",
)


def access_refused(*, agency_id: int | None, method: str, path: str, kind: str) -> None:
    """A request that was answered with 403, 404 or 429; the actor is the running one."""
    data = {"method": method, "path": without_token(path)[:200], "kind": kind}
    _refused(agency_id, Action.ACCESS_REFUSED, None, data)


def sign_in_refused(*, username: str, address: str) -> None:
    """A sign-in that failed: in the chain of every agency of that account, or of the platform.

    Whose account it is, is looked up as the sign-in does: without regard to capitals, and by the
    e-mail address, too."""
    users = {get_user_by_username(username), *filter_users_by_email(username, for_login=True)}
    places = [place for user in users if user is not None for place in memberships_of(user.pk)]
    with audit.acting(NOBODY):
        for agency_id, membership_id, _role in places:
            _refused(agency_id, Action.SIGN_IN_REFUSED, membership_id, {"address": address})
        if not places:
            _refused(None, Action.SIGN_IN_REFUSED, None, {"address": address})


def proof_refused(*, user: User, address: str) -> None:
    """A code or an own password that was wrong: of a person who is in, in the chain that is open;
    of one who is half way in, as a sign-in that failed."""
    if current_agency_id() is None:
        sign_in_refused(username=user.get_username(), address=address)
    else:
        counted(Action.PROOF_REFUSED, data={"address": address})


def machine_refused(action: Action, *, address: str, agency_id: int | None = None) -> None:
    """A token or an enrolment code that is nobody's, or an agency's code that is used or over."""
    with audit.acting(NOBODY):
        _refused(agency_id, action, None, {"address": address})


def link_refused(*, address: str, agency_id: int | None = None) -> None:
    """A client's link or an invitation that is nobody's, or an agency's that no longer opens, or
    one try too many."""
    with audit.acting(NOBODY):
        _refused(agency_id, Action.LINK_REFUSED, None, {"address": address})


def _refused(
    agency_id: int | None, action: Action, membership_id: int | None, data: dict[str, Any]
) -> None:
    chain = PLATFORM if agency_id is None else agency_id
    with agency_scope(chain):
        member = Membership.objects.filter(pk=membership_id).first() if membership_id else None
        counted(action, member, data=data)


def counted(action: Action, obj: Model | None = None, *, data: dict[str, Any]) -> None:
    """Inside a scope: record the first at once, equal ones of its minute when that is over."""
    agency_id = current_agency_id()
    if agency_id is None:
        raise RuntimeError("refusals.counted outside of agency_scope")
    if _count(agency_id, audit.entry(action, obj, data=data)) == 1:
        audit.record(action, obj, data=data)


def _count(chain: int, entry: dict[str, Any]) -> int:
    """Count a refusal in its minute; how often it was there, this time included."""
    what = {name: value for name, value in entry.items() if name not in {"at", "request_id"}}
    text = json.dumps(what, sort_keys=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO agency_refusalcount (agency_id, minute, digest, entry, count)"
            " VALUES (%s, date_trunc('minute', %s), %s, %s, 1)"
            " ON CONFLICT (agency_id, minute, digest)"
            " DO UPDATE SET count = agency_refusalcount.count + 1 RETURNING count",
            [chain, real_now(), hashlib.sha256(text.encode()).hexdigest(), text],
        )
        count: int = cursor.fetchone()[0]
    return count


def agencies_to_settle(*, before: dt.datetime) -> list[int]:
    """The agencies (and the platform) with counts of minutes that are over."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM agencies_with_refusals(%s)", [before])
        return [row[0] for row in cursor.fetchall()]


def settle(*, before: dt.datetime) -> int:
    """Inside a scope: record what was counted in the minutes before, once; how many entries."""
    rows = list(RefusalCount.objects.select_for_update(skip_locked=True).filter(minute__lt=before))
    repeated = [row for row in rows if row.count > 1]
    for row in repeated:
        minute = row.minute.astimezone(dt.UTC).isoformat(timespec="minutes")
        data = {**row.entry["data"], "repeated": row.count - 1, "minute": minute}
        audit.record_again({**row.entry, "data": data, "request_id": ""})
    RefusalCount.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(repeated)
