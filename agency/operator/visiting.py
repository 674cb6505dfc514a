"""A browser's support session: remembered by number, looked up anew in each request."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _

from agency import support
from agency.access import Refused
from agency.clock import real_now
from agency.models import SupportSession, User
from agency.scope import agency_scope

_KEY, _FOUND = "support", "_support_session"
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
    """Run a view inside the visited agency, whose trail tells of it; refused without a session."""

    @wraps(view)
    def visiting(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        session = visited(request)
        if session is None:
            raise Refused(_("没有进行中的支持会话：尚未开启、已到期、已结束，或机构撤回了同意。"))
        with agency_scope(session.agency_id):
            support.page_looked_at(session=session, path=request.get_full_path())
            response = view(request, *args, **kwargs)
            if hasattr(response, "render") and callable(response.render):
                response = response.render()  # still inside the scope
        return response

    return visiting
