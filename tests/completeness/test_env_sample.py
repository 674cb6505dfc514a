"""Every variable that the settings read stands in the sample environment, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "deploy" / "env.sample"

_READ = re.compile(
    r"""(?:\benv(?:_\w+)?|\bdatabase|environ\.get|getenv)\(\s*["'](QINGKA_\w+)["']"""
)
_REQUIRED = re.compile(r"""\b(?:env|database)\(\s*["'](QINGKA_\w+)["']\s*\)""")
_LINE = re.compile(r"^(#?)(QINGKA_\w+)=(.*)$", re.MULTILINE)


def settings_source() -> str:
    return (ROOT / "deploy" / "settings.py").read_text(encoding="utf-8")


def sample() -> list[tuple[bool, str, str]]:
    """(commented out, name, value) of every line that sets something."""
    found = _LINE.findall(SAMPLE.read_text(encoding="utf-8"))
    return [(mark == "#", name, value) for mark, name, value in found]


def test_the_sample_and_the_settings_name_the_same_variables() -> None:
    read = set(_READ.findall(settings_source()))
    assert read, "the pattern no longer finds what the settings read"
    assert {name for _, name, _ in sample()} == read


def test_no_variable_stands_twice() -> None:
    names = [name for _, name, _ in sample()]
    assert len(names) == len(set(names))


def test_what_is_required_is_not_commented_out() -> None:
    required = set(_REQUIRED.findall(settings_source()))
    optional_owner = {"QINGKA_OWNER_DATABASE_URL"}  # read only where it is set
    commented = {name for is_comment, name, _ in sample() if is_comment}
    assert not (required - optional_owner) & commented


def test_the_sample_ships_no_secret() -> None:
    values = {name: value for _, name, value in sample()}
    secrets = ("QINGKA_SECRET_KEY", "QINGKA_SEAL_KEYS", "QINGKA_AUDIT_KEY")
    assert [values[name] for name in secrets] == ["", "", ""]


@pytest.mark.parametrize("name", sorted({name for _, name, _ in sample()}))
def test_each_variable_is_explained_in_chinese_and_english(name: str) -> None:
    """In the comment above it."""
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if re.match(rf"#?{name}=", line))
    comment: list[str] = []
    for line in reversed(lines[:at]):
        if not line.startswith("#") or _LINE.match(line):
            break
        comment.append(line)
    said = " ".join(comment)
    assert re.search(r"[一-鿿]", said), f"{name}: no Chinese"
    assert re.search(r"[a-z]{3,} ", said), f"{name}: no English"
