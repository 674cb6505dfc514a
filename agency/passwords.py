"""A password is not the site's or the trade's name with a number behind it."""

from __future__ import annotations

import re

from django.contrib.auth.models import AbstractBaseUser
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
