"""``--clients``: an agency tries its own list. Every client gets a simulated disk in good order.

The list goes through the same import as anybody's. Before it, the bureaus and bookkeepers it names
are made up; after it, simulated IC cards stand in for the disks, whatever kind they are: the list
need not say which invoice types a disk has. Nothing of it leaves the run folder. To be imported
after ``django.setup()``.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from agency import audit, clock
from agency.choices import Action, FilingFrequency, Role
from agency.models import Agency, Bureau, Company, Membership
from agency.services import member_add
from clearing.periods import current_period
from deploy.demonstration.kinds import fictional_device_no
from deploy.demonstration.places import Places
from deploy.demonstration.scenario import Case, Client, build, fictional_pin
from devices.choices import DiskKind
from devices.models import TaxDisk
from devices.services import disk_create, disk_password_enter, disk_passwords
from devices.sheet_columns import NO_DISK, CellError, parse_cell, recognise
from devices.sheets import Sheet, SheetError, read_sheet

_MOST_PEOPLE = 50


def prepare(agency: Agency, path: Path, bureau: str, password: str) -> None:
    """Make the bureaus and bookkeepers that the list names. What is wrong with the list is the
    import's to say, so a list that cannot be read is passed over here."""
    sheet = _sheet(path)
    if sheet is None:
        return
    known = set(Bureau.objects.values_list("name", flat=True))
    for number, name in enumerate(_texts(sheet, "bureau"), 1):
        if name not in known and len(name) <= 80:
            code = name if re.fullmatch(r"\d{11}", name) else f"19990{number:06d}"
            values = {"name": name, "address": bureau, "simulated": True}
            Bureau.objects.get_or_create(code=code, defaults=values)
    there = set(Membership.objects.values_list("name", flat=True))
    people = [
        part.strip()
        for text in _texts(sheet, "accountant")
        for part in re.split(r"[、，,;；/]\s*|\s{2,}", text)
    ]
    for number, name in enumerate(dict.fromkeys(filter(None, people)), 1):
        if name not in there and len(name) <= 50 and number <= _MOST_PEOPLE:
            username = f"kuaiji{number}"
            member_add(
                agency=agency,
                username=username,
                password=password,
                name=name,
                role=Role.BOOKKEEPER,
            )


def stand_in(agency: Agency, path: Path, places: Places) -> None:
    """Turn the imported disks into simulated ones, and write the world of them."""
    without = _without_disk(path)
    clients: list[Client] = []
    stood_in: Counter[str] = Counter()
    for company in Company.objects.select_related("bureau").order_by("pk"):
        disks = list(TaxDisk.objects.filter(company=company).order_by("pk"))
        if not disks and company.tax_id not in without:
            disks = [disk_create(company=company, kind=DiskKind.IC_CARD, now=clock.now())]
        for disk in disks:
            stood_in[disk.get_kind_display()] += 1
            clients.append(_simulated(company, disk, len(clients) + 1))
        if not disks:
            clients.append(_client(company, None, len(clients) + 1, ""))
    world, expected = build(current_period(clock.now()).window, clients)
    expected.save(places.expected)
    world.save(places.world)
    for kind, count in stood_in.items():
        print(f"{kind} {count} 个: 以模拟税控 IC 卡代替", flush=True)


def _simulated(company: Company, disk: TaxDisk, number: int) -> Client:
    """One disk as a simulated card: number and PIN are made up where the list has none."""
    if disk.kind != DiskKind.IC_CARD or not disk.device_no:
        disk.kind, disk.device_no = DiskKind.IC_CARD, fictional_device_no(number)
        disk.save(update_fields=["kind", "device_no"])
        audit.record(
            Action.DISK_CHANGED,
            disk,
            company_id=company.pk,
            data={"fields": ["device_no", "kind"], "simulated": True},
        )
    pin = disk_passwords(disk)[0]
    if not pin:
        pin = fictional_pin(number)
        disk_password_enter(disk=disk, device_password=pin, now=clock.now())
    return _client(company, disk, number, pin)


def _client(company: Company, disk: TaxDisk | None, number: int, pin: str) -> Client:
    monthly = company.filing_frequency == FilingFrequency.MONTHLY
    return Client(
        number=number,
        short_name=company.short_name,
        name=company.name,
        tax_id=company.tax_id,
        taxpayer_kind=company.get_taxpayer_kind_display(),
        frequency="按月" if monthly else "按季",
        bureau_code=company.bureau.code if company.bureau else "",
        bureau_name=company.bureau.name if company.bureau else "",
        policy=company.get_clear_policy_display(),
        accountant="",
        contact=company.contact,
        phone=company.phone,
        terminal_no=disk.terminal_no if disk else 0,
        device_no=(disk.device_no or "") if disk else "",
        pin=pin,
        sheet_pin=pin,
        case=Case.NORMAL if disk else Case.NO_DISK,
    )


def _without_disk(path: Path) -> set[str]:
    """Tax ids of which the list says that there is no disk (数电)."""
    sheet = _sheet(path)
    if sheet is None:
        return set()
    columns = {key: index for index, key in recognise(sheet.headings, {}).items() if key}
    if "kind" not in columns or "tax_id" not in columns:
        return set()
    found = set()
    for row in sheet.rows:
        try:
            if parse_cell("kind", row.text(columns["kind"])) == NO_DISK:
                found.add(parse_cell("tax_id", row.text(columns["tax_id"])))
        except CellError:
            continue  # an empty cell; wrong ones the import has refused
    return found


def _texts(sheet: Sheet, wanted: str) -> list[str]:
    """The different texts of a column, in their order; none when the list has no such column."""
    for index, key in recognise(sheet.headings, {}).items():
        if key == wanted:
            return [text for text in dict.fromkeys(row.text(index) for row in sheet.rows) if text]
    return []


def _sheet(path: Path) -> Sheet | None:
    try:
        return read_sheet(path.read_bytes(), path.name)
    except (OSError, SheetError):
        return None
