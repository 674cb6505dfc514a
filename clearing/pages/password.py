"""录入口令: a person gives a disk its new password, and their own once more.

Nothing that was typed comes back to a page, into a message or into a log.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from agency import clock
from agency.access import Viewer, access_company
from agency.choices import Act
from agency.errors import ServiceError
from agency.middleware import viewer_of
from devices.choices import ROLLING_KINDS, DiskKind
from devices.models import TaxDisk
from devices.services import disk_password_enter

MAX_LENGTH = 16


def _hidden(autocomplete: str) -> forms.PasswordInput:
    return forms.PasswordInput({"autocomplete": autocomplete}, render_value=False)


class PasswordForm(forms.Form):
    """The disk's passwords, and the person's own login password."""

    device_password = forms.CharField(
        label=gettext_lazy("新的设备口令"),
        required=False,
        strip=False,
        max_length=MAX_LENGTH,
        widget=_hidden("off"),
    )
    certificate_password = forms.CharField(
        label=gettext_lazy("新的证书口令"),
        required=False,
        strip=False,
        max_length=MAX_LENGTH,
        widget=_hidden("off"),
    )
    own_password = forms.CharField(
        label=gettext_lazy("您自己的登录口令"),
        strip=False,
        widget=_hidden("current-password"),
    )

    def __init__(self, *args: Any, user: AbstractBaseUser, kind: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        if DiskKind(kind) in ROLLING_KINDS:
            self.fields["device_password"].label = _("卡上现在的 PIN")
            del self.fields["certificate_password"]

    def clean_device_password(self) -> str:
        return _printable(self.cleaned_data["device_password"])

    def clean_certificate_password(self) -> str:
        return _printable(self.cleaned_data["certificate_password"])

    def clean_own_password(self) -> str:
        if not self.user.check_password(self.cleaned_data["own_password"]):
            raise ValidationError(_("登录口令不对，没有保存任何内容。"))
        return ""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        entered = cleaned.get("device_password") or cleaned.get("certificate_password")
        if not self.errors and not entered:
            raise ValidationError(_("请至少录入一个口令。"))
        return cleaned


def _printable(value: str) -> str:
    if not all(33 <= ord(character) <= 126 for character in value):
        raise ValidationError(_("口令只能是不带空格的字母、数字和符号。"))
    return value


@sensitive_post_parameters()
@never_cache
@require_http_methods(["GET", "POST"])
def page(request: HttpRequest, disk_id: int) -> HttpResponse:
    viewer = viewer_of(request)
    disk = access_disk(viewer, disk_id, Act.ENTER_PASSWORD)
    assert isinstance(request.user, AbstractBaseUser)  # noqa: S101 (signed in)
    form = PasswordForm(request.POST or None, user=request.user, kind=disk.kind)
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
