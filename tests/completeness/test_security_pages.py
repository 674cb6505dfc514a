"""The threat model and the ASVS table name only what exists, and the table leaves no number out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("deploy/threat-model.md", "deploy/asvs.md")
QUOTED = re.compile(r"`([^`\n]+)`")
A_FILE = re.compile(r"[\w.-]+(/[\w.-]+)+/?|\w+\.\w+")
#: Requirements of levels 1 and 2 in ASVS 5.0.0, by section; in each they are numbered from 1.
SECTIONS = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2,
    "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1,
    "3.2": 2, "3.3": 4, "3.4": 6, "3.5": 5, "3.7": 2,
    "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4,
    "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3,
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4,
    "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 2, "7.6": 2,
    "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1,
    "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1,
    "12.1": 3, "12.2": 2, "12.3": 4,
    "13.1": 1, "13.2": 5, "13.3": 2, "13.4": 5,
    "14.1": 2, "14.2": 4, "14.3": 3,
    "15.1": 3, "15.2": 3, "15.3": 7,
    "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3,
}  # fmt: skip
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def names_of_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_file_and_test_that_a_page_names_is_there(page: str) -> None:
    quoted = set(QUOTED.findall(text(page)))
    named = {word for word in quoted if word.startswith("test_")}
    files = {word for word in quoted if "/" in word and A_FILE.fullmatch(word)}
    assert len(named) > 30
    assert len(files) > 20
    assert named - names_of_tests() == set()
    assert {name for name in files if not (ROOT / name).exists()} == set()


def test_no_requirement_is_missing_from_the_table_and_none_is_doubled() -> None:
    numbers = [number for number, _asked, _answer in ROW.findall(text("deploy/asvs.md"))]
    wanted = [f"{name}.{at}" for name, count in SECTIONS.items() for at in range(1, count + 1)]
    assert numbers == wanted


def test_every_answer_is_one_of_four_and_says_where_or_why() -> None:
    for number, _asked, answer in ROW.findall(text("deploy/asvs.md")):
        word, _, why = answer.partition(":")
        assert re.fullmatch(r"(met|partly|not met|n/a)( [a-z ]+)?", word), number
        assert len(why.split()) >= 1, number


def test_the_readme_leads_to_both() -> None:
    for page in PAGES:
        assert page in text("README.md")
