"""Disks, passwords and PINs at the server."""

from __future__ import annotations

import pytest

from agency.errors import ServiceError
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from devices.choices import DiskKind, PasswordState
from devices.models import Machine, TaxDisk
from devices.services import (
    disk_create,
    disk_password_enter,
    disk_passwords,
    machine_create,
    pin_delivered,
    pin_in_doubt,
    pin_intent_open,
)
from tests.conftest import NOW, MakeCompany, MakeDisk


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company(), device_password="MARK0001")


@pytest.fixture
def machine(agency: Agency) -> Machine:
    with agency_scope(agency.pk):
        return machine_create(agency=agency, name="读盘机一").machine


def test_a_device_number_is_taken_once_per_agency(
    agency: Agency,
    other_agency: Agency,
    disk: TaxDisk,
    make_company: MakeCompany,
    make_disk: MakeDisk,
) -> None:
    with agency_scope(agency.pk), pytest.raises(ServiceError, match="已在本机构登记"):
        disk_create(company=disk.company, kind=DiskKind.IC_CARD, device_no=disk.device_no, now=NOW)
    make_disk(make_company(of=other_agency), device_no=disk.device_no)


def test_a_password_is_sealed_and_leaves_no_trace_in_the_trail(
    agency: Agency, disk: TaxDisk
) -> None:
    with agency_scope(agency.pk):
        fresh = TaxDisk.objects.get(pk=disk.pk)
        assert disk_passwords(fresh) == ("MARK0001", "")
        assert fresh.password_state == PasswordState.UNTRIED
        trail = repr(list(AuditEntry.objects.values()))
    assert "MARK0001" not in trail


def test_a_new_password_starts_a_generation_that_older_pins_do_not_replace(
    agency: Agency, disk: TaxDisk, machine: Machine
) -> None:
    with agency_scope(agency.pk):
        old = TaxDisk.objects.get(pk=disk.pk).pin_generation
        disk_password_enter(disk=disk, device_password="MARK0002", now=NOW)
        assert not pin_delivered(disk=disk, machine=machine, generation=old + 1, pin=b"LATE0001")
        assert disk_passwords(TaxDisk.objects.get(pk=disk.pk))[0] == "MARK0002"


def test_a_pin_of_any_bytes_travels_as_text(
    agency: Agency, disk: TaxDisk, machine: Machine
) -> None:
    with agency_scope(agency.pk):
        for step, (pin, text) in enumerate([(b"ABCD0001", "ABCD0001"), (b"\xff" * 8, "FF" * 8)], 2):
            pin_delivered(disk=disk, machine=machine, generation=step, pin=pin)
            assert disk_passwords(TaxDisk.objects.get(pk=disk.pk))[0] == text


def test_while_a_pin_is_being_rolled_no_password_is_entered_over_it(
    agency: Agency, disk: TaxDisk, machine: Machine
) -> None:
    with agency_scope(agency.pk):
        assert pin_intent_open(disk=disk, machine=machine, now=NOW)
        with pytest.raises(ServiceError, match="正在更换"):
            disk_password_enter(disk=disk, device_password="MARK0002", now=NOW)
        second = machine_create(agency=machine.agency, name="读盘机二").machine
        assert not pin_intent_open(disk=disk, machine=second, now=NOW)


def test_a_doubt_that_arrives_after_the_new_pin_is_no_doubt(
    agency: Agency, disk: TaxDisk, machine: Machine
) -> None:
    with agency_scope(agency.pk):
        generation = TaxDisk.objects.get(pk=disk.pk).pin_generation
        pin_intent_open(disk=TaxDisk.objects.get(pk=disk.pk), machine=machine, now=NOW)
        pin_delivered(disk=disk, machine=machine, generation=generation + 1, pin=b"NEW00001")
        pin_in_doubt(disk=disk, machine=machine, generation=generation)
        fresh = TaxDisk.objects.get(pk=disk.pk)
        assert fresh.password_state == PasswordState.GOOD
        assert disk_passwords(fresh)[0] == "NEW00001"
