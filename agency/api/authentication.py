"""Hands the machine that the scope middleware found to Django REST framework.

People do not come this way: a session on these views would need its own CSRF check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request


@dataclass(frozen=True, slots=True)
class MachinePrincipal:
    """A reader machine, authenticated by its token."""

    machine_id: int
    is_authenticated: bool = True


class MachineAuthentication(BaseAuthentication):
    """A machine by its token (``Authorization: Machine <token>``)."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        machine_id = getattr(request._request, "machine_id", None)
        return None if machine_id is None else (MachinePrincipal(machine_id), None)

    def authenticate_header(self, request: Request) -> str:
        return "Machine"
