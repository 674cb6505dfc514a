"""What leaves the server and what it lets in: each by one door.

Sheets go out through ``agency/spreadsheet.py``; XML comes in through two parsers; the server calls
no address that a tenant can set.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.apps import apps
from django.db import models
from rest_framework import serializers

import agency.pages
import clearing.api
import clearing.pages
import devices.api
import devices.pages
from agency.tenancy import TenantModel

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("agency", "devices", "clearing")
#: What runs on a reader machine, and what stands in for a bureau or a disk: not the server.
ELSEWHERE = ("clearing/worker/", "clearing/bureau/", "devices/drivers/", "devices/simulator/")


def sources(*, server_only: bool = True) -> Iterator[tuple[str, str]]:
    for layer in LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not (server_only and name.startswith(ELSEWHERE)):
                yield name, path.read_text(encoding="utf-8")


def imported(text: str) -> set[str]:
    """Every module that is imported, with all names in which it could be written."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def using(modules: set[str], *, server_only: bool = True) -> set[str]:
    return {name for name, text in sources(server_only=server_only) if imported(text) & modules}


# — Sheets


SHEET = re.compile(
    r"spreadsheetml|ms-excel|text/csv|text/tab-sep|csv\.writer|DictWriter|opendocument"
)
FILLS = re.compile(r"\.cell\([^()]*,[^()]*,|\.append\(\[|\.value\s*=[^=]|\bsheet\[")


def test_every_sheet_goes_out_through_the_one_writer() -> None:
    assert {name for name, text in sources() if SHEET.search(text)} == {"agency/spreadsheet.py"}


def test_no_cell_is_filled_but_by_the_one_writer() -> None:
    makers = {name: text for name, text in sources() if "openpyxl.Workbook" in imported(text)}
    assert set(makers) == {"devices/sheet_template.py"}
    for name, text in makers.items():
        assert "spreadsheet.put(" in text, name
        assert not (found := FILLS.search(text)), (name, found)


def test_a_cell_that_is_filled_by_hand_is_found() -> None:
    for code in ("sheet.cell(1, 2, text)", "sheet.append([a])", "cell.value = x", 'sheet["A1"]'):
        assert FILLS.search(code), code


# — XML


XML = {"lxml", "lxml.etree", "lxml.html", "xml.etree", "xml.parsers.expat", "xml.dom", "xml.sax"}


def test_xml_is_read_by_the_two_hardened_parsers_only() -> None:
    parsers = {"devices/protocol/envelope.py", "devices/sheet_guard.py"}
    assert using(XML, server_only=False) == parsers


# — Addresses that the server calls


CLIENTS = {
    "httpx",
    "requests",
    "urllib3",
    "urllib.request",
    "http.client",
    "aiohttp",
    "ftplib",
    "smtplib",
    "socket",
    "websockets",
    "paramiko",
}
#: Mail and the storages of the daily heads: both are settings, which only the operator sets.
SENDERS = {"django.core.mail", "django.core.files.storage.storages"}


def test_no_module_of_the_server_opens_a_connection_of_its_own() -> None:
    """One that does needs a guard: scheme, address after the name is resolved, no redirects."""
    assert using(CLIENTS) == set()
    assert using(SENDERS) == {"agency/places.py"}


def test_what_goes_out_goes_to_places_of_the_settings() -> None:
    users = {name for name, text in sources() if "agency.places" in imported(text)}
    assert users == {"agency/heads.py"}
    assert "settings.AUDIT_PLACES" in (ROOT / "agency" / "heads.py").read_text(encoding="utf-8")


def fields() -> Iterator[tuple[str, Any]]:
    """Every field of every form and serializer of the site, with its name."""
    for package in (agency.pages, devices.pages, clearing.pages, devices.api, clearing.api):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for kind in vars(importlib.import_module(module.name)).values():
                if not isinstance(kind, type):
                    continue
                declared = getattr(kind, "base_fields", None) or {}
                if issubclass(kind, serializers.Serializer):
                    declared = getattr(kind, "_declared_fields", {})
                for name, field in declared.items():
                    yield f"{kind.__name__}.{name}", field


AN_ADDRESS = re.compile(r"url|uri|host|webhook|callback|endpoint|server|domain", re.IGNORECASE)


def test_no_form_and_no_endpoint_takes_an_address() -> None:
    found = dict(fields())
    assert len(found) > 30
    kinds = (forms.URLField, forms.GenericIPAddressField, serializers.URLField)
    assert [name for name, field in found.items() if isinstance(field, kinds)] == []
    assert [name for name in found if AN_ADDRESS.search(name.partition(".")[2])] == []


def test_no_table_of_a_tenant_holds_an_address_and_the_bureaus_are_nobodys_to_change() -> None:
    tenants = [model for model in apps.get_models() if issubclass(model, TenantModel)]
    assert len(tenants) > 10
    assert not [
        f"{model.__name__}.{field.name}"
        for model in tenants
        for field in model._meta.get_fields()
        if isinstance(field, models.URLField)
    ]
    writes = re.compile(
        r"Bureau(\.objects\S*\.|\.objects\.)(create|get_or_create|update|update_or_create|bulk_\w+)\("
        r"|(?<!class )\bBureau\(\w"
    )
    assert [name for name, text in sources() if writes.search(text)] == []


@pytest.mark.parametrize("code", ["import httpx", "from http import client", "import socket as s"])
def test_a_connection_of_its_own_is_found(code: str) -> None:
    assert imported(code) & CLIENTS
