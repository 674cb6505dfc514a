"""The rolling PIN at the server: intents, deliveries, doubt, and a person's way out of it.

**What a generation means.** ``pin_generation`` counts two kinds of news of a disk's PIN: answers of
the card (each roll makes the next one) and decisions of people. It is what an order carries, and
only grows. ``pin_decisions`` says by how much people ran ahead: ``pin_generation - pin_decisions``
is the newest generation that the *card* answered with (the fact), everything above it is a person's
word. A machine that holds an open window of generation *g* takes an order of a newer generation for
a person's decision and may send again; therefore each decision that lets a PIN be sent raises the
generation, and declaring a machine lost, which lets nothing be sent, does not.

**A delivery of generation d** (the card was asked with *d - 1* and answered), whenever it comes:

- ``d <= fact``: told before, or overtaken by a later answer of the card. Nothing happens.
- ``d > pin_generation``: the usual case. It is the PIN, ``good``.
- Between the two, people have decided since. A card that rolled takes the PIN before it no more, so
  a late answer outweighs "try the last PIN" and everything that was refused or is in doubt:

  - the present PIN was entered by a person and the card has not spoken about it (the person may
    know better: a reset at the tax hall), or another machine is using it at this moment: the late
    one is kept beside (``pin_late``) and takes its place when the card refuses the other;
  - the present one was refused or is in doubt: it takes its place, but a person must let it be
    sent;
  - otherwise: it takes its place, ``good``.

Taking a late PIN raises the generation too: whoever still holds an order with the older one is
refused at its intent. So a PIN that a card answered is never lost by a decision, nothing older
replaces anything newer, and no PIN is sent by software after a refusal or a doubt.
"""

from __future__ import annotations

import datetime as dt

from django.db import transaction
from django.utils.translation import gettext as _

from agency import audit
from agency.choices import Action
from agency.errors import ServiceError
from agency.sealing import seal
from devices.choices import PasswordState
from devices.models import Machine, TaxDisk
from devices.selectors import PRESENCE_AGE

# A permission to roll, and the command it permits, are over by then.
INTENT_LIFE = dt.timedelta(minutes=4)
# A person may spend a try only while more than so many are left.
TRIES_KEPT = 2
_REFUTED = frozenset({PasswordState.WRONG, PasswordState.LOCKED, PasswordState.PIN_UNKNOWN})


@transaction.atomic
def pin_intent_open(
    *,
    disk: TaxDisk,
    machine: Machine,
    now: dt.datetime,
    generation: int | None = None,
    key: str = "",
) -> bool:
    """Note that ``machine`` is about to roll the PIN of ``generation`` (None: the present one).

    False when another machine has an open intent, when the order's PIN is no longer the present
    one, or when the one try that a person allowed has gone to another claim than ``key``.
    ``disk`` must be locked by the caller (lock order disk → run)."""
    if disk.pin_intent_machine_id not in {None, machine.pk}:
        return False
    if generation is not None and generation != disk.pin_generation:
        return False
    if disk.pin_try_key is not None:
        if disk.pin_try_key not in {"", key}:
            return False
        disk.pin_try_key = key
    disk.pin_intent_machine, disk.pin_intent_at = machine, now
    disk.save(update_fields=["pin_intent_machine", "pin_intent_at", "pin_try_key"])
    audit.record(Action.DISK_PIN_INTENT, disk, company_id=disk.company_id)
    return True


@transaction.atomic
def pin_delivered(*, disk: TaxDisk, machine: Machine, generation: int, pin: bytes) -> bool:
    """Take a new PIN, whenever it arrives, as the table above says; closes the machine's intent.

    Returns whether it became the disk's PIN."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    if generation <= disk.pin_generation - disk.pin_decisions:
        return False
    sealed = seal(_pin_text(pin), context=disk.seal_context)
    said: dict[str, object] = {"generation": generation}
    taken = True
    if generation > disk.pin_generation:
        _replace(disk, sealed, number=generation, fact=generation)
        disk.password_state = PasswordState.GOOD
        disk.tries_left = None
        disk.pin_late, disk.pin_late_generation = None, 0
        _close_intent(disk, machine)
    elif _in_use(disk, machine) or _entered(disk):
        taken = False
        if generation > disk.pin_late_generation:
            disk.pin_late, disk.pin_late_generation = sealed, generation
        said |= {"late": True, "kept_beside": True}
    else:
        _replace(disk, sealed, number=disk.pin_generation + 1, fact=generation)
        if disk.password_state not in _REFUTED:
            disk.password_state = PasswordState.GOOD
        elif disk.password_state == PasswordState.WRONG:
            disk.password_state = PasswordState.PIN_UNKNOWN
        said["late"] = True
    disk.save()
    audit.record(Action.DISK_PIN_ROLLED, disk, company_id=disk.company_id, data=said)
    return taken


@transaction.atomic
def pin_not_taken(*, disk: TaxDisk, machine: Machine, generation: int) -> None:
    """The card refused the PIN of that generation: nothing rolled, and it is not sent again."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    if generation != disk.pin_generation:
        return  # a newer PIN has been delivered or entered meanwhile
    if disk.password_state != PasswordState.LOCKED:
        disk.password_state = PasswordState.WRONG
    disk.pin_try_key = None
    _close_intent(disk, machine)
    bring_late(disk)
    disk.save()


@transaction.atomic
def pin_not_sent(*, disk: TaxDisk, machine: Machine, generation: int) -> None:
    """A permitted roll was never begun (the machine died before): the PIN is as good as it was."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    if generation != disk.pin_generation:
        return
    if disk.pin_try_key is not None:
        disk.pin_try_key = ""  # the one try that a person allowed is still to be had
    _close_intent(disk, machine)
    if not _entered(disk):
        bring_late(disk)  # what arrived meanwhile outweighs a try that nobody has made
    disk.save()


@transaction.atomic
def pin_in_doubt(*, disk: TaxDisk, machine: Machine, generation: int) -> None:
    """A window was found open: the last PIN is kept, and only a person may try it."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    if generation < disk.pin_generation:
        return  # a newer PIN has been delivered or entered meanwhile
    if disk.password_state != PasswordState.LOCKED:
        disk.password_state = PasswordState.PIN_UNKNOWN
    disk.pin_try_key = None
    _close_intent(disk, machine)
    bring_late(disk)
    disk.save()
    audit.record(
        Action.DISK_PIN_UNKNOWN, disk, company_id=disk.company_id, data={"machine": machine.name}
    )


# -- a person's decisions ---------------------------------------------------------------------


@transaction.atomic
def pin_try_last(*, disk: TaxDisk) -> None:
    """Let the last known PIN be sent once more, by the next claim and by no second one.

    Raises ServiceError where the PIN is not in doubt, where a machine still holds it, where none is
    known, or where the card has too few tries left."""
    disk = TaxDisk.objects.select_for_update().get(pk=disk.pk)
    if disk.pin_intent_machine_id is not None or disk.password_state != PasswordState.PIN_UNKNOWN:
        raise ServiceError(_("此盘的 PIN 现在不是“待确认”，不需要试"))
    if disk.device_password is None:
        raise ServiceError(_("没有保留的 PIN 可试，请录入卡上现在的 PIN"))
    if disk.tries_left is not None and disk.tries_left <= TRIES_KEPT:
        raise ServiceError(
            _("卡上只剩 %(n)s 次，不能再试原 PIN；请核实后录入，或到办税服务厅重置")
            % {"n": disk.tries_left}
        )
    disk.password_state = PasswordState.UNTRIED
    decided(disk)
    disk.pin_try_key = ""
    disk.save()
    audit.record(
        Action.DISK_PIN_TRY_ALLOWED,
        disk,
        company_id=disk.company_id,
        data={"tries_left": disk.tries_left, "generation": disk.pin_generation},
    )


@transaction.atomic
def machine_declare_lost(*, machine: Machine, now: dt.datetime) -> list[TaxDisk]:
    """Stop waiting for the PINs that this machine holds; returns their disks, now ``pin_unknown``
    with the last known PIN kept. What the machine still delivers is taken. ``now`` is real time.

    Raises ServiceError while the machine is online or a permission of its may still be in use."""
    online = machine.seen_at is not None and machine.seen_at > now - PRESENCE_AGE
    if online and machine.revoked_at is None:
        raise ServiceError(_("读盘机在线：请把税盘插回这台读盘机，它会自己交回 PIN"))
    disks = list(
        TaxDisk.objects.select_for_update(of=("self",))
        .filter(pin_intent_machine=machine)
        .order_by("pk")
    )
    if not disks:
        raise ServiceError(_("这台读盘机没有未交回的 PIN"))
    if any(disk.pin_intent_at and disk.pin_intent_at > now - INTENT_LIFE for disk in disks):
        raise ServiceError(_("它刚刚获准更换 PIN，可能还在写卡；请过几分钟再申明"))
    for disk in disks:
        if disk.password_state != PasswordState.LOCKED:
            disk.password_state = PasswordState.PIN_UNKNOWN
        disk.pin_try_key = None
        _close_intent(disk, machine)
        bring_late(disk)
        disk.save()
        audit.record(
            Action.DISK_PIN_UNKNOWN,
            disk,
            company_id=disk.company_id,
            data={"machine": machine.name, "declared_lost": True},
        )
    audit.record(Action.MACHINE_DECLARED_LOST, machine, data={"disks": len(disks)})
    return disks


# -- on a locked row, unsaved -------------------------------------------------------------------


def decided(disk: TaxDisk) -> None:
    """A person has said which PIN is to be sent: the generation grows, the fact stays."""
    disk.pin_generation += 1
    disk.pin_decisions += 1
    disk.pin_try_key = None


def bring_late(disk: TaxDisk) -> None:
    """Once the present PIN is refused or in doubt, the one kept beside it takes its place; a person
    must let it be sent."""
    if disk.pin_late is None:
        return
    number, fact = disk.pin_generation + 1, disk.pin_late_generation
    _replace(disk, bytes(disk.pin_late), number=number, fact=fact)
    disk.pin_late, disk.pin_late_generation = None, 0
    if disk.password_state != PasswordState.LOCKED:
        disk.password_state = PasswordState.PIN_UNKNOWN
    audit.record(
        Action.DISK_PIN_UNKNOWN,
        disk,
        company_id=disk.company_id,
        data={"late_generation": fact, "generation": number},
    )


def _replace(disk: TaxDisk, sealed: bytes, *, number: int, fact: int) -> None:
    disk.device_password = sealed
    disk.pin_generation, disk.pin_decisions = number, number - fact
    disk.pin_try_key = None


def _entered(disk: TaxDisk) -> bool:
    """The present PIN is a person's, and the card has not spoken about it yet."""
    return disk.password_state == PasswordState.UNTRIED and disk.pin_try_key is None


def _in_use(disk: TaxDisk, machine: Machine) -> bool:
    return disk.pin_intent_machine_id not in {None, machine.pk}


def _close_intent(disk: TaxDisk, machine: Machine) -> None:
    if disk.pin_intent_machine_id == machine.pk:
        disk.pin_intent_machine = None
        disk.pin_intent_at = None


def _pin_text(pin: bytes) -> str:
    """A PIN as an order carries it: its characters, or hexadecimal where it has others."""
    text = pin.decode("latin-1")
    return text if text.isascii() and text.isprintable() else pin.hex().upper()
