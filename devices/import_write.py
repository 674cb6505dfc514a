"""Writes a plan that has no errors: companies, their disks and passwords, assignments, the trail.

In bulk: the number of queries grows with thousands of rows, not with each. Runs inside the caller's
transaction and ``agency_scope``; known disks must be locked, because a reader machine may be about
to deliver a PIN. Passwords are sealed here and go nowhere else.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from django.db import connection, models

from agency import audit
from agency.choices import Action
from agency.models import Assignment, Company
from agency.sealing import seal
from devices.choices import ROLLING_KINDS, PasswordState
from devices.import_types import CompanyPlan, DiskPlan, Plan
from devices.models import TaxDisk

CHUNK = 1_000
_PASSWORD_FIELDS = (
    "device_password",
    "certificate_password",
    "password_state",
    "password_entered_at",
    "pin_generation",
)


@dataclass(frozen=True, slots=True)
class ImportResult:
    """Counts of what an import wrote."""

    companies_new: int
    companies_updated: int
    disks_new: int
    disks_updated: int


def reserve_ids(model: type[models.Model], count: int) -> list[int]:
    """Primary keys for rows whose contents must be bound to them before they are written."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)",
            [model._meta.db_table, count],
        )
        return [row[0] for row in cursor.fetchall()]


def write_plan(plan: Plan, *, agency_id: int, file_name: str, now: dt.datetime) -> ImportResult:
    """Write everything; the caller's transaction makes it all or nothing."""
    new = [company for company in plan.companies if company.company is None]
    changed = [
        (known, wanted)
        for wanted in plan.companies
        if (known := wanted.company) is not None and (wanted.changes or wanted.assign)
    ]
    disks_new = [disk for disk in plan.disks if disk.disk is None]
    disks_changed = [
        (known_disk, wanted_disk)
        for wanted_disk in plan.disks
        if (known_disk := wanted_disk.disk) is not None
        and (wanted_disk.changes or wanted_disk.new_secrets)
    ]
    result = ImportResult(len(new), len(changed), len(disks_new), len(disks_changed))
    trail = _Trail()
    _create_companies(new, agency_id, trail)
    _change_companies(changed, trail)
    _assign(plan.companies, agency_id)
    _create_disks(disks_new, agency_id, now, trail)
    _change_disks(disks_changed, now, trail)
    audit.record(
        Action.CLIENTS_IMPORTED,
        data={
            "file": file_name,
            **asdict(result),
            "created": [company.company.pk for company in new if company.company is not None],
        },
    )
    trail.record()
    return result


class _Trail:
    """Entries of single companies and disks, kept until the entry of the whole import is in."""

    def __init__(self) -> None:
        self._entries: list[tuple[Action, models.Model, int, dict[str, Any]]] = []

    def add(self, action: Action, obj: models.Model, company_id: int, data: dict[str, Any]) -> None:
        self._entries.append((action, obj, company_id, data))

    def record(self) -> None:
        for action, obj, company_id, data in self._entries:
            audit.record(action, obj, company_id=company_id, data=data)


def _create_companies(plans: list[CompanyPlan], agency_id: int, trail: _Trail) -> None:
    companies = [Company(agency_id=agency_id, tax_id=plan.tax_id, **plan.values) for plan in plans]
    Company.objects.bulk_create(companies, batch_size=CHUNK)
    for plan, company in zip(plans, companies, strict=True):
        plan.company = company
        trail.add(
            Action.COMPANY_CREATED,
            company,
            company.pk,
            {"accountants": [member.name for member in plan.assign]},
        )


def _change_companies(plans: list[tuple[Company, CompanyPlan]], trail: _Trail) -> None:
    by_field: dict[str, list[Company]] = defaultdict(list)
    for company, plan in plans:
        if plan.changes:
            before_and_after = {
                key: [str(getattr(company, key) or ""), str(value)]
                for key, value in plan.changes.items()
            }
            for key, value in plan.changes.items():
                setattr(company, key, value)
                by_field[key].append(company)
            trail.add(Action.COMPANY_CHANGED, company, company.pk, {"changes": before_and_after})
        for member in plan.assign:
            trail.add(Action.COMPANY_ASSIGNED, company, company.pk, {"member": member.name})
    # Field by field: a company's other fields may be changed by somebody else at this moment.
    for name, companies in by_field.items():
        Company.objects.bulk_update(companies, [name], batch_size=CHUNK)


def _assign(plans: Iterable[CompanyPlan], agency_id: int) -> None:
    Assignment.objects.bulk_create(
        [
            Assignment(agency_id=agency_id, company=plan.company, membership=member)
            for plan in plans
            for member in plan.assign
        ],
        batch_size=CHUNK,
        ignore_conflicts=True,
    )


def _create_disks(plans: list[DiskPlan], agency_id: int, now: dt.datetime, trail: _Trail) -> None:
    ids = reserve_ids(TaxDisk, len(plans)) if plans else []
    disks = []
    for pk, plan in zip(ids, plans, strict=True):
        disk = TaxDisk(
            pk=pk,
            agency_id=agency_id,
            company=plan.owner.company,
            device_no=plan.device_no,
            terminal_no=plan.terminal_no or 0,
            kind=plan.kind,
        )
        # One entry for the disk and its passwords: thousands of them are written at once.
        entered = _enter_passwords(disk, plan.new_secrets, now)
        trail.add(Action.DISK_ADDED, disk, disk.company_id, {"kind": str(disk.kind), **entered})
        disks.append(disk)
    TaxDisk.objects.bulk_create(disks, batch_size=CHUNK)


def _change_disks(plans: list[tuple[TaxDisk, DiskPlan]], now: dt.datetime, trail: _Trail) -> None:
    by_field: dict[str, list[TaxDisk]] = defaultdict(list)
    with_passwords = []
    for disk, plan in plans:
        for key, value in plan.changes.items():
            setattr(disk, key, value)
            by_field[key].append(disk)
        if plan.changes:
            trail.add(Action.DISK_CHANGED, disk, disk.company_id, {"fields": sorted(plan.changes)})
        if plan.new_secrets:
            entered = _enter_passwords(disk, plan.new_secrets, now)
            trail.add(Action.DISK_PASSWORD_ENTERED, disk, disk.company_id, entered)
            with_passwords.append(disk)
    for name, disks in by_field.items():
        TaxDisk.objects.bulk_update(disks, [name], batch_size=CHUNK)
    TaxDisk.objects.bulk_update(with_passwords, _PASSWORD_FIELDS, batch_size=CHUNK)


def _enter_passwords(disk: TaxDisk, secrets: dict[str, str], now: dt.datetime) -> dict[str, bool]:
    """As a person would at the disk's page; returns what the trail says of it. The tries left are
    the disk's own to know and stay."""
    for key, secret in secrets.items():
        setattr(disk, key, seal(secret, context=disk.seal_context))
    if "device_password" in secrets:
        disk.pin_generation += 1
        disk.password_state = PasswordState.UNTRIED
    elif secrets and disk.device_password is not None and disk.kind not in ROLLING_KINDS:
        disk.password_state = PasswordState.UNTRIED
    if secrets:
        disk.password_entered_at = now
    return {
        "device": "device_password" in secrets,
        "certificate": "certificate_password" in secrets,
    }
