"""One running stack for a walk: machines of separate agencies, a disk for every scenario.

Owns the agencies, companies, disks and machines that the database needs for it. To be used after
``django.setup()``.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from django.db import transaction

from agency.choices import FilingFrequency
from agency.clock import now
from agency.models import Agency, Bureau, Company
from agency.scope import agency_scope
from agency.services import agency_create
from deploy.demonstration.places import Places
from deploy.faultwalk.paths import Scenario
from deploy.faultwalk.spread import ALONE
from devices.broker import grant_account, prefix_of
from devices.choices import DiskKind
from devices.services import disk_create, machine_create


@transaction.atomic
def furnish(
    places: Places, those: Sequence[Scenario], *, server: str, bureau: str, parallel: int
) -> None:
    """An agency for each machine, with its disks; writes the machines' configurations."""
    by_machine: dict[str, list[Scenario]] = defaultdict(list)
    for each in those:
        by_machine[each.machine].append(each)
    for number, (machine, theirs) in enumerate(sorted(by_machine.items()), 1):
        # An address of its own: what one agency's bureau does says nothing of another's.
        office = Bureau.objects.create(
            code=f"142010{number:05d}",
            name=f"国家税务总局走查{number}税务局(模拟)",
            address=f"{bureau}{number}",
            simulated=True,
        )
        agency = agency_create(name=f"走查代账 {machine}", practice=True)
        with agency_scope(agency.pk):
            _disks(agency, office, theirs)
            at_once = 1 if machine.startswith(ALONE) else parallel
            _machine(agency, machine, places, server, at_once)


def _disks(agency: Agency, office: Bureau, theirs: Iterable[Scenario]) -> None:
    moment: dt.datetime = now()
    for each in theirs:
        client = each.client
        company = Company.objects.create(
            agency=agency,
            short_name=client.short_name,
            name=client.name,
            tax_id=client.tax_id,
            bureau=office,
            filing_frequency=FilingFrequency.MONTHLY,
        )
        disk_create(
            company=company,
            kind=DiskKind(each.path.kind),
            device_no=client.device_no,
            device_password=client.pin,
            certificate_password=client.certificate,
            now=moment,
        )


def _machine(agency: Agency, name: str, places: Places, server: str, parallel: int) -> None:
    made = machine_create(agency=agency, name=name, parallel=parallel, simulated=True)
    places.write_machine_config(
        name,
        server=server,
        token=made.token,
        broker=grant_account(made.machine),
        prefix=prefix_of(made.machine.broker_account),
        parallel=parallel,
    )


def plans(places: Places) -> Path:
    folder = places.root / "plans"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
