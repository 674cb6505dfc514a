"""What the steps of an import hand to one another: what is known, what is planned.

Only shapes. Secrets are kept out of every ``repr``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from agency.models import Bureau, Company, Membership
from devices.models import TaxDisk

COMPANY_KEYS = (
    "short_name",
    "name",
    "taxpayer_kind",
    "filing_frequency",
    "bureau",
    "clear_policy",
    "contact",
    "phone",
)
SECRET_KEYS = ("device_password", "certificate_password")


class RowStatus(StrEnum):
    NEW = "new"
    UPDATE = "update"
    SAME = "same"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Known:
    """The agency as far as the sheet touches it. ``members``: who may be named as bookkeeper.

    ``only_for``: a bookkeeper imports; companies and assignments of others are out of reach.
    """

    companies: Mapping[str, Company]
    disks: tuple[TaxDisk, ...]  # of these companies, and those whose number stands in the sheet
    members: tuple[Membership, ...]
    bureaus: tuple[Bureau, ...]
    assigned: frozenset[tuple[int, int]]  # company id, membership id
    passwords: Callable[[TaxDisk], tuple[str, str]] | None = field(repr=False)
    only_for: Membership | None = None


@dataclass(slots=True)
class CompanyPlan:
    """One company of the sheet. ``values``: what its rows say; ``said_in``: in which one."""

    tax_id: str
    first_row: int
    company: Company | None
    values: dict[str, Any] = field(default_factory=dict)
    said_in: dict[str, int] = field(default_factory=dict)
    accountants: tuple[Membership, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    assign: tuple[Membership, ...] = ()


@dataclass(slots=True)
class DiskPlan:
    """One disk of the sheet; ``disk`` is None for a new one, ``kind`` "" where none is named."""

    owner: CompanyPlan
    device_no: str | None
    terminal_no: int | None
    kind: str
    secrets: dict[str, str] = field(repr=False)
    disk: TaxDisk | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    new_secrets: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class PlannedRow:
    """One row of the sheet and what becomes of it. ``fields``: column keys that change."""

    number: int
    values: dict[str, Any] = field(repr=False)
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    status: RowStatus = RowStatus.SAME
    fields: list[str] = field(default_factory=list)
    company: CompanyPlan | None = None
    disk: DiskPlan | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    rows: list[PlannedRow]
    companies: list[CompanyPlan]
    disks: list[DiskPlan]
