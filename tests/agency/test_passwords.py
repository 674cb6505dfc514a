"""A password that is short, common or what anybody in the trade would try first is refused."""

from __future__ import annotations

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from agency.models import User

WEAK = ["qingka2026!", "Qingkatai123", "清卡台2026000", "shuikong-88888", "KuaiJi_20261109"]
FINE = ["correct horse 7", "qingka wombat lamp", "山高月小，水落石出，清卡", "a" * 64]


@pytest.mark.parametrize("password", WEAK)
def test_a_name_with_a_number_is_refused(password: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validate_password(password)
    assert "系统或行业" in str(caught.value)
    assert password not in str(caught.value)


@pytest.mark.parametrize("password", FINE)
def test_any_other_is_taken(password: str) -> None:
    validate_password(password)


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("wombat 7", "口令太短，至少 10 个字符。"),
        ("1234567890", "这个口令太常见，容易被猜中。"),
        ("zhanglaoban8", "口令与账号太像。"),
    ],
)
def test_each_refusal_is_in_our_words(password: str, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validate_password(password, User(username="zhanglaoban"))
    assert caught.value.messages == [why]
