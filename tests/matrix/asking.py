"""How each address is asked: the ids it takes in path, query and form, and what is sent along."""

from __future__ import annotations

import functools
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.core.files.uploadedfile import SimpleUploadedFile
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import reverse

from clearing.selectors.confirmation import ActionKind
from tests.clearing.machine import TO_REPORT
from tests.conftest import PASSWORD
from tests.devices.import_sheets import line, sheet
from tests.matrix.rights import Row
from tests.matrix.world import MISSING, House

#: Routes whose answer to a button is a page (a code shown once), not a way on.
SHOWN_AT_ONCE = {
    "audit-export",
    "backup-download",
    "client-links",
    "machine-add",
    "machine-roll",
    "member-invite",
}
PATHS = {
    "company": ("company_id", "company"),
    "disk-password": ("disk_id", "disk"),
    "disk-pin": ("disk_id", "disk_in_doubt"),
    "disk-start": ("disk_id", "waiting_disk"),
    "by-hand": ("disk_period_id", "idle_period"),
    "batch": ("batch_id", "batch"),
    "backup": ("backup_id", "backup"),
    "backup-download": ("backup_id", "backup"),
    "backup-hold": ("company_id", "company"),
    "machine-roll": ("machine_id", "machine"),
    "machine-revoke": ("machine_id", "machine"),
    "machine-lost": ("machine_id", "machine_lost"),
    "machine-labels": ("machine_id", "machine"),
    "unknown-disk-add": ("slot_id", "slot"),
    "import-preview": ("pk", "draft"),
    "member-role": ("member_id", "member"),
    "member-remove": ("member_id", "member"),
    "member-reset": ("member_id", "member"),
    "invitation-revoke": ("invitation_id", "invitation"),
    "cover-end": ("cover_id", "cover"),
    "client-links": ("company_id", "company"),
    "client-link-revoke": ("link_id", "link"),
    "support-end": ("session_id", "support_session"),
    "operator:support-open": ("agency_id", "agency"),
    "operator:agency_company_change": ("object_id", "company"),
    "operator:agency_auditentry_change": ("object_id", "entry"),
    "operator:devices_taxdisk_change": ("object_id", "disk"),
    "operator:devices_machine_change": ("object_id", "machine"),
    "operator:devices_slot_change": ("object_id", "slot"),
    "operator:clearing_diskperiod_change": ("object_id", "period"),
    "operator:clearing_run_change": ("object_id", "run"),
    "operator:clearing_batch_change": ("object_id", "batch"),
}


@dataclass(frozen=True)
class Asker:
    """Who asks: a browser or a machine's token, at home in ``house``; nobody has no house."""

    name: str
    house: House | None
    client: Client
    token: str = ""

    def __str__(self) -> str:
        return f"{self.name} of {self.house.mark}" if self.house else self.name


@dataclass(frozen=True)
class Target:
    """Whose objects are asked for; ``missing`` are those that nobody has."""

    house: House
    missing: bool = False

    def id(self, kind: str) -> int:
        return MISSING if self.missing else self.house.ids[kind]


def ask(
    row: Row, who: Asker, target: Target, instead: Mapping[str, Any] | None = None
) -> HttpResponseBase:
    """Send the request of ``row`` as ``who``, about the objects of ``target``; ``instead`` stands
    in the query, the form or the body in place of what is sent there by itself."""
    instead = instead or {}
    headers = {"Authorization": f"Machine {who.token}"} if who.token else {}
    url = _address(row, who, target)
    send: Any = getattr(who.client, row.method.lower())
    if row.method != "POST":
        query = urlencode({**_query(row.route, target), **instead}, doseq=True)
        answer = send(f"{url}?{query}" if query else url, headers=headers)
    elif row.route.startswith("machine-") and "/machine/v1/" in url:
        body = {**machine_body(row.route, who, target), **instead}
        answer = send(url, body, content_type="application/json", headers=headers)
    else:
        answer = send(url, {**page_form(row.route, who, target), **instead}, headers=headers)
    assert isinstance(answer, HttpResponseBase)
    return answer


def _address(row: Row, who: Asker, target: Target) -> str:
    name = row.route
    if name in PATHS:
        argument, kind = PATHS[name]
        return reverse(name, kwargs={argument: target.id(kind)})
    if name.startswith("machine-") and row.of == "run":
        return reverse(name, kwargs={"run_id": _run(who, target)[0]})
    if name in {"invitation", "client-enter", "password-renew"}:
        return reverse(name, kwargs={"token": target.house.codes[name]})
    return reverse(name)


def _query(route: str, target: Target) -> dict[str, Any]:
    if route == "act-confirm":
        return {"action": "report", "company": target.id("company")}
    if route == "board-rows":
        return {"ids": target.id("company"), "batch": target.id("batch")}
    return {}


@functools.cache
def _sheet() -> bytes:
    return sheet(line())


def page_form(route: str, who: Asker, target: Target) -> dict[str, Any]:
    """What the button sends, every id in it taken from ``target``."""
    if route == "act-start":
        return {
            "action": str(ActionKind.READ),
            "company": target.id("company"),
            "period": "2026-10",
            "key": str(uuid.uuid4()),
        }
    name = f"新{uuid.uuid4().hex[:6]}"
    forms: dict[str, dict[str, Any]] = {
        "disk-password": {"device_password": "87654321"},
        "backups": {"years": "12"},
        "backup-hold": {"reason": "稽查"},
        "by-hand": {"note": "看过", "sure": "on"},
        "machine-add": {"name": name, "parallel": "2"},
        "unknown-disk-add": {
            "company": target.id("company"),
            "kind": "ic_card",
            "terminal_no": "0",
            "device_no": target.house.codes["device_no"],
            "device_password": "12345678",
        },
        "import-upload": {"file": SimpleUploadedFile("客户.xlsx", _sheet())},
        "import-preview": {"action": "confirm"},
        "client-links": {"name": name},
        "member-invite": {"name": name, "role": "front_desk"},
        "member-demand": {"second_factor": "nobody"},
        "member-reset": {"what": "second_factor"},
        "password-renew": {"password1": "another horse 8", "password2": "another horse 8"},
        "member-role": {"role": "supervisor"},
        "operator:support-open": {"reason": "客户来电求助", "minutes": "15"},
        "cover": {
            "absent": target.id("assigned"),
            "substitute": target.id("substitute"),
            "since": "2026-11-09",
            "until": "2026-11-10",
        },
        "invitation": {
            "name": name,
            "username": name,
            "password1": PASSWORD,
            "password2": PASSWORD,
        },
        "account_reauthenticate": {"password": PASSWORD},
        "account_change_password": {
            "oldpassword": PASSWORD,
            "password1": "another horse 8",
            "password2": "another horse 8",
        },
        "account_login": {
            "username": who.house.people[who.name].user.username
            if who.house and who.name in who.house.people
            else target.house.people["owner"].user.username,
            "password": PASSWORD,
        },
        "agency-switch": {"agency": target.id("agency")},
        "set_language": {"language": "en"},
    }
    return forms.get(route, {})


def _run(who: Asker, target: Target) -> tuple[int, str]:
    """The run and attempt that ``who`` names: a revoked machine its own, all others the machine's.

    A foreigner has guessed the attempt's key, too: it must not help."""
    player = target.house.machines["machine"]
    if who.name == "revoked_machine" and who.house is target.house:
        player = target.house.machines["revoked_machine"]
    if target.missing:
        return MISSING, str(uuid.uuid4())
    return player.run_id, player.attempt


def machine_body(route: str, who: Asker, target: Target) -> dict[str, Any]:
    """The body of a call of the machine API."""
    if route == "machine-enrol":
        code = "AAAA-CCCC-DDDD-EEEE" if target.missing else target.house.codes["code"]
        return {"code": code, "name": "主机", "version": "1", "api": 1}
    if route == "machine-presence":
        return {"version": "1", "api": 1, "slots": []}
    content = b"{}"
    more: dict[str, dict[str, Any]] = {
        "machine-claim": {"attempt": str(uuid.uuid4())},
        "machine-intend": {"stage": "report", "unit": "025", "period": "2026-10"},
        "machine-keep": {
            "period": "2026-10",
            "sha256": hashlib.sha256(content).hexdigest(),
            "content": "e30=",
        },
        "machine-settle": {"outcome": {"end": "failed", "code": "bureau_down"}},
    }
    facts = _identity(target) if route == "machine-intend" else []
    return {"attempt": _run(who, target)[1], "facts": facts, **more.get(route, {})}


def _identity(target: Target) -> list[dict[str, Any]]:
    """The facts without which nobody gets a permission."""
    player, disk = target.house.machines["machine"], target.house.disk
    player.number = 0
    return [player.identified(disk), player.read(TO_REPORT)]
