"""Every action of the trail is written somewhere, and has its words in Chinese and in English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import translation

from agency.choices import Action

ROOT = Path(__file__).resolve().parents[2]
CHINESE = re.compile(r"[一-鿿]")


ASKS = {"filter", "exclude", "get"}


def written(node: ast.AST) -> Iterator[str]:
    """Actions that are handed on; to compare with one or to look for one is not to write it."""
    if isinstance(node, ast.Compare):
        return
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ASKS:
        yield from written(node.func)
        return
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id == "Action":
            yield node.attr
        return
    for child in ast.iter_child_nodes(node):
        yield from written(child)


def test_every_action_is_written_by_the_code_of_a_layer() -> None:
    found: set[str] = set()
    for layer in ("agency", "devices", "clearing"):
        for path in (ROOT / layer).rglob("*.py"):
            found |= set(written(ast.parse(path.read_text(encoding="utf-8"))))
    found &= set(Action.names)  # without ``Action.choices`` and the like
    assert set(Action.names) - found == set(), "never written"


def test_asking_for_an_action_is_not_writing_it() -> None:
    code = "Entry.objects.filter(Action.A).get()\nif x == Action.B: pass\n"
    code += "record(Action.C if x else Action.D)\ndef f(action=Action.E): pass"
    assert sorted(written(ast.parse(code))) == ["C", "D", "E"]


@pytest.mark.parametrize("action", Action)
def test_an_action_is_dotted_and_has_words_in_both_languages(action: Action) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z_]+", action.value)
    with translation.override("zh-hans"):
        assert CHINESE.search(str(action.label))
    with translation.override("en"):
        english = str(action.label)
    assert english
    assert not CHINESE.search(english)


def test_no_two_actions_have_the_same_words() -> None:
    labels = [str(action.label) for action in Action]
    assert {label for label in labels if labels.count(label) > 1} == set()
