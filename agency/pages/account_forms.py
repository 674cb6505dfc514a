"""allauth's forms with our words and our limits; what was typed never comes back to a page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from allauth.account import forms as account
from allauth.core import context
from allauth.mfa.base import forms as mfa
from allauth.mfa.totp import forms as totp
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from agency import refusals, throttle
from agency.models import User
from agency.pages.password_field import hidden
from agency.throttle import Limit, address_of


def _too_many(limit: Limit) -> ValidationError:
    said = _("登录尝试次数过多，请 %(n)s 分钟后再试；忘记口令请联系本机构负责人。")
    return ValidationError(said % {"n": limit.minutes}, code="too_many")


@contextmanager
def _proof(limit: Limit, user: User) -> Iterator[None]:
    """Inside, what a person shows of themselves is looked at: bounded, and a wrong one is recorded.

    Raises ValidationError before it is looked at when there were too many wrong ones; that is
    recorded, too."""
    try:
        if not throttle.may_try(limit, user.pk):
            raise _too_many(limit)
        yield
    except ValidationError:
        refusals.proof_refused(user=user, address=address_of(context.request))
        raise
    throttle.forget(limit, user.pk)


class LoginForm(account.LoginForm):  # type: ignore[misc]
    """Account or e-mail address, and password."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["login"]
        self.fields["username"] = forms.CharField(
            label=_("账号"),
            max_length=254,
            widget=forms.TextInput({"autocomplete": "username", "autofocus": True}),
        )
        self.fields["password"] = forms.CharField(
            label=_("登录口令"), strip=False, max_length=128, widget=hidden("current-password")
        )
        self.order_fields(["username", "password"])

    def user_credentials(self) -> dict[str, str]:
        self.cleaned_data["login"] = self.cleaned_data["username"].strip()
        found: dict[str, str] = super().user_credentials()
        return found

    def clean(self) -> dict[str, Any]:
        """Count the try before the password is looked at; the limit is per account and address, so
        that a guesser elsewhere does not lock a person out."""
        if self.errors:
            return dict(self.cleaned_data)
        who = (self.cleaned_data["username"].strip(), address_of(self.request))
        try:
            if not throttle.may_try(throttle.LOGIN, *who):
                raise _too_many(throttle.LOGIN)
            cleaned: dict[str, Any] = super().clean()
        except ValidationError:
            refusals.sign_in_refused(username=who[0], address=who[1])
            raise
        throttle.forget(throttle.LOGIN, *who)
        return cleaned


class OwnPasswordAgainForm(account.ReauthenticateForm):  # type: ignore[misc]
    """The person's own password, once more."""

    password = forms.CharField(
        label=gettext_lazy("您自己的登录口令"),
        strip=False,
        max_length=128,
        widget=hidden("current-password"),
    )

    def clean_password(self) -> str:
        with _proof(throttle.OWN_PASSWORD, self.user):
            super().clean_password()
        return ""


class PasswordChangeForm(account.ChangePasswordForm):  # type: ignore[misc]
    """Old and new; all other sessions of the person end with it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        labels = {
            "oldpassword": (_("现在的登录口令"), "current-password"),
            "password1": (_("新的登录口令"), "new-password"),
            "password2": (_("再输一遍新口令"), "new-password"),
        }
        for name, (label, autocomplete) in labels.items():
            self.fields[name].label = label
            self.fields[name].widget = hidden(autocomplete)

    def clean_oldpassword(self) -> str:
        with _proof(throttle.OWN_PASSWORD, self.user):
            old: str = super().clean_oldpassword()
        return old

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean()
        if self.has_error("password2"):
            self.errors["password2"] = self.error_class([_("两次输入的口令不一样。")])
        return cleaned


class _Code:
    """Few tries, and no code twice."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["code"]  # type: ignore[attr-defined]
        field.label = _("验证码")
        field.max_length = 20
        field.widget = forms.TextInput(
            {
                "autocomplete": "one-time-code",
                "autofocus": True,
                "inputmode": "numeric",
                "maxlength": 20,
            }
        )

    def clean_code(self) -> str:
        user: User = self.user  # type: ignore[attr-defined]
        with _proof(throttle.SECOND_FACTOR, user):
            code: str = super().clean_code()  # type: ignore[misc]
            # allauth remembers used codes per process; the next process must know them too.
            if not throttle.may_try(throttle.CODE_ONCE, user.pk, "".join(code.split())):
                raise ValidationError(_("验证码不对，或刚刚用过。请等下一个验证码再试。"))
        return code


class CodeForm(_Code, mfa.AuthenticateForm):  # type: ignore[misc]
    """The second step of signing in: a code of the app, or a recovery code."""


class CodeAgainForm(_Code, mfa.ReauthenticateForm):  # type: ignore[misc]
    """A code in place of the password, before a dangerous act."""


class ActivateForm(_Code, totp.ActivateTOTPForm):  # type: ignore[misc]
    """The first code of a new authenticator shows that it was set up."""
