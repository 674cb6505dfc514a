"""Every field of a form, of a machine call's body and of an address: what it names, by hand.

``–`` names nothing of an agency (a date, a choice, a password). Everything else is a kind of thing
that some agency has; :func:`values` says what is put there.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

from tests.clearing.machine import PERIOD, TO_REPORT
from tests.conftest import fictional_tax_id
from tests.matrix.world import MISSING, House

# form, serializer or module of pages; field; what it names
FIELDS = """
AuditForm               company=words person=words action=– since=– until=–
ExportForm              company=company
ClaimSerializer         attempt=attempt
EnrolSerializer         code=– name=machine_name version=– api=–
FactSerializer          number=– kind=– data=identity
IntendSerializer        attempt=attempt facts=identity stage=– unit=– period=– rolls_pin=–
KeepSerializer          attempt=attempt facts=identity period=– sha256=– content=–
PresenceSerializer      version=– api=– slots=slots
ReleaseSerializer       attempt=attempt facts=identity detail=–
SettleSerializer        attempt=attempt facts=identity outcome=–
SlotSerializer          name=– device_no=slots tax_id=slots kind=– terminal_no=– problem=–
WithFacts               attempt=attempt facts=identity
ByHandForm              note=– sure=–
CodeForm                code=–
CodeAgainForm           code=–
ActivateForm            code=–
MachineCodeForm         name=machine_name parallel=– https_only=– simulated=–
CoverForm               absent=member substitute=member since=– until=–
DemandForm              second_factor=–
DiskSecretsForm         device_password=– certificate_password=–
PasswordForm            device_password=– certificate_password=–
AddForm                 device_password=– certificate_password=– company=company kind=–
                        terminal_no=– device_no=device_no
InviteForm              name=– role=–
JoinForm                name=– username=– password1=– password2=–
LinkForm                name=–
HelpForm                what=–
NewPasswordForm         password1=– password2=–
LoginForm               password=– remember=–
OwnPasswordAgainForm    password=–
PasswordChangeForm      oldpassword=– password1=– password2=–
ReasonForm              reason=–
RoleForm                role=–
UploadForm              file=sheet
YearsForm               years=–
OpenForm                reason=– minutes=–
agency.operator.site    q=– page=–
agency.pages.audit      page=–
agency.pages.invitation sign_in=–
agency.pages.session    agency=agency
agency.pages.sessions   session=session
agency.pages.support    page=–
clearing.pages.actions  action=– code=– key=batch_key next=– note=– period=–
clearing.pages.backups  lift=–
clearing.pages.batch    page=–
clearing.pages.board    page=– ids=company batch=batch
clearing.pages.bureaus  address=– note=– action=–
clearing.pages.chosen   all=– code=– company=company
clearing.pages.company  period=–
clearing.pages.desk     page=–
clearing.selectors.board q=words state=– flag=– sort=–
devices.pages.imports   action=– page=– c…=–
"""

#: Where a field that names something is sent: method and name of the address.
SENT = {
    "AddForm": ["POST unknown-disk-add"],
    "AuditForm": ["GET audit"],
    "ClaimSerializer": ["POST machine-claim"],
    "CoverForm": ["POST cover"],
    "EnrolSerializer": ["POST machine-enrol"],
    "ExportForm": ["POST audit-export"],
    "IntendSerializer": ["POST machine-intend"],
    "KeepSerializer": ["POST machine-keep"],
    "MachineCodeForm": ["POST machine-add"],
    "PresenceSerializer": ["POST machine-presence"],
    "ReleaseSerializer": ["POST machine-release"],
    "SettleSerializer": ["POST machine-settle"],
    "WithFacts": ["POST machine-record", "POST machine-renew"],
    "agency.pages.session": ["POST agency-switch"],
    "agency.pages.sessions": ["POST sessions-end"],
    "clearing.pages.actions": ["POST act-start"],
    "clearing.pages.board": ["GET home", "GET board-rows"],
    "clearing.pages.chosen": ["GET act-confirm", "POST act-start"],
    "clearing.selectors.board": ["GET home", "GET board-rows", "GET board-counters"],
}
#: Parts of another one's field, and what ``test_foreign_values.py`` asks in a test of its own.
ELSEWHERE = {"FactSerializer", "SlotSerializer", "UploadForm"}


def fields() -> dict[str, dict[str, str]]:
    """The table: source → field → kind."""
    found: dict[str, dict[str, str]] = {}
    source = ""
    for text in FIELDS.strip().splitlines():
        words = text.split()
        if not text.startswith(" "):
            source, words = words[0], words[1:]
        found.setdefault(source, {}).update({w.split("=")[0]: w.split("=")[1] for w in words})
    return found


@dataclass(frozen=True)
class Values:
    """What is put into a field: what the other agency has, what this one has but not in these
    hands, what nobody has. Each entry of ``foreign`` is held against ``nobodys``."""

    foreign: list[Any]
    not_own: list[Any]
    nobodys: Any


def values(kind: str, away: House, home: House) -> Values:
    """What is put into a field of that kind, asked by somebody at home in ``home``."""
    ids = {
        "company": ("company", "other_company"),
        "batch": ("batch", "other_batch"),
        "member": ("assigned", ""),
        "agency": ("agency", ""),
        "session": ("session", ""),
    }
    if kind in ids:
        theirs, other = ids[kind]
        return Values([away.ids[theirs]], [home.ids[other]] if other else [], MISSING)
    player, disk, nobody = (
        away.machines["machine"],
        away.disk,
        f"68{uuid.uuid4().int % 10**14:014d}",
    )
    tax_id, nobodys_tax_id = away.company.tax_id, fictional_tax_id()
    if kind == "words":
        words = [away.company.short_name, tax_id, str(disk.device_no), f"{away.mark}owner"]
        return Values(words, [home.theirs, home.other_company.tax_id], f"无此{uuid.uuid4().hex}")
    if kind == "attempt":
        return Values([player.attempt], [], str(uuid.uuid4()))
    if kind == "batch_key":
        return Values([away.codes["batch_key"]], [], str(uuid.uuid4()))
    if kind == "device_no":
        return Values([disk.device_no], [], nobody)
    if kind == "machine_name":
        return Values([f"{away.mark}machine"], [], f"无此{uuid.uuid4().hex[:6]}")
    if kind == "identity":
        return Values([_facts(str(disk.device_no), tax_id)], [], _facts(nobody, nobodys_tax_id))
    assert kind == "slots", kind
    return Values(
        [_slot(str(disk.device_no), tax_id), _slot(nobody, tax_id)],
        [],
        _slot(nobody, nobodys_tax_id),
    )


def _facts(device_no: str, tax_id: str) -> list[dict[str, Any]]:
    data = {"device_no": device_no, "tax_id": tax_id, "training": False}
    read = {"types": TO_REPORT, "read_at": f"{PERIOD.plus(1)}-09T10:15:00+08:00"}
    return [
        {"number": 1, "kind": "identity", "data": data},
        {"number": 2, "kind": "control", "data": read},
    ]


def _slot(device_no: str, tax_id: str) -> list[dict[str, Any]]:
    return [{"name": "B-09", "device_no": device_no, "tax_id": tax_id, "kind": "ic_card"}]
