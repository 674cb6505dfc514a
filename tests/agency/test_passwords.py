"""A password that anybody in the trade would try first is refused."""

from __future__ import annotations

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

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
