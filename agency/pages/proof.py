"""Before dangerous acts: the person has just shown who they are, by password or by code.

``recently_proven`` is the one decorator, and a view that has it is on the one list (its attribute
``needs_proof``). Nothing that was posted is kept meanwhile: it may hold a password.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from allauth.account.internal.flows.login import get_authentication_records
from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django_htmx.http import HttpResponseClientRedirect

View = Callable[..., HttpResponseBase]

#: To open a page, and to send what was typed there in the meantime.
OPEN_SECONDS, SEND_SECONDS = 300, 600


def proven_within(request: HttpRequest, seconds: float) -> bool:
    """A password or code was given in this session (signing in counts) not longer ago."""
    records = get_authentication_records(request, request.user)
    return any(time.time() - float(record["at"]) < seconds for record in records)


def recently_proven(*, back: str = "") -> Callable[[View], View]:
    """``back``: the page (name of its address) to return to where the view itself has none."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            send = request.method == "POST"
            if proven_within(request, SEND_SECONDS if send else OPEN_SECONDS):
                return view(request, *args, **kwargs)
            if send:
                messages.warning(request, _("请先确认身份，再提交一次；刚才没有保存任何内容。"))
            wanted = reverse(back) if back and send else request.get_full_path()
            target = f"{reverse('account_reauthenticate')}?{urlencode({'next': wanted})}"
            if request.headers.get("HX-Request"):
                return HttpResponseClientRedirect(target)
            return redirect(target)

        guarded.needs_proof = True  # type: ignore[attr-defined]
        return guarded

    return decorate
