"""录入口令: a person gives a disk its new password, having just shown who they are.

Nothing that was typed comes back to a page, into a message or into a log.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from agency import clock
from agency.access import Viewer, access_company, require
from agency.choices import Act
from agency.errors import ServiceError
from agency.middleware import viewer_of
from agency.pages.proof import recently_proven
from devices.choices import ROLLING_KINDS, DiskKind, PasswordState
from devices.models import TaxDisk
from devices.pages.passwords import DiskSecretsForm
from devices.services import disk_password_enter


class PasswordForm(DiskSecretsForm):
    """The disk's new passwords."""

    def __init__(self, *args: Any, kind: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["device_password"].label = _("新的设备口令")
        self.fields["certificate_password"].label = _("新的证书口令")
        if DiskKind(kind) in ROLLING_KINDS:
            self.fields["device_password"].label = _("卡上现在的 PIN")
            del self.fields["certificate_password"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors and not self.entered(cleaned):
            raise ValidationError(_("请至少录入一个口令。"))
        return cleaned


@sensitive_post_parameters()
@never_cache
@recently_proven()
@require_http_methods(["GET", "POST"])
def page(request: HttpRequest, disk_id: int) -> HttpResponse:
    viewer = viewer_of(request)
    disk = access_disk(viewer, disk_id, Act.ENTER_PASSWORD)
    if disk.password_state == PasswordState.PIN_UNKNOWN:
        require(viewer, Act.PIN_WAY_OUT)  # another PIN is one of the ways out
    form = PasswordForm(request.POST or None, kind=disk.kind)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                disk_password_enter(
                    disk=disk,
                    device_password=form.cleaned_data["device_password"],
                    certificate_password=form.cleaned_data.get("certificate_password", ""),
                    now=clock.now(),
                )
        except ServiceError as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, _("口令已封存。下次办理时由税盘核对；现在可以重试。"))
            return redirect("company", disk.company_id)
    return render(
        request,
        "clearing/password.html",
        {"form": form, "disk": disk, "company": disk.company},
    )


def access_disk(viewer: Viewer, disk_id: int, act: Act) -> TaxDisk:
    """The disk, for an act on its company; the same 404 and 403 as for the company."""
    disk = TaxDisk.objects.select_related("company").filter(pk=disk_id).first()
    if disk is None:
        raise Http404
    access_company(viewer, disk.company_id, act)
    return disk
