"""Every accident that a public project reported, and that we promise not to repeat, has its test.

The table is what a reader looks at first; each test names its issue in its docstring.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parents[2]

#: What happens, and where it happened to others.
NAMED = {
    "a message is delivered twice": ["celery#5935"],
    "killed between a write and its commit": ["awx#9594"],
    "a false notice of failure": ["awx#2285"],
    "a message is lost": ["kombu#305", "kombu#1836"],
    "a worker is deaf after a reconnect": ["celery#10205"],
    "a stale message for a deleted run": ["netbox#21129"],
    "cancelled during a write": ["netbox#23158"],
    "two beats": ["netbox#22232"],
    "a task without a tenant": ["django-multitenant#213"],
    "pcscd is restarted": ["pyscard#27", "pyscard#82"],
    "another program holds the reader": ["PCSC#215"],
    "the seventeenth reader": ["PCSC#13"],
    "the disk is swapped": ["tmkms#173"],
    "a retry with nothing failed": ["a retry with nothing failed is refused"],
}


def docstrings() -> dict[str, list[str]]:
    """Test function → what its docstring says, over all tests; functions are read, not run."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[f"{path.relative_to(TESTS)}::{node.name}"].append(
                    " ".join((ast.get_docstring(node) or "").split())
                )
    return found


def test_every_named_accident_has_a_test_that_names_it() -> None:
    said = docstrings()
    assert len(said) > 500
    untested = [
        issue
        for issues in NAMED.values()
        for issue in issues
        if not any(
            issue in text.replace(",", " ").replace(":", " ").split() or _sentence(issue, text)
            for texts in said.values()
            for text in texts
        )
    ]
    assert untested == []


def _sentence(issue: str, text: str) -> bool:
    """Whether an accident without a number stands in the text."""
    return "#" not in issue and issue in text
