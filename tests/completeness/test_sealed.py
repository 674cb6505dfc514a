"""No sealed value outside of the places that a rotation of keys visits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from django.apps import apps
from django.db import models

from agency.sealed import SealedField, places

ROOT = Path(__file__).resolve().parents[2]
#: Binary columns that hold no secret, each with what it is.
NOT_SEALED = {
    *("token_hash", "code_hash", "salt", "content_hash", "previous_hash", "hash"),
    "signature",  # of a head of the trail: public
}
#: Who seals, and where that ends up. A new one needs a SealedField or SealedFileField, and a line.
SEALERS = {
    "agency/accounts.py": "second factors",
    "agency/resealing.py": "every place",
    "agency/sessions.py": "sessions",  # each ends with the key that sealed it
    "clearing/services/backups.py": "clearing.Backup.storage_name",
    "clearing/services/packages.py": "clearing.Evidence.sealed",
    "devices/import_write.py": "devices.TaxDisk.device_password",
    "devices/imports.py": "devices.ImportDraft.content",
    "devices/services/disks.py": "devices.TaxDisk.device_password",
    "devices/services/pins.py": "devices.TaxDisk.pin_late",
}


def sealers() -> Iterator[str]:
    """Files of the server that call ``seal`` of ``agency.sealing``."""
    for layer in ("agency", "devices", "clearing", "deploy"):
        for path in sorted((ROOT / layer).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ImportFrom):
                    continue
                names = {alias.name for alias in node.names}
                # The function by name, or the module by which it is called.
                wanted = {"agency.sealing": "seal", "agency": "sealing"}.get(node.module or "")
                if wanted in names:
                    yield str(path.relative_to(ROOT))


def test_every_binary_column_is_declared_sealed_or_is_no_secret() -> None:
    columns = {
        f"{model._meta.label}.{field.name}"
        for model in apps.get_models()
        for field in model._meta.local_fields
        if isinstance(field, models.BinaryField)
        and not isinstance(field, SealedField)
        and field.name not in NOT_SEALED
    }
    assert columns == set()


def test_whoever_seals_fills_a_place_that_the_rotation_visits() -> None:
    assert set(sealers()) == set(SEALERS)
    known = {str(place) for place in places()} | {"every place", "second factors", "sessions"}
    assert set(SEALERS.values()) <= known


def test_every_place_names_a_context_that_its_model_has() -> None:
    found = list(places())
    assert len(found) >= 6
    for place in found:
        assert hasattr(place.model, place.field.context), place
