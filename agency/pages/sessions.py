"""我的账号: own password, second factor, and where one is signed in; sign out elsewhere.

The rows are allauth's; ``LastSeenMiddleware`` keeps them fresh to a few minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from allauth.account import views as account
from allauth.usersessions.internal.flows.sessions import end_other_sessions, end_sessions
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth import logout
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from agency.accounts import note_here
from agency.choices import Action
from agency.models import User
from agency.pages.proof import recently_proven
from agency.second_factor import demanded_somewhere, has_second_factor

_SEEN, _SEEN_SECONDS = "seen", 300
#: A working day: then a session ends, however busy it is.
_SINCE, LONGEST_SECONDS = "since", 12 * 3600


class LastSeenMiddleware:
    """Notes address, program and time of a session, at most once in five minutes; ends old ones."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.session.session_key and request.user.is_authenticated:
            self._note(request)
        return self.get_response(request)

    @staticmethod
    def _note(request: HttpRequest) -> None:
        now = time.time()
        if now - request.session.setdefault(_SINCE, now) > LONGEST_SECONDS:
            logout(request)
        elif now - request.session.get(_SEEN, 0) > _SEEN_SECONDS:
            request.session[_SEEN] = now
            UserSession.objects.create_from_request(request)


@never_cache
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    user_id = request.user.pk or 0
    sessions = UserSession.objects.purge_and_list(request.user)
    return render(
        request,
        "agency/account.html",
        {
            "sessions": sorted(sessions, key=lambda row: row.last_seen_at, reverse=True),
            "second_factor": has_second_factor(user_id),
            "demanded": demanded_somewhere(user_id),
        },
    )


@require_POST
@recently_proven(back="account")
def end(request: HttpRequest) -> HttpResponse:
    """One session by its number, or all but this one."""
    wanted = request.POST.get("session", "")
    if wanted:
        rows = [
            row for row in UserSession.objects.purge_and_list(request.user) if str(row.pk) == wanted
        ]
        if not rows:
            raise Http404
        end_sessions(request, rows)
    else:
        end_other_sessions(request, request.user)
    note_here(Action.SESSIONS_ENDED)
    messages.success(request, _("已退出。"))
    return redirect("account")


class PasswordChangeView(account.PasswordChangeView):  # type: ignore[misc]
    """A new password ends every other session of the person."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if isinstance(request.user, User) and not request.user.has_usable_password():
            raise PermissionDenied(_("您凭专属链接进入，没有登录口令。"))
        answer: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        return answer

    def form_valid(self, form: Any) -> HttpResponse:
        answer: HttpResponse = super().form_valid(form)
        end_other_sessions(self.request, form.user)
        note_here(Action.PASSWORD_CHANGED)
        messages.success(self.request, _("登录口令已更改，其他设备已全部退出。"))
        return answer

    def get_default_success_url(self) -> str:
        return reverse("account")


password_change = method_decorator(never_cache, name="dispatch")(PasswordChangeView).as_view()
