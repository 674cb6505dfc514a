"""Filters of templates."""

from __future__ import annotations

import pytest

from agency.templatetags.words import device_name

WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"
ANDROID = "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/116.0 Mobile Safari/537.36"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Version/18.0 Safari/604.1"
LINUX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (WINDOWS, "Chrome · Windows"),
        (f"{WINDOWS} Edg/140.0", "Edge · Windows"),
        (f"{ANDROID} MicroMessenger/8.0", "微信 · Android"),
        (IPHONE, "Safari · iPhone"),
        (LINUX, "Firefox · Linux"),
        ("curl/8.5.0 " + "x" * 60, "curl/8.5.0 " + "x" * 49),
        ("", ""),
    ],
)
def test_a_device_is_told_apart_by_its_browser_and_its_system(said: str, name: str) -> None:
    assert device_name(said) == name
