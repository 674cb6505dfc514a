"""两步验证: allauth's views behind our proof, with an entry in the trail for each change.

Each change ends the other sessions of the person: somebody else may be in one of them.
"""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import record_authentication
from allauth.mfa.recovery_codes import views as recovery
from allauth.mfa.totp import views as totp
from allauth.usersessions.internal.flows.sessions import end_other_sessions
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from agency.accounts import note_here
from agency.choices import Action
from agency.pages.proof import recently_proven


def _end_others(request: HttpRequest) -> None:
    end_other_sessions(request, request.user)
    messages.success(request, _("已更改两步验证，其他设备已全部退出。"))


@method_decorator(never_cache, name="dispatch")
class ActivateView(totp.ActivateTOTPView):  # type: ignore[misc]
    """Scan, type the first code; the recovery codes come next."""

    def form_valid(self, form: Any) -> HttpResponse:
        answer: HttpResponse = super().form_valid(form)
        # Set up in this session: that is as good as a code shown in it.
        record_authentication(self.request, self.request.user, "mfa", type="totp")
        _end_others(self.request)
        note_here(Action.SECOND_FACTOR_ON)
        return answer

    def get_success_url(self) -> str:
        return str(reverse_lazy("mfa_view_recovery_codes"))


class DeactivateView(totp.DeactivateTOTPView):  # type: ignore[misc]
    """Refused where an agency of the person demands a second factor."""

    success_url = reverse_lazy("account")

    def form_valid(self, form: Any) -> HttpResponse:
        answer: HttpResponse = super().form_valid(form)
        _end_others(self.request)
        note_here(Action.SECOND_FACTOR_OFF)
        return answer


class GenerateCodesView(recovery.GenerateRecoveryCodesView):  # type: ignore[misc]
    """New recovery codes; the old ones end."""

    def form_valid(self, form: Any) -> HttpResponse:
        answer: HttpResponse = super().form_valid(form)
        _end_others(self.request)
        note_here(Action.RECOVERY_CODES_MADE)
        return answer


@method_decorator(never_cache, name="dispatch")
class CodesView(recovery.ViewRecoveryCodesView):  # type: ignore[misc]
    """The recovery codes that are left."""


activate = ActivateView.as_view()
deactivate = DeactivateView.as_view()
generate_codes = GenerateCodesView.as_view()
codes = recently_proven()(require_GET(CodesView.as_view()))
