"""Sessions of people: whoever reads the database signs in as nobody, and learns nothing from them.

The key of a session stands in the database, in its own row and in allauth's list of devices; the
cookie is that key with a signature, and the key that signs is not in the database. What a session
holds (who, how signed in, a second factor that is being set up) is sealed. A session ends with the
key that sealed it: none is sealed anew, its person signs in once more.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends import db
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.signing import BadSignature, Signer
from django.http import HttpRequest, HttpResponse

from agency import sealing


def cookie_of(session_key: str) -> str:
    """What a browser is given for a session."""
    return _signer().sign(session_key)


def session_key_of(cookie: str | None) -> str | None:
    """The session that a browser's cookie is for; None where nobody here signed it."""
    try:
        return _signer().unsign(cookie) if cookie else None
    except BadSignature:
        return None


def _signer() -> Signer:
    return Signer(salt="agency.sessions")


class SessionStore(db.SessionStore):
    """Django's sessions in the database, each sealed for its own row."""

    def encode(self, session_dict: dict[str, Any]) -> str:
        plain = self.serializer().dumps(session_dict)
        return base64.b64encode(sealing.seal(plain, context=self._context)).decode()

    def decode(self, session_data: bytes | str) -> dict[str, Any]:
        """Of a session that does not open nothing is left, as of one that is over."""
        try:
            plain = sealing.open_sealed(base64.b64decode(session_data), context=self._context)
        except (binascii.Error, sealing.SealError):
            return {}
        found: dict[str, Any] = self.serializer().loads(plain)
        return found

    @property
    def _context(self) -> str:
        return f"session:{self.session_key}"


class SignedSessionMiddleware(SessionMiddleware):
    """Django's, with the signed key in the cookie."""

    def process_request(self, request: HttpRequest) -> None:
        key = session_key_of(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        request.session = self.SessionStore(key)

    def process_response(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        answer = super().process_response(request, response)
        cookie = answer.cookies.get(settings.SESSION_COOKIE_NAME)
        if cookie is not None and cookie.value:  # an empty one is taken away
            signed = cookie_of(cookie.value)
            cookie.set(cookie.key, signed, signed)
        return answer
