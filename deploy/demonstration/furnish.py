"""Puts the practice agency into the database: its people, bureaus, clients and machines.

All or nothing, and harmless when repeated: what is there stays, addresses and broker accounts are
made new. To be imported after ``django.setup()``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from django.core.management import CommandError, call_command
from django.db import transaction

from agency.choices import Role
from agency.models import Agency, Bureau, Company, Membership
from agency.scope import agency_scope
from agency.services import agency_create, company_assign, member_add
from deploy.demonstration import own_list
from deploy.demonstration.people import AGENCY, CLIENT_SHORT_NAME, PEOPLE, accounts_of
from deploy.demonstration.places import Places
from deploy.demonstration.scenario import DISTRICTS, bureau_code, bureau_name
from devices.broker import grant_account, prefix_of
from devices.models import Machine
from devices.services import machine_create


@transaction.atomic
def furnish(
    places: Places,
    *,
    server: str,
    bureau: str,
    sheet: Path,
    own: bool,
    machines: Sequence[str],
    parallel: int,
) -> None:
    """``server``, ``bureau``: their addresses of this start. ``own``: the sheet is not the sample,
    and the world is made from it. Raises CommandError for a sheet with errors."""
    _bureaus(bureau)
    agency = Agency.objects.filter(name=AGENCY).first()
    if agency is None:
        if not sheet.is_file():  # an own list whose first start was cut off
            raise CommandError("上次没有准备完, 请加 --reset 重新开始 (begin anew with --reset)")
        agency = agency_create(name=AGENCY, practice=True)
        with agency_scope(agency.pk):
            _people(agency, places)
            if own:
                own_list.prepare(agency, sheet, bureau, accounts_of(places).password)
            call_command("import_clients", agency=agency.pk, file=sheet)
            if own:
                own_list.stand_in(agency, sheet, places)
            _show_to_client()
    with agency_scope(agency.pk):
        for name in machines:
            _machine(agency, name, places, server, parallel)


def _bureaus(address: str) -> None:
    for district in DISTRICTS:
        values = {"name": bureau_name(district), "simulated": True}
        Bureau.objects.update_or_create(code=bureau_code(district), defaults=values)
    Bureau.objects.filter(simulated=True).update(address=address)


def _people(agency: Agency, places: Places) -> None:
    password = accounts_of(places).password
    for person in PEOPLE:
        member_add(
            agency=agency,
            username=person.username,
            password=password,
            name=person.name,
            role=Role(person.role),
        )


def _show_to_client() -> None:
    """The client's person sees one company: the sample's own, of another list the first."""
    company = Company.objects.filter(short_name=CLIENT_SHORT_NAME).first()
    company = company or Company.objects.order_by("pk").first()
    if company is not None:
        company_assign(companies=[company], member=Membership.objects.get(role=Role.CLIENT))


def _machine(agency: Agency, name: str, places: Places, server: str, parallel: int) -> None:
    """A reader machine with its configuration. Its token exists only there: the file is written
    before the transaction ends, so that none is ever lost."""
    machine = Machine.objects.filter(name=name).first()
    if machine is None:
        made = machine_create(agency=agency, name=name, parallel=parallel, simulated=True)
        machine, token = made.machine, made.token
    else:
        token = tomllib.loads(places.machine_config(name).read_text(encoding="utf-8"))["token"]
    places.write_machine_config(
        name,
        server=server,
        token=token,
        broker=grant_account(machine),
        prefix=prefix_of(machine.broker_account),
        parallel=parallel,
    )
