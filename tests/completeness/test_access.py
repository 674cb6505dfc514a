"""The only way to a tenant's object in a request is an ``access_*`` function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from django.apps import apps

from agency.tenancy import TenantModel

ROOT = Path(__file__).resolve().parents[2]
TENANT = {model.__name__ for model in apps.get_models() if issubclass(model, TenantModel)}
MODULES = sorted(
    path
    for layer in ("agency", "devices", "clearing")
    for part in ("pages", "api", "operator")
    for path in (ROOT / layer / part).rglob("*.py")
)


def model_of(node: ast.expr) -> str:
    """``Model`` of ``Model.objects.a().b()``."""
    while isinstance(node, ast.Call | ast.Attribute):
        if isinstance(node, ast.Attribute) and node.attr == "objects":
            return node.value.id if isinstance(node.value, ast.Name) else ""
        node = node.func if isinstance(node, ast.Call) else node.value
    return ""


def fetches(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, what) of every call that takes one object of a tenant by its number by itself."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("access_"):
            continue
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if isinstance(node.func, ast.Name) and node.func.id.startswith("get_object_or_404"):
                yield node.lineno, node.func.id
            keys = {keyword.arg for keyword in node.keywords}
            by_number = name == "get" or (name == "filter" and keys & {"pk", "id"})
            if by_number and model_of(node.func) in TENANT:
                yield node.lineno, f"{model_of(node.func)}.{name}"
        yield from fetches(node)


def test_no_page_and_no_endpoint_takes_a_tenants_object_by_itself() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for path in MODULES
        for line, what in fetches(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(MODULES) > 20
    assert found == []


def test_the_search_finds_what_it_looks_for() -> None:
    code = "def view():\n Company.objects.select_related('x').filter(pk=1).first()\n"
    code += " Company.objects.get(pk=1)\n get_object_or_404(Company, pk=1)\n"
    code += "def access_company():\n Company.objects.get(pk=1)\n"
    assert [line for line, _what in fetches(ast.parse(code))] == [2, 3, 4]
