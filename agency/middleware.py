"""Runs each view inside its agency's scope: people by session, machines by token, the platform's
operator inside the platform's own.

A view's failure rolls back what it did; a refusal (403, 404, 429) is recorded afterwards, in a
transaction of its own, in the chain of the actor's agency.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django_htmx.http import HttpResponseClientRedirect

from agency import audit, refusals
from agency.access import Viewer, covering, machine_of, memberships_of
from agency.audit import Actor
from agency.choices import Act, Action, ActorKind, Role
from agency.clock import now
from agency.models import PLATFORM, Agency, Membership, User
from agency.scope import agency_scope
from agency.second_factor import demanded, step_before
from agency.throttle import address_of

SESSION_AGENCY = "agency"
OPERATOR_SITE = "operator"
MACHINE_SCHEME = "Machine "


# What a person may open who has to set up a second factor, or to show it, first.
WITHOUT_SECOND_FACTOR = frozenset(
    {
        "account_reauthenticate",
        "agency-switch",
        "client-enter",
        "healthz",
        "invitation",
        "logout",
        "mfa_activate_totp",
        "mfa_reauthenticate",
        "set_language",
    }
)


def _name_of(request: HttpRequest) -> str:
    match = request.resolver_match
    return (match.url_name or "") if match is not None else ""


def _on_operator_site(request: HttpRequest) -> bool:
    match = request.resolver_match
    return match is not None and match.namespace == OPERATOR_SITE


def _to(request: HttpRequest, page: str) -> HttpResponseBase:
    if request.headers.get("HX-Request"):
        return HttpResponseClientRedirect(reverse(page))
    return redirect(page)


class _RollBack(Exception):
    """Leaves the scope without committing; the answer is already made."""


class AgencyScopeMiddleware:
    """The last middleware: ``process_view`` runs the view, so that its exceptions roll back.

    Sets ``request.viewer`` (a :class:`agency.access.Viewer` or None), ``request.machine_id`` and
    ``request.operator`` (whether the platform's operator asks, second factor included).
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.viewer = None  # type: ignore[attr-defined]
        request.machine_id = None  # type: ignore[attr-defined]
        request.operator = False  # type: ignore[attr-defined]
        return self.get_response(request)

    def process_view(
        self,
        request: HttpRequest,
        view: Callable[..., HttpResponseBase],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> HttpResponseBase | None:
        header = request.headers.get("Authorization", "")
        if header.startswith(MACHINE_SCHEME):
            token = header.removeprefix(MACHINE_SCHEME).strip()
            found = machine_of(hashlib.sha256(token.encode()).digest())
            if found is None:
                refusals.machine_refused(Action.MACHINE_TOKEN_REFUSED, address=address_of(request))
                return JsonResponse({"error": "machine_unknown"}, status=401)
            agency_id, machine_id = found
            request.machine_id = machine_id  # type: ignore[attr-defined]
            # The machine's name replaces the number as soon as its row is loaded by the view.
            actor = Actor(ActorKind.MACHINE, f"#{machine_id}", machine_id)
            return self._run(request, agency_id, actor, view, args, kwargs)
        if not request.user.is_authenticated:
            return None
        memberships = memberships_of(request.user.pk)
        if not memberships:
            return self._without_agency(request, view, args, kwargs)
        wanted = request.session.get(SESSION_AGENCY)
        agency_id, membership_id, role = next(
            (entry for entry in memberships if entry[0] == wanted), memberships[0]
        )
        agency = Agency.objects.get(pk=agency_id)
        with agency_scope(agency_id):
            name = Membership.objects.get(pk=membership_id).name
            covers = covering(membership_id, now().date()) if role == Role.BOOKKEEPER else ()
        actor = Actor(ActorKind.USER, name, request.user.pk)
        if _on_operator_site(request):
            # No agency and no viewer: the page is the one of an address that does not exist.
            with audit.acting(actor, request_id=str(uuid.uuid4())):
                self._record_refusal(request, agency_id, Http404.__name__)
            raise Http404
        more = frozenset(
            {Act.IMPORT} if role == Role.BOOKKEEPER and agency.bookkeepers_may_import else ()
        )
        request.agency = agency  # type: ignore[attr-defined]
        step = step_before(request) if demanded(agency, role) else ""
        if step:
            # No viewer: only the way to a second factor and out again, no right to anything.
            if _name_of(request) not in WITHOUT_SECOND_FACTOR:
                return _to(request, step)
            return self._run(request, agency_id, actor, view, args, kwargs)
        request.viewer = Viewer(  # type: ignore[attr-defined]
            request.user.pk, agency_id, membership_id, role, name, more, covers
        )
        return self._run(request, agency_id, actor, view, args, kwargs)

    def _without_agency(
        self,
        request: HttpRequest,
        view: Callable[..., HttpResponseBase],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> HttpResponseBase | None:
        """The platform's operator, or a person who was removed everywhere."""
        user = request.user
        if not isinstance(user, User) or not user.is_staff:
            return None
        name = _name_of(request)
        step = step_before(request)
        if step:
            if name not in WITHOUT_SECOND_FACTOR:
                return _to(request, step)
        elif name == "home":
            return redirect(f"{OPERATOR_SITE}:index")
        else:
            request.operator = True  # type: ignore[attr-defined]
        actor = Actor(ActorKind.OPERATOR, user.get_username(), user.pk)
        return self._run(request, PLATFORM, actor, view, args, kwargs)

    def _run(
        self,
        request: HttpRequest,
        agency_id: int,
        actor: Actor,
        view: Callable[..., HttpResponseBase],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> HttpResponseBase:
        with audit.acting(actor, request_id=str(uuid.uuid4())):
            try:
                with agency_scope(agency_id):
                    response = view(request, *args, **kwargs)
                    if hasattr(response, "render") and callable(response.render):
                        response = response.render()
                    if response.status_code >= 400 and response.status_code != 409:
                        # Django REST framework answers errors instead of raising them. A 409 is
                        # an answer: permission denied, but the facts that came with it are kept.
                        raise _RollBack
            except _RollBack:
                pass
            except (PermissionDenied, Http404) as refusal:
                self._record_refusal(request, agency_id, type(refusal).__name__)
                raise
            if response.status_code in {403, 404, 429}:
                self._record_refusal(request, agency_id, str(response.status_code))
            return response

    @staticmethod
    def _record_refusal(request: HttpRequest, agency_id: int | None, kind: str) -> None:
        refusals.access_refused(
            agency_id=agency_id, method=request.method or "", path=request.path, kind=kind
        )

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        """A refusal outside of every agency: the person belongs to none."""
        user = request.user
        if (
            isinstance(error, PermissionDenied | Http404)
            and isinstance(user, User)
            and request.viewer is None  # type: ignore[attr-defined]
        ):
            with audit.acting(Actor(ActorKind.USER, user.get_username(), user.pk)):
                self._record_refusal(request, None, type(error).__name__)


def viewer_of(request: HttpRequest) -> Viewer:
    """The signed-in person of a request. Raises PermissionDenied when there is none."""
    viewer = getattr(request, "viewer", None)
    if not isinstance(viewer, Viewer):
        raise PermissionDenied
    return viewer
