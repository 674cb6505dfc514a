"""What holds for every request and every answer, whoever asks and whatever the view says.

No answer is kept by a browser or a proxy unless its view says so; no page gets a power of the
browser that it does not use; no other site may load what is here; no request is longer than
anything this site takes; the machine API answers over TLS only. Never looks at who asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render

#: Bytes of the longest request: above what the longest form may hold, so that the page of a file
#: that is a little too big can still say so. Django bounds what is not a file by itself.
LONGEST = 32 * 1024 * 1024

HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": ", ".join(
        f"{power}=()"
        for power in (
            "accelerometer",
            "autoplay",
            "camera",
            "clipboard-read",
            "display-capture",
            "encrypted-media",
            "fullscreen",
            "geolocation",
            "gyroscope",
            "hid",
            "magnetometer",
            "microphone",
            "midi",
            "payment",
            "publickey-credentials-get",
            "screen-wake-lock",
            "serial",
            "usb",
        )
    ),
}

#: Addresses that hold a secret of their own: a client's link, an invitation, a new password.
_WITH_TOKEN = re.compile(r"(/(?:c|join|renew)/)[-\w%]{20,}")


def without_token(text: str) -> str:
    """``text`` for a log or the trail: the secret part of an address is not in it."""
    return _WITH_TOKEN.sub(r"\1…", text)


def _is_machine(request: HttpRequest) -> bool:
    return request.path_info.startswith("/machine/")


class EdgeMiddleware:
    """The first of all: its headers stand on what any other middleware answers, too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._refused(request) or self.get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    @staticmethod
    def _refused(request: HttpRequest) -> HttpResponseBase | None:
        """The length is believed: the server reads no more of the body than it says."""
        if settings.SECURE_SSL_REDIRECT and _is_machine(request) and not request.is_secure():
            # Sending it on to https would hide that a token went over the net in the clear.
            return JsonResponse({"error": "https_only"}, status=403)
        said = str(request.META.get("CONTENT_LENGTH") or "0")
        if said.isdecimal() and len(said) < 12 and int(said) <= LONGEST:
            return None
        return render(None, "agency/too_long.html", {"mb": LONGEST >> 20}, status=413)
