"""PINs over the machine API: orders after a person's decision, and answers that come late."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from agency.clock import real_now
from agency.models import Agency
from agency.scope import agency_scope
from clearing.services import run_retry
from clearing.states import RunState
from devices.choices import DiskKind, PasswordState
from devices.models import Machine, Slot, TaxDisk
from devices.services import (
    disk_password_enter,
    disk_passwords,
    machine_declare_lost,
    machine_roll,
    pin_try_last,
)
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import TO_REPORT, PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk

Again = Callable[[Any], Any]


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company(), device_password="OLD00001")


@pytest.fixture
def second(agency: Agency) -> PlayedMachine:
    return PlayedMachine.enrol(agency, "读盘机二")


def roll_intent(machine: PlayedMachine, disk: TaxDisk) -> Any:
    return machine.intend(
        "report", machine.identified(disk), machine.read(TO_REPORT), rolls_pin=True
    )


def vanish_holding_the_pin(machine: PlayedMachine, disk: TaxDisk) -> None:
    """The machine gets the permission to roll, and is never heard of again."""
    machine.present(disk)
    assert machine.claim() is not None
    assert roll_intent(machine, disk).status_code == 200
    machine.on_run("release")
    with agency_scope(disk.agency_id):
        long_ago = real_now() - dt.timedelta(hours=1)
        Machine.objects.filter(pk=machine.machine.pk).update(seen_at=long_ago)
        Slot.objects.filter(machine=machine.machine).update(seen_at=long_ago)
        TaxDisk.objects.filter(pk=disk.pk).update(pin_intent_at=long_ago)


def declare_lost(machine: PlayedMachine) -> None:
    with agency_scope(machine.machine.agency_id):
        row = Machine.objects.get(pk=machine.machine.pk)
        machine_declare_lost(machine=row, now=real_now())


def try_last(disk: TaxDisk) -> None:
    with agency_scope(disk.agency_id):
        pin_try_last(disk=disk)


def test_a_person_decides_and_another_machine_goes_on(
    agency: Agency,
    machine: PlayedMachine,
    second: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    again: Again,
) -> None:
    start(disk)
    vanish_holding_the_pin(machine, disk)
    second.present(disk)
    assert second.claim() is None  # the PIN may be with the first machine

    declare_lost(machine)
    second.present(disk)
    order = second.claim()
    assert order is not None
    assert (order["password_usable"], order["password_code"]) == (False, "pin_unknown")
    assert order["device_password"] == ""
    second.settle("failed", second.identified(disk), second.read(TO_REPORT), code="pin_unknown")
    generation = again(disk).pin_generation

    try_last(disk)
    with agency_scope(agency.pk):
        run_retry(run_ids=[second.run_id], key="again", started_by="吴主管", now=NOW)
    order = second.claim()
    assert order is not None
    assert (order["device_password"], order["pin_generation"]) == ("OLD00001", generation + 1)
    assert roll_intent(second, disk).status_code == 200


def test_the_one_try_is_not_ordered_a_second_time(
    machine: PlayedMachine,
    second: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
) -> None:
    start(disk)
    vanish_holding_the_pin(machine, disk)
    declare_lost(machine)
    try_last(disk)
    second.present(disk)
    assert second.claim()
    assert roll_intent(second, disk).status_code == 200
    second.on_run("release")  # killed in the window; its journal is gone, too

    order = second.claim()

    assert order is not None
    assert (order["password_usable"], order["device_password"]) == (False, "")
    assert roll_intent(second, disk).json()["reason"] == "pin_held"


def test_an_order_with_an_overtaken_pin_gets_no_permission(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    start(disk)
    machine.present(disk)
    assert machine.claim()
    with agency_scope(agency.pk):
        disk_password_enter(disk=disk, device_password="NEW00002", now=NOW)

    assert roll_intent(machine, disk).json()["reason"] == "pin_held"


def test_what_an_attempt_rolled_it_may_roll_again(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    start(disk)
    machine.present(disk)
    order = machine.claim()
    assert order is not None
    generation = order["pin_generation"] + 1
    assert roll_intent(machine, disk).status_code == 200

    rolled = machine.fact("pin", generation=generation, pin=b"NEXT0002".hex())
    assert machine.intend("report", rolled, rolls_pin=True).status_code == 200
    assert again(disk).pin_generation == generation


@pytest.mark.parametrize(
    ("said", "state"), [({}, PasswordState.WRONG), ({"sent": False}, PasswordState.UNTRIED)]
)
def test_a_refused_pin_is_wrong_and_one_that_was_never_sent_is_not(
    machine: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    again: Again,
    said: dict[str, bool],
    state: PasswordState,
) -> None:
    start(disk)
    machine.present(disk)
    order = machine.claim()
    assert order is not None
    roll_intent(machine, disk)
    fact = machine.fact("pin", generation=order["pin_generation"], refused=True, **said)
    machine.on_run("release", fact)
    assert (again(disk).password_state, again(disk).pin_intent_machine_id) == (state, None)


def test_a_late_delivery_through_the_api_is_taken_after_the_decision(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    start(disk)
    vanish_holding_the_pin(machine, disk)
    rolled = again(disk).pin_generation + 1
    declare_lost(machine)
    try_last(disk)

    late = machine.fact("pin", generation=rolled, pin=b"NEXT0002".hex())
    assert machine.on_run("record", late).status_code == 200

    with agency_scope(agency.pk):
        assert disk_passwords(TaxDisk.objects.get(pk=disk.pk))[0] == "NEXT0002"
    assert again(disk).password_state == PasswordState.GOOD


def test_a_refusal_of_an_earlier_password_does_not_condemn_the_new_one(
    agency: Agency,
    machine: PlayedMachine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
    again: Again,
) -> None:
    disk = make_disk(make_company(), kind=DiskKind.UKEY, device_password="OLD00001")
    start(disk)
    machine.present(disk)
    machine.claim()
    with agency_scope(agency.pk):
        disk_password_enter(disk=disk, device_password="NEW00002", now=NOW)

    machine.on_run("record", machine.fact("password", code="password_wrong", tries_left=4))

    after = again(disk)
    assert (after.password_state, after.tries_left) == (PasswordState.UNTRIED, 4)


def test_a_rolled_token_stops_a_running_machine_before_its_next_step(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    (run,) = start(disk)
    machine.present(disk)
    machine.claim()
    with agency_scope(agency.pk):
        machine_roll(machine=machine.machine, by="吴主管", now=real_now())

    refused = roll_intent(machine, disk)

    assert (refused.status_code, refused.json()["error"]) == (401, "machine_unknown")
    assert again(run).state == RunState.CLAIMED
    assert again(run).open_intent is None
