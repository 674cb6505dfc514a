"""What a password must not be: short, common, the login's own name, or the name of the site or the
trade with a number behind it. Every refusal is in the words of this site."""

from __future__ import annotations

import re

from django.contrib.auth.models import AbstractBaseUser
from django.contrib.auth.password_validation import (
    CommonPasswordValidator,
    MinimumLengthValidator,
    UserAttributeSimilarityValidator,
)
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

#: What people here would think of first, the longer ones first.
WORDS = (
    "daizhanggongsi",
    "daizhang",
    "qingkatai",
    "qingka",
    "chaobao",
    "shuikong",
    "jinshui",
    "shuipan",
    "kuaiji",
    "caiwu",
    "fapiao",
    "password",
    "清卡台",
    "清卡",
    "抄报",
    "税控",
    "金税",
    "税盘",
    "会计",
    "财务",
    "发票",
    "代账",
)
_LEAST = 6  # characters that must be left without these words, digits and signs
_WORD = re.compile("|".join(WORDS))


class LongEnough(MinimumLengthValidator):
    """Django's, in our words."""

    def get_error_message(self) -> str:
        return _("口令太短，至少 %(n)s 个字符。") % {"n": self.min_length}


class NotCommon(CommonPasswordValidator):
    """Django's, in our words."""

    def get_error_message(self) -> str:
        return _("这个口令太常见，容易被猜中。")


class NotTheLogin(UserAttributeSimilarityValidator):
    """Django's, in our words."""

    def get_error_message(self) -> str:
        return _("口令与账号太像。")


class WordsOfThisSite:
    """A validator of Django's ``AUTH_PASSWORD_VALIDATORS``."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:
        """ValidationError, without the password in it."""
        text = password.lower()
        left = re.sub(r"[\W\d_]", "", _WORD.sub("", text))
        if _WORD.search(text) and len(left) < _LEAST:
            raise ValidationError(self.get_help_text(), code="word_of_this_site")

    def get_help_text(self) -> str:
        return _("口令不能只是系统或行业的名称加数字。")
