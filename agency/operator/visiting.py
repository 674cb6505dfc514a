"""A browser's support session: remembered by number, looked up anew in each request.

A page of a visit is made by a role of the database that can only read, and stands in the agency's
trail before its answer leaves: in a transaction of its own, also when the page failed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from agency import audit, support
from agency.access import Refused
from agency.audit import Actor
from agency.choices import ActorKind
from agency.clock import real_now
from agency.models import SupportSession, User
from agency.scope import agency_scope, reading_only

_KEY, _FOUND, _LOOKED = "support", "_support_session", "_looked_by"
View = Callable[..., HttpResponseBase]


def remember(request: HttpRequest, session: SupportSession) -> None:
    """From the next request on, this browser visits the session's agency."""
    request.session[_KEY] = (session.agency_id, session.pk)


def visited(request: HttpRequest) -> SupportSession | None:
    """The support session of this browser, while it runs; asked once in a request."""
    if not hasattr(request, _FOUND):
        setattr(request, _FOUND, _look_up(request))
    found: SupportSession | None = getattr(request, _FOUND)
    return found


def _look_up(request: HttpRequest) -> SupportSession | None:
    kept = request.session.get(_KEY)
    if kept is None or not getattr(request, "operator", False):
        return None
    agency_id, session_id = kept
    return support.running_session(
        operator_id=request.user.pk or 0, agency_id=agency_id, session_id=session_id
    )


def leave(request: HttpRequest) -> None:
    """End this browser's session, if one runs."""
    session = visited(request)
    if session is not None and isinstance(request.user, User):
        support.session_end(session=session, by=request.user.get_username(), now=real_now())
    request.session.pop(_KEY, None)
    setattr(request, _FOUND, None)


def in_the_agency(view: View) -> View:
    """Run a view inside the visited agency, to read; refused without a session."""

    @wraps(view)
    def visiting(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        session = visited(request)
        if session is None:
            raise Refused(_("没有进行中的支持会话：尚未开启、已到期、已结束，或机构撤回了同意。"))
        setattr(request, _LOOKED, session)
        with agency_scope(session.agency_id), reading_only():
            response = view(request, *args, **kwargs)
            if hasattr(response, "render") and callable(response.render):
                response = response.render()  # still inside the scope
        return response

    return visiting


class LooksMiddleware:
    """Outside of the request's own transaction, which a page that is not there rolls back."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        session: SupportSession | None = getattr(request, _LOOKED, None)
        if session is not None:
            actor = Actor(ActorKind.OPERATOR, session.operator_name, session.operator_id)
            with audit.acting(actor), agency_scope(session.agency_id):
                support.page_looked_at(session=session, path=request.get_full_path())
        return response
