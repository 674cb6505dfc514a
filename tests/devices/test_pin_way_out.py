"""A person's way out of a PIN in doubt, and what happens to a PIN that arrives after the decision.

Machine H rolled the PIN of generation *g* and vanished before it could deliver.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from agency.choices import Action
from agency.errors import ServiceError
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from devices.choices import PasswordState
from devices.models import Machine, TaxDisk
from devices.services import (
    disk_password_enter,
    disk_passwords,
    machine_create,
    machine_declare_lost,
    machine_revoke,
    password_refused,
    pin_delivered,
    pin_in_doubt,
    pin_intent_open,
    pin_not_sent,
    pin_not_taken,
    pin_try_last,
    tries_noted,
)
from devices.services.pins import INTENT_LIFE
from tests.conftest import NOW, MakeCompany, MakeDisk

LATER = NOW + INTENT_LIFE
OLD, ROLLED, ENTERED = "MARK0001", b"ROLLED02", "ENTERED2"


@pytest.fixture(autouse=True)
def _scope(agency: Agency) -> Iterator[None]:
    with agency_scope(agency.pk):
        yield


@pytest.fixture
def lost(agency: Agency) -> Machine:
    return machine_create(agency=agency, name="H").machine


@pytest.fixture
def second(agency: Agency) -> Machine:
    return machine_create(agency=agency, name="M2").machine


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk, lost: Machine) -> TaxDisk:
    """A card with an open window on machine H."""
    disk = make_disk(make_company(), device_password=OLD)
    assert pin_intent_open(disk=fresh(disk), machine=lost, now=NOW)
    return fresh(disk)


def fresh(disk: TaxDisk) -> TaxDisk:
    return TaxDisk.objects.get(pk=disk.pk)


def pin(disk: TaxDisk) -> str:
    return disk_passwords(fresh(disk))[0]


def state(disk: TaxDisk) -> str:
    return fresh(disk).password_state


def declare(machine: Machine) -> None:
    assert machine_declare_lost(machine=machine, now=LATER)


def deliver_late(disk: TaxDisk, machine: Machine) -> bool:
    """What H brings when it comes back: the answer to the PIN of the first generation."""
    return pin_delivered(disk=disk, machine=machine, generation=2, pin=ROLLED)


def test_declaring_a_machine_lost_keeps_the_pin_and_lets_nothing_be_sent(
    disk: TaxDisk, lost: Machine
) -> None:
    before = disk.pin_generation

    declare(lost)

    after = fresh(disk)
    assert (after.password_state, pin(disk)) == (PasswordState.PIN_UNKNOWN, OLD)
    assert (after.pin_intent_machine_id, after.pin_generation) == (None, before)


def test_what_a_lost_machine_delivers_is_taken_as_if_nothing_had_been_said(
    disk: TaxDisk, lost: Machine
) -> None:
    declare(lost)

    assert deliver_late(disk, lost)
    assert (state(disk), pin(disk)) == (PasswordState.GOOD, ROLLED.decode())
    assert not deliver_late(disk, lost)  # told again: no news


def test_a_machine_that_is_online_or_just_permitted_is_not_lost(
    agency: Agency, disk: TaxDisk, lost: Machine, second: Machine
) -> None:
    lost.seen_at = LATER
    with pytest.raises(ServiceError, match="读盘机在线"):
        machine_declare_lost(machine=lost, now=LATER)
    lost.seen_at = None
    with pytest.raises(ServiceError, match="刚刚获准"):
        machine_declare_lost(machine=lost, now=LATER - dt.timedelta(seconds=1))
    with pytest.raises(ServiceError, match="没有未交回的 PIN"):
        machine_declare_lost(machine=second, now=LATER)
    assert state(disk) == PasswordState.UNTRIED


def test_a_revoked_machine_can_be_declared_lost_though_it_still_speaks(
    disk: TaxDisk, lost: Machine
) -> None:
    machine_revoke(machine=lost, now=NOW)
    lost.refresh_from_db()
    lost.seen_at = LATER
    declare(lost)
    assert state(disk) == PasswordState.PIN_UNKNOWN


def test_the_last_pin_may_be_tried_by_one_claim_and_by_no_second(
    disk: TaxDisk, lost: Machine, second: Machine
) -> None:
    declare(lost)
    before = fresh(disk).pin_generation

    pin_try_last(disk=disk)

    assert fresh(disk).pin_generation == before + 1  # a worker's open window is closed by this
    assert (state(disk), pin(disk)) == (PasswordState.UNTRIED, OLD)
    assert pin_intent_open(disk=fresh(disk), machine=second, now=LATER, key="claim 1")
    assert pin_intent_open(
        disk=fresh(disk), machine=second, now=LATER, key="claim 1"
    )  # asked again
    assert not pin_intent_open(disk=fresh(disk), machine=second, now=LATER, key="claim 2")


@pytest.mark.parametrize(("tries", "allowed"), [(None, True), (3, True), (2, False), (1, False)])
def test_the_last_pin_is_tried_only_while_more_than_two_tries_are_left(
    disk: TaxDisk, lost: Machine, tries: int | None, allowed: bool
) -> None:
    declare(lost)
    TaxDisk.objects.filter(pk=disk.pk).update(tries_left=tries)
    if allowed:
        pin_try_last(disk=disk)
    else:
        with pytest.raises(ServiceError, match="不能再试"):
            pin_try_last(disk=disk)
    assert (state(disk) == PasswordState.UNTRIED) == allowed


def test_only_a_pin_in_doubt_that_nobody_holds_and_that_is_known_can_be_tried(
    disk: TaxDisk, lost: Machine
) -> None:
    with pytest.raises(ServiceError, match="不需要试"):
        pin_try_last(disk=disk)
    declare(lost)
    TaxDisk.objects.filter(pk=disk.pk).update(device_password=None)
    with pytest.raises(ServiceError, match="没有保留的 PIN"):
        pin_try_last(disk=disk)


def test_a_refused_try_is_wrong_as_usual_and_a_second_doubt_is_a_doubt(
    disk: TaxDisk, lost: Machine, second: Machine
) -> None:
    declare(lost)
    pin_try_last(disk=disk)
    pin_intent_open(disk=fresh(disk), machine=second, now=LATER, key="1")
    pin_in_doubt(disk=disk, machine=second, generation=fresh(disk).pin_generation)
    assert state(disk) == PasswordState.PIN_UNKNOWN

    pin_try_last(disk=disk)
    pin_intent_open(disk=fresh(disk), machine=second, now=LATER, key="2")
    pin_not_taken(disk=disk, machine=second, generation=fresh(disk).pin_generation)
    password_refused(disk=disk, locked=False, tries_left=4)
    after = fresh(disk)
    assert (after.password_state, after.tries_left) == (PasswordState.WRONG, 4)
    assert (after.pin_try_key, after.pin_intent_machine_id) == (None, None)


def test_a_roll_that_was_permitted_and_never_begun_changes_nothing(
    disk: TaxDisk, lost: Machine, second: Machine
) -> None:
    number = disk.pin_generation
    pin_not_sent(disk=disk, machine=lost, generation=number)
    after = fresh(disk)
    assert (after.password_state, after.pin_intent_machine) == (PasswordState.UNTRIED, None)
    assert after.pin_generation == number

    pin_intent_open(disk=fresh(disk), machine=lost, now=NOW)
    declare(lost)
    pin_try_last(disk=disk)
    number = fresh(disk).pin_generation
    pin_intent_open(disk=fresh(disk), machine=second, now=NOW, key="1", generation=number)
    pin_not_sent(disk=disk, machine=second, generation=number)
    # The try that a person allowed has not been made: the next claim may.
    assert pin_intent_open(disk=fresh(disk), machine=second, now=LATER, key="2", generation=number)
    deliver_late(disk, lost)
    pin_not_sent(disk=disk, machine=second, generation=number)
    assert (state(disk), pin(disk)) == (PasswordState.PIN_UNKNOWN, ROLLED.decode())


def test_a_late_pin_replaces_a_try_that_nobody_has_used(disk: TaxDisk, lost: Machine) -> None:
    declare(lost)
    pin_try_last(disk=disk)
    allowed = fresh(disk).pin_generation

    assert deliver_late(disk, lost)

    after = fresh(disk)
    assert (after.password_state, pin(disk)) == (PasswordState.GOOD, ROLLED.decode())
    assert after.pin_generation > allowed  # an order with the old one is refused at its intent
    assert not pin_intent_open(
        disk=after, machine=lost, now=LATER, generation=allowed, key="old order"
    )
    assert not deliver_late(disk, lost)


def test_a_late_pin_does_not_disturb_a_try_in_flight_and_outlives_its_refusal(
    disk: TaxDisk, lost: Machine, second: Machine
) -> None:
    declare(lost)
    pin_try_last(disk=disk)
    number = fresh(disk).pin_generation
    pin_intent_open(disk=fresh(disk), machine=second, now=LATER, key="1", generation=number)

    assert not deliver_late(disk, lost)
    assert pin(disk) == OLD
    pin_not_taken(disk=disk, machine=second, generation=number)
    tries_noted(disk=disk, tries_left=5)

    after = fresh(disk)
    assert (after.password_state, pin(disk)) == (PasswordState.PIN_UNKNOWN, ROLLED.decode())
    assert after.tries_left == 5
    pin_try_last(disk=disk)  # a person, not the software
    assert state(disk) == PasswordState.UNTRIED


def test_a_try_that_the_card_took_makes_the_late_one_old_news(
    disk: TaxDisk, lost: Machine, second: Machine
) -> None:
    declare(lost)
    pin_try_last(disk=disk)
    number = fresh(disk).pin_generation
    pin_intent_open(disk=fresh(disk), machine=second, now=LATER, key="1", generation=number)
    pin_delivered(disk=disk, machine=second, generation=number + 1, pin=b"NEWEST03")

    assert not deliver_late(disk, lost)
    assert (state(disk), pin(disk)) == (PasswordState.GOOD, "NEWEST03")
    assert fresh(disk).pin_late is None


def test_another_pin_is_entered_only_after_the_machine_was_declared_lost(
    disk: TaxDisk, lost: Machine
) -> None:
    with pytest.raises(ServiceError, match=r"“H”正在更换.*申明它已丢失"):
        disk_password_enter(disk=disk, device_password=ENTERED, now=NOW)
    declare(lost)
    disk_password_enter(disk=disk, device_password=ENTERED, now=NOW)
    assert (state(disk), pin(disk)) == (PasswordState.UNTRIED, ENTERED)


def test_a_late_pin_is_kept_beside_an_entered_one_until_the_card_has_spoken(
    disk: TaxDisk, lost: Machine
) -> None:
    declare(lost)
    disk_password_enter(disk=disk, device_password=ENTERED, now=NOW)

    assert not deliver_late(disk, lost)
    assert pin(disk) == ENTERED
    password_refused(disk=disk, locked=False, tries_left=6)

    assert (state(disk), pin(disk)) == (PasswordState.PIN_UNKNOWN, ROLLED.decode())


def test_an_entered_pin_that_the_card_took_wins_over_the_late_one(
    disk: TaxDisk, lost: Machine, second: Machine
) -> None:
    declare(lost)
    disk_password_enter(disk=disk, device_password=ENTERED, now=NOW)
    deliver_late(disk, lost)
    number = fresh(disk).pin_generation
    pin_intent_open(disk=fresh(disk), machine=second, now=LATER, key="1", generation=number)
    assert pin_delivered(disk=disk, machine=second, generation=number + 1, pin=b"NEWEST03")

    assert (pin(disk), fresh(disk).pin_late) == ("NEWEST03", None)
    assert not deliver_late(disk, lost)


def test_a_late_pin_after_a_refusal_is_kept_for_a_person(disk: TaxDisk, lost: Machine) -> None:
    declare(lost)
    disk_password_enter(disk=disk, device_password=ENTERED, now=NOW)
    password_refused(disk=disk, locked=False, tries_left=3)

    assert deliver_late(disk, lost)

    after = fresh(disk)
    assert (after.password_state, after.tries_left) == (PasswordState.PIN_UNKNOWN, 3)
    assert pin(disk) == ROLLED.decode()


def test_a_locked_card_stays_locked_whatever_arrives(disk: TaxDisk, lost: Machine) -> None:
    declare(lost)
    disk_password_enter(disk=disk, device_password=ENTERED, now=NOW)
    password_refused(disk=disk, locked=True, tries_left=0)
    deliver_late(disk, lost)
    assert (state(disk), pin(disk)) == (PasswordState.LOCKED, ROLLED.decode())


def test_of_two_lost_machines_the_later_roll_wins_in_either_order_of_arrival(
    make_company: MakeCompany, make_disk: MakeDisk, lost: Machine, second: Machine
) -> None:
    for h_first in (True, False):
        disk = make_disk(make_company(), device_password=OLD)
        assert pin_intent_open(disk=fresh(disk), machine=lost, now=NOW)
        declare(lost)
        # The person knows the rolled PIN; M2 uses it, the card rolls again, M2 vanishes too.
        disk_password_enter(disk=disk, device_password=ROLLED.decode(), now=NOW)
        number = fresh(disk).pin_generation
        pin_intent_open(disk=fresh(disk), machine=second, now=NOW, key="1", generation=number)
        declare(second)
        pin_try_last(disk=disk)

        def from_h(disk: TaxDisk = disk) -> None:
            deliver_late(disk, lost)

        def from_m2(disk: TaxDisk = disk, number: int = number) -> None:
            pin_delivered(disk=disk, machine=second, generation=number + 1, pin=b"NEWEST03")

        for arrive in (from_h, from_m2) if h_first else (from_m2, from_h):
            arrive()

        assert pin(disk) == "NEWEST03"
        assert state(disk) == PasswordState.GOOD


def test_an_old_doubt_does_not_undo_a_decision(disk: TaxDisk, lost: Machine) -> None:
    declare(lost)
    pin_try_last(disk=disk)
    pin_in_doubt(disk=disk, machine=lost, generation=1)
    assert state(disk) == PasswordState.UNTRIED


def test_the_trail_names_what_people_decided(
    agency: Agency, other_agency: Agency, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    with agency_scope(other_agency.pk):
        machine = machine_create(agency=other_agency, name="H").machine
        disk = make_disk(make_company(of=other_agency), device_password=OLD)
        pin_intent_open(disk=fresh(disk), machine=machine, now=NOW)
        declare(machine)
        pin_try_last(disk=disk)
        deliver_late(disk, machine)
    with agency_scope(other_agency.pk):
        actions = set(AuditEntry.objects.values_list("action", flat=True))
        trail = repr(list(AuditEntry.objects.values_list("data", flat=True)))
    assert {
        Action.MACHINE_DECLARED_LOST,
        Action.DISK_PIN_UNKNOWN,
        Action.DISK_PIN_TRY_ALLOWED,
        Action.DISK_PIN_ROLLED,
    } <= actions
    assert OLD not in trail
    assert ROLLED.decode() not in trail
