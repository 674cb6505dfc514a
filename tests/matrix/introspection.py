"""Every field that a request may fill, found in the code: forms, serializers, parameters."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from django.forms import BaseForm
from rest_framework.serializers import Serializer

LAYERS = ("agency", "devices", "clearing")
ROOT = Path(__file__).resolve().parents[2]
#: Functions of ours that read the parameters handed to them; they are looked at, too.
READERS = {"Query.of", "chosen_companies", "_mapping"}
#: Two forms have this name.
RENAMED = {("devices.pages.machines", "CodeForm"): "MachineCodeForm"}


def _sources() -> list[Path]:
    return sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _below(base: type[Any]) -> Iterator[type[Any]]:
    for each in base.__subclasses__():
        yield each
        yield from _below(each)


def forms() -> dict[str, set[str]]:
    """Our forms and serializers with their fields."""
    for path in _sources():
        if {"pages", "api", "operator"} & set(path.parts):
            import_module(_module(path))
    found: dict[str, set[str]] = {}
    for each in {*_below(BaseForm), *_below(Serializer)}:
        if each.__module__.partition(".")[0] not in LAYERS:
            continue
        name = RENAMED.get((each.__module__, each.__name__), each.__name__)
        assert name not in found, f"two forms are called {name}"
        fields = getattr(each, "base_fields", None) or getattr(each, "_declared_fields", {})
        if fields:
            found[name] = set(fields)
    return found


def parameters() -> dict[str, set[str]]:
    """Module → names read from addresses and forms without a form class."""
    found: dict[str, set[str]] = {}
    for path in _sources():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = set(_names(tree))
        for called in _handed_on(tree):
            assert called in READERS or called.endswith("Form"), f"{path}: {called} reads a request"
        if names:
            found[_module(path)] = names
    return found


def _of_request(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in {"GET", "POST"}


def _handed_on(tree: ast.AST) -> Iterator[str]:
    """What is called with ``request.GET`` or ``request.POST``, also in ``request.POST or None``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            for each in list(given):
                given += each.values if isinstance(each, ast.BoolOp) else []
                given += [each.body, each.orelse] if isinstance(each, ast.IfExp) else []
            if any(_of_request(each) for each in given):
                yield ast.unparse(node.func)


def _names(tree: ast.AST) -> Iterator[str]:
    """``request.GET.get("x")``, ``values.getlist("x")``, ``"x" in request.POST``, ``chosen["x"]``
    of a QueryDict or a mapping of parameters."""
    handed = {
        arg.arg
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for arg in node.args.args
        if arg.annotation is not None
        and (
            ast.unparse(arg.annotation) == "QueryDict"
            or (node.returns is not None and ast.unparse(node.returns) == "Query")
        )
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of, first = node.func.value, node.args[0] if node.args else None
            reads = node.func.attr in {"get", "getlist"}
        elif isinstance(node, ast.Compare):
            of, first, reads = node.comparators[0], node.left, True
        else:
            continue
        known = _of_request(of) or (isinstance(of, ast.Name) and of.id in handed)
        if reads and known:
            yield str(first.value) if isinstance(first, ast.Constant) else "c…"
