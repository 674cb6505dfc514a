"""Two agencies with the same things in them, each thing marked with whose it is."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from typing import Any

from allauth.usersessions.models import UserSession
from django.test import Client

from agency import client_links, people, refusals, support, way_back
from agency.choices import Role
from agency.models import Agency, AuditEntry, Company, SupportSession
from agency.scope import agency_scope
from agency.services import agency_create, company_assign
from clearing.choices import EvidenceKind, PeriodState, Stage
from clearing.models import Batch, DeadlineOverride, DiskPeriod, Evidence, Run, StageResult
from clearing.services import batch_start, hold, release_hold
from clearing.services.retention import backups_hold, backups_release
from clearing.states import RunState
from devices import imports
from devices.choices import DiskKind, PasswordState
from devices.models import EnrolmentCode, SheetMapping, Slot, TaxDisk
from devices.services import (
    SlotReport,
    disk_create,
    enrolment_code_create,
    machine_revoke,
    pin_intent_open,
    presence_note,
)
from tests.clearing import scenes
from tests.clearing.kept import kept as kept_backup
from tests.clearing.machine import PlayedMachine
from tests.conftest import (
    NOW,
    Person,
    add_operator,
    add_person,
    bureau,
    fictional_tax_id,
    signed_in,
)
from tests.devices.import_sheets import line, sheet
from tests.matrix.rights import OPERATORS

#: No row has this id.
MISSING = 999_999_999
ROLES = {
    "owner": Role.OWNER,
    "supervisor": Role.SUPERVISOR,
    "assigned": Role.BOOKKEEPER,
    "covering": Role.BOOKKEEPER,
    "ex_cover": Role.BOOKKEEPER,
    "unassigned": Role.BOOKKEEPER,
    "front_desk": Role.FRONT_DESK,
    "client": Role.CLIENT,
}
#: Those of the bookkeepers and the clients who have the company in their hands today.
HOLDING = ("assigned", "covering", "client")
#: Who covers whom, from and to: how many days from today.
COVERS = {"covering": (-1, 1), "ex_cover": (-9, -1), "unassigned": (1, 2)}


@dataclass
class House:
    """One agency. ``mark`` stands in every text of it; ``theirs`` in those of the company that
    nobody is assigned to; ``secrets`` are its numbers that carry no mark."""

    mark: str
    agency: Agency
    people: dict[str, Person]
    theirs: str = ""
    company: Company = field(init=False)
    other_company: Company = field(init=False)
    disk: TaxDisk = field(init=False)
    machines: dict[str, PlayedMachine] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    clients: dict[str, Client] = field(default_factory=dict)
    operators: dict[str, Client] = field(default_factory=dict)

    def hidden_from(self, name: str) -> list[str]:
        """What stands in the names of the companies that this person must not see."""
        in_hand, nobodys = f"{self.mark}在手", self.theirs
        if ROLES.get(name) not in {Role.BOOKKEEPER, Role.CLIENT}:
            return []
        return [nobodys] if name in HOLDING else [in_hand, nobodys]

    @property
    def reason(self) -> str:
        """What the visiting operator gave as reason."""
        return f"{self.mark}来电求助"

    def marks(self) -> list[str]:
        return [self.mark, *self.secrets]


def build(mark: str, real_now: dt.datetime) -> House:
    """An agency with companies, disks, machines, runs, a batch, a sheet."""
    agency = agency_create(name=f"{mark}代账", practice=True)
    staff = {name: add_person(agency, role, f"{mark}{name}") for name, role in ROLES.items()}
    house = House(mark, agency, staff, theirs=f"{mark}无人")
    house.clients = {name: signed_in(person) for name, person in staff.items()}
    house.machines = {
        name: PlayedMachine.enrol(agency, f"{mark}{name}")
        for name in ("machine", "other_machine", "revoked_machine", "lost_machine")
    }
    house.company = add_company(house, f"{mark}在手")
    house.other_company = add_company(house, house.theirs)
    with agency_scope(agency.pk):
        for name in ("assigned", "client"):
            company_assign(companies=[house.company], member=staff[name].member)
    _furnish(house, real_now)
    _leave_traces(house, real_now)
    _invite(house, real_now)
    _let_in(house, real_now)
    session = UserSession.objects.create(
        user=staff["owner"].user,
        ip="127.0.0.1",
        session_key=house.clients["owner"].session.session_key or "",
    )
    house.ids["session"] = session.pk
    return house


def _let_in(house: House, real_now: dt.datetime) -> None:
    """The agency consents; one operator has a support session in it, one has none."""
    with agency_scope(house.agency.pk):
        support.consent_give(agency=house.agency)
    operators = {name: add_operator() for name in OPERATORS}
    house.operators = {name: signed_in(operator) for name, operator in operators.items()}
    operators["visiting_operator"].visit(
        house.operators["visiting_operator"], house.agency, reason=house.reason
    )
    with agency_scope(house.agency.pk):
        # On a busy machine the questions may take longer than a session lasts.
        later = real_now + dt.timedelta(hours=6)
        SupportSession.objects.update(opened_at=later - dt.timedelta(hours=1), expires_at=later)
        house.ids["support_session"] = SupportSession.objects.get().pk
        house.ids["entry"] = AuditEntry.objects.order_by("sequence")[0].pk


def _invite(house: House, real_now: dt.datetime) -> None:
    """A person who can be changed and removed, an invitation, a link, covers."""
    new = add_person(house.agency, Role.FRONT_DESK, f"{house.mark}新人")
    house.ids["member"] = new.member.pk
    house.codes["password-renew"] = way_back.password_link(
        user=new.user, by=house.mark, now=real_now
    )
    with agency_scope(house.agency.pk):
        made = people.invitation_create(
            agency=house.agency, name="新人", role=Role.FRONT_DESK, by=house.mark, now=real_now
        )
        house.ids["invitation"] = made.row.pk
        house.codes["invitation"] = made.token
        link = client_links.link_create(
            company=house.company, name="钱", by=house.mark, now=real_now
        )
        house.ids["link"] = link.row.pk
        house.codes["client-enter"] = link.token
        for name, (since, until) in COVERS.items():
            house.ids["cover"] = people.cover_create(
                absent=house.people["assigned"].member,
                substitute=house.people[name].member,
                since=NOW.date() + dt.timedelta(days=since),
                until=NOW.date() + dt.timedelta(days=until),
            ).pk


def add_company(house: House, name: str) -> Company:
    with agency_scope(house.agency.pk):
        company = Company.objects.create(
            agency=house.agency,
            short_name=name,
            name=f"武汉{name}有限公司",
            tax_id=fictional_tax_id(),
            bureau=bureau(),
            contact=f"{name}经理",
            phone=f"{name}电话",
            remark=f"{name}备注",
        )
    house.secrets.append(company.tax_id)
    return company


def add_disk(house: House, company: Company, **fields: Any) -> TaxDisk:
    number = f"66{uuid.uuid4().int % 10**14:014d}"
    with agency_scope(house.agency.pk):
        disk = disk_create(
            company=company,
            kind=DiskKind.IC_CARD,
            device_no=number,
            device_password="12345678",
            now=NOW,
        )
        if fields:
            TaxDisk.objects.filter(pk=disk.pk).update(**fields)
    house.secrets.append(number)
    return disk


def _furnish(house: House, real_now: dt.datetime) -> None:
    machine, revoked = house.machines["machine"], house.machines["revoked_machine"]
    lost = house.machines["lost_machine"].machine
    disk = add_disk(house, house.company)
    ended = add_disk(house, house.company)
    waiting = add_disk(house, house.company)
    others = add_disk(house, house.other_company)
    doubted = add_disk(house, house.company, password_state=PasswordState.PIN_UNKNOWN)
    kept = add_disk(house, house.company)
    idle = scenes.period(add_disk(house, house.company), PeriodState.TO_REPORT)
    house.disk = disk
    unknown = f"67{uuid.uuid4().int % 10**14:014d}"
    house.secrets.append(unknown)
    for each in (ended, waiting):
        scenes.period(each, PeriodState.TO_REPORT)
    for player, plugged in ((machine, disk), (revoked, ended)):
        run = _claimed(house, player, plugged)
        house.ids["run" if player is machine else "revoked_run"] = run.pk
    scenes.run(waiting, RunState.WAITING, reason="disk")
    failed = scenes.run(
        others, RunState.FAILED, code="password_wrong", detail=f"{house.theirs}记录"
    )
    disk.company = house.company
    house.ids["backup"] = kept_backup(disk).pk
    with agency_scope(house.agency.pk):
        machine_revoke(machine=revoked.machine, now=real_now)
        presence_note(
            machine=machine.machine,
            slots=[
                SlotReport("A-01", disk.device_no or "", house.company.tax_id),
                SlotReport("A-02", unknown, house.company.tax_id),
            ],
            version=f"{house.mark}版",
            now=real_now,
        )
        assert pin_intent_open(
            disk=kept,
            machine=lost,
            now=real_now - dt.timedelta(hours=1),
            generation=0,
            key=str(uuid.uuid4()),
        )
        code = enrolment_code_create(
            agency=house.agency,
            name=f"{house.mark}新机",
            by=house.mark,
            now=real_now,
            https_only=True,
        )
        EnrolmentCode.objects.filter(pk=code.row.pk).update(
            expires_at=real_now + dt.timedelta(hours=1)
        )
        draft = imports.draft_from_upload(
            agency_id=house.agency.pk,
            user_id=house.people["owner"].user.pk,
            file_name=f"{house.mark}客户.xlsx",
            data=sheet(line(企业名称=f"{house.mark}导入有限公司")),
            now=NOW,
        )
        house.codes["code"] = code.code
        house.codes["batch_key"] = Run.objects.get(pk=house.ids["run"]).batch.key
        house.ids |= {
            "agency": house.agency.pk,
            "company": house.company.pk,
            "other_company": house.other_company.pk,
            "disk": disk.pk,
            "waiting_disk": waiting.pk,
            "other_disk": others.pk,
            "disk_in_doubt": doubted.pk,
            "idle_period": idle.pk,
            "period": DiskPeriod.objects.get(disk=waiting).pk,
            "other_period": DiskPeriod.objects.get(disk=others).pk,
            "batch": Run.objects.get(pk=house.ids["run"]).batch_id,
            "assigned": house.people["assigned"].member.pk,
            "substitute": house.people["unassigned"].member.pk,
            "other_batch": failed.batch_id,
            "machine": machine.machine.pk,
            "machine_lost": lost.pk,
            "slot": Slot.objects.get(device_no=unknown).pk,
            "draft": draft.pk,
        }
    house.codes["device_no"] = unknown


def _leave_traces(house: House, real_now: dt.datetime) -> None:
    """A row of each kind that nothing above needs: over, or of no consequence for anybody."""
    agency, by = house.agency, house.mark
    others = [house.ids["other_disk"]]
    refusals.link_refused(address="203.0.113.7", agency_id=agency.pk)
    with agency_scope(agency.pk):
        hold(disk_ids=others, note=house.theirs, by=by, real_now=real_now)
        release_hold(disk_ids=others, by=by, real_now=real_now)
        backups_hold(company=house.other_company, reason=house.theirs, by=by, now=real_now)
        backups_release(company=house.other_company, reason=house.theirs, by=by, now=real_now)
        SheetMapping.objects.create(agency=agency, heading=f"{house.mark}栏")
        DeadlineOverride.objects.create(agency=agency, month="2020-01", deadline=NOW.date())
        run = Run.objects.select_related("disk_period").get(pk=house.ids["revoked_run"])
        fact: dict[str, Any] = {
            "agency": agency,
            "run": run,
            "attempt": run.attempt,
            "disk_period": run.disk_period,
            "number": 1,
            "at": real_now,
        }
        StageResult.objects.create(**fact, stage=Stage.READ, ok=True)
        Evidence.objects.create(**fact, disk=run.disk, kind=EvidenceKind.CONTROL, counted=False)


def _claimed(house: House, player: PlayedMachine, disk: TaxDisk) -> Run:
    with agency_scope(house.agency.pk):
        started = batch_start(
            disk_ids=[disk.pk],
            intent="report_and_clear",
            key=str(uuid.uuid4()),
            started_by=f"{house.mark}会计",
            now=NOW,
        )
        assert Batch.objects.filter(pk=started.batch.pk).exists()
    disk.company = house.company
    player.present(disk)
    assert player.claim() is not None
    with agency_scope(house.agency.pk):
        return Run.objects.get(pk=player.run_id)
