"""Asking a signed-in person for their own password once more, before secrets and PINs."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from agency import throttle


def hidden(autocomplete: str) -> forms.PasswordInput:
    """A password's field: what was typed never comes back to the page."""
    return forms.PasswordInput({"autocomplete": autocomplete}, render_value=False)


class OwnPasswordForm(forms.Form):
    """A form with the person's own password as its last field; a few tries in a while."""

    own_password = forms.CharField(
        label=gettext_lazy("您自己的登录口令"),
        strip=False,
        max_length=128,
        widget=hidden("current-password"),
    )

    def __init__(self, *args: Any, user: AbstractBaseUser, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.order_fields([name for name in self.fields if name != "own_password"])

    def clean_own_password(self) -> str:
        limit = throttle.OWN_PASSWORD
        if not throttle.may_try(limit, self.user.pk):
            raise ValidationError(
                _("输错次数过多，请 %(n)s 分钟后再试；没有保存任何内容。") % {"n": limit.minutes}
            )
        if not self.user.check_password(self.cleaned_data["own_password"]):
            raise ValidationError(_("登录口令不对，没有保存任何内容。"))
        throttle.forget(limit, self.user.pk)
        return ""
