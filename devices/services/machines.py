"""Reader machines: created, enrolled with a code, given new credentials, revoked.

A token is kept as a hash only, a code too; each is shown once. A machine's old credentials end in
the transaction that says so (the token) and right after its commit (the broker account). New ones
reach the machine as the answer to its code and no other way: no page shows a token.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import secrets
from dataclasses import dataclass, field

import redis
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from agency import audit
from agency.audit import Actor
from agency.choices import Action, ActorKind
from agency.errors import ServiceError
from agency.models import Agency
from devices import broker
from devices.models import EnrolmentCode, Machine, Slot
from devices.services.accounts import retire_account

log = logging.getLogger(__name__)

CODE_LIFE = dt.timedelta(minutes=10)
# Nothing that looks like another (0 O, 1 I L, 2 Z, 5 S, 8 B, U V): a code is read out over the
# telephone. Sixteen of 23 signs are 72 bits.
CODE_ALPHABET = "34679ACDEFGHJKMNPQRTWXY"
_GROUPS, _GROUP = 4, 4
_PARALLEL = range(1, 65)


class EnrolmentRefused(Exception):
    """The code is used up or over; which of the two is nobody's business."""


class NameTaken(Exception):
    """Another machine has taken the name since the code was made; the code stays good."""


@dataclass(frozen=True, slots=True)
class MachineCreated:
    """A new machine and its token, which is shown once and kept only as a hash."""

    machine: Machine
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CodeCreated:
    """An enrolment code, which is shown once and kept only as a hash."""

    row: EnrolmentCode
    code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A machine and the token that its code was exchanged for."""

    machine: Machine
    token: str = field(repr=False)


@transaction.atomic
def machine_create(
    *,
    agency: Agency,
    name: str,
    parallel: int = 8,
    simulated: bool = False,
    https_only: bool = False,
) -> MachineCreated:
    """Register a reader machine. Raises ServiceError for a name that is taken."""
    _check_name(name)
    token, token_hash = _new_token()
    machine = Machine.objects.create(
        agency=agency,
        name=name,
        token_hash=token_hash,
        broker_account="" if https_only else _new_account(agency.pk),
        https_only=https_only,
        parallel=parallel,
        simulated=simulated,
    )
    audit.record(Action.MACHINE_CREATED, machine)
    return MachineCreated(machine, token)


@transaction.atomic
def enrolment_code_create(
    *,
    agency: Agency,
    name: str,
    by: str,
    now: dt.datetime,
    parallel: int = 8,
    https_only: bool = False,
    simulated: bool = False,
) -> CodeCreated:
    """A code for a new machine, good once and for ten minutes. ``now`` is real time.

    Raises ServiceError for a name that is empty or taken."""
    name = name.strip()
    _check_name(name)
    if parallel not in _PARALLEL:
        raise ServiceError(_("同时办理数应在 1 与 64 之间"))
    return _code(
        EnrolmentCode(
            agency=agency,
            name=name,
            parallel=parallel,
            https_only=https_only,
            simulated=simulated,
            created_by=by,
            created_at=now,
        )
    )


@transaction.atomic
def machine_roll(*, machine: Machine, by: str, now: dt.datetime) -> CodeCreated:
    """Give the machine new credentials: the old token ends here, the old broker account right
    after the commit, and the code brings the new ones. ``now`` is real time.

    The machine keeps its row, so that what it still owes (a PIN, facts) is taken afterwards.
    Raises ServiceError for a revoked machine."""
    machine = Machine.objects.select_for_update().get(pk=machine.pk)
    if machine.revoked_at is not None:
        raise ServiceError(_("读盘机已停用，请另行登记"))
    retire_account(machine)
    Machine.objects.filter(pk=machine.pk).update(token_hash=_new_token()[1], broker_account="")
    _void_codes(machine, now)
    audit.record(Action.MACHINE_ROLLED, machine)
    return _code(
        EnrolmentCode(
            agency_id=machine.agency_id,
            name=machine.name,
            parallel=machine.parallel,
            https_only=machine.https_only,
            simulated=machine.simulated,
            machine=machine,
            created_by=by,
            created_at=now,
        )
    )


@transaction.atomic
def machine_enrol(*, code_id: int, host: str, version: str, now: dt.datetime) -> Enrolled:
    """Exchange a code for a token, once: of ten machines that try, one gets it. ``now`` is real.

    ``host`` is what the machine calls itself; the name stays the one its agency chose.
    Raises EnrolmentRefused, NameTaken."""
    live = EnrolmentCode.objects.filter(pk=code_id, used_at__isnull=True, expires_at__gt=now)
    if live.update(used_at=now) != 1:  # used, over, or another machine got there first
        raise EnrolmentRefused
    code = EnrolmentCode.objects.select_related("agency", "machine").get(pk=code_id)
    token, token_hash = _new_token()
    if code.machine is not None:
        machine = Machine.objects.select_for_update().get(pk=code.machine.pk)
        if machine.revoked_at is not None:
            raise EnrolmentRefused
        machine.token_hash, machine.version = token_hash, version[:20]
        machine.broker_account = "" if machine.https_only else _new_account(machine.agency_id)
        machine.save(update_fields=["token_hash", "version", "broker_account"])
    else:
        try:
            machine = machine_create(
                agency=code.agency,
                name=code.name,
                parallel=code.parallel,
                simulated=code.simulated,
                https_only=code.https_only,
            ).machine
        except (ServiceError, IntegrityError):
            raise NameTaken from None
        machine.token_hash, machine.version = token_hash, version[:20]
        machine.save(update_fields=["token_hash", "version"])
    with audit.acting(Actor(ActorKind.MACHINE, machine.name, machine.pk)):
        audit.record(
            Action.MACHINE_ENROLLED,
            machine,
            data={"host": host[:60], "version": version[:20], "code_by": code.created_by},
        )
    return Enrolled(machine, token)


def broker_grant(machine: Machine) -> str:
    """The address of the machine's own broker account, new with each call; "" without a broker.

    To be called after the commit that enrolled it, in a scope of its own. Nothing is granted when
    the credentials have ended since. The row stays locked until the scope ends, so that whoever
    ends them meanwhile removes the account after it was made. With the broker away the machine is
    noted as one without a bell; a roll gives it another chance."""
    row = (
        Machine.objects.select_for_update(no_key=True)
        .filter(pk=machine.pk, broker_account=machine.broker_account, revoked_at__isnull=True)
        .exclude(broker_account="")
        .first()
    )
    if row is None:
        return ""
    try:
        return broker.grant_account(row)
    except redis.RedisError as error:
        log.warning("no broker account for machine %s: %s", row.pk, type(error).__name__)
        retire_account(row)  # the broker may have made it all the same
        Machine.objects.filter(pk=row.pk).update(broker_account="")
        return ""


@transaction.atomic
def machine_revoke(*, machine: Machine, now: dt.datetime) -> None:
    """Take the machine's permissions away; facts it still owes are accepted for 30 days."""
    machine = Machine.objects.select_for_update().get(pk=machine.pk)
    if machine.revoked_at is None:
        Machine.objects.filter(pk=machine.pk).update(revoked_at=now)
        Slot.objects.filter(machine=machine).delete()
        _void_codes(machine, now)
        retire_account(machine)
        audit.record(Action.MACHINE_REVOKED, machine)


def code_hash(code: str) -> bytes:
    """What is stored of a code, however it was typed (spaces, dashes, small letters)."""
    plain = "".join(character for character in code.upper() if character.isalnum())
    return hashlib.sha256(plain.encode()).digest()


def _code(row: EnrolmentCode) -> CodeCreated:
    letters = [secrets.choice(CODE_ALPHABET) for _place in range(_GROUPS * _GROUP)]
    code = "-".join("".join(letters[at : at + _GROUP]) for at in range(0, len(letters), _GROUP))
    row.code_hash = code_hash(code)
    row.expires_at = row.created_at + CODE_LIFE
    row.save(force_insert=True)
    audit.record(Action.MACHINE_CODE_CREATED, row, data={"parallel": row.parallel})
    return CodeCreated(row, code)


def _check_name(name: str) -> None:
    if not name:
        raise ServiceError(_("请填写读盘机的名称"))
    if Machine.objects.filter(name=name, revoked_at__isnull=True).exists():
        raise ServiceError(_("已有名为“%(name)s”的读盘机") % {"name": name})


def _new_token() -> tuple[str, bytes]:
    token = secrets.token_urlsafe(32)
    return token, hashlib.sha256(token.encode()).digest()


def _new_account(agency_id: int) -> str:
    return f"m{agency_id}-{secrets.token_hex(6)}"


def _void_codes(machine: Machine, now: dt.datetime) -> None:
    EnrolmentCode.objects.filter(machine=machine, used_at__isnull=True).update(used_at=now)
