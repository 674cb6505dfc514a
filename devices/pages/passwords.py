"""The fields in which a person gives a disk its passwords; nothing typed ever comes back.

Pages with them stand behind ``recently_proven``."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from agency.pages.password_field import hidden

MAX_LENGTH = 16


class DiskSecretsForm(forms.Form):
    """A disk's passwords, neither required."""

    device_password = forms.CharField(
        label=gettext_lazy("设备口令"),
        required=False,
        strip=False,
        max_length=MAX_LENGTH,
        widget=hidden("off"),
    )
    certificate_password = forms.CharField(
        label=gettext_lazy("证书口令"),
        required=False,
        strip=False,
        max_length=MAX_LENGTH,
        widget=hidden("off"),
    )

    def clean_device_password(self) -> str:
        return _printable(self.cleaned_data["device_password"])

    def clean_certificate_password(self) -> str:
        return _printable(self.cleaned_data["certificate_password"])

    @staticmethod
    def entered(cleaned: dict[str, Any]) -> bool:
        return bool(cleaned.get("device_password") or cleaned.get("certificate_password"))


def _printable(value: str) -> str:
    if not all(33 <= ord(character) <= 126 for character in value):
        raise ValidationError(_("口令只能是不带空格的字母、数字和符号。"))
    return value
