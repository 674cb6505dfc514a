"""Report packages at rest: sealed, and found again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db.models import Exists, OuterRef

from agency.sealing import open_sealed, seal
from clearing.choices import EvidenceKind
from clearing.models import Evidence, package_context
from clearing.wire import Held
from devices.models import TaxDisk


def seal_package(disk: TaxDisk, data: Mapping[str, Any]) -> bytes:
    """Seal a package as the machine delivered it: fields and statistics."""
    plain = {"fields": data["fields"], "statistics": data.get("statistics", {})}
    return seal(
        json.dumps(plain, ensure_ascii=False), context=package_context(disk.agency_id, disk.pk)
    )


def held_packages(disk: TaxDisk) -> list[Held]:
    """Packages without a recorded answer of the bureau, the newest of each period and unit."""
    answered = Evidence.objects.filter(
        disk=OuterRef("disk"),
        kind=EvidenceKind.BUREAU,
        counted=True,
        unit=OuterRef("unit"),
        data__op="WLCB",
        data__period=OuterRef("data__period"),
        pk__gt=OuterRef("pk"),
    )
    rows = Evidence.objects.filter(
        ~Exists(answered), disk=disk, kind=EvidenceKind.PACKAGE, counted=True
    ).order_by("pk")
    newest: dict[tuple[str, str], Held] = {}
    for row in rows:
        plain = json.loads(
            open_sealed(bytes(row.sealed or b""), context=package_context(disk.agency_id, disk.pk))
        )
        period = row.data["period"]
        newest[period, row.unit] = Held(period, row.unit, plain["fields"], plain["statistics"])
    return list(newest.values())
