"""Who comes first: at each machine, between batches, and never one agency at another's cost."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest

from agency.models import Agency
from agency.scope import agency_scope
from clearing.models import Run
from clearing.services import batch_start, run_start_waiting
from devices.models import TaxDisk
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk

Disks = Callable[[int], list[TaxDisk]]

pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.fixture
def disks(make_company: MakeCompany, make_disk: MakeDisk) -> Disks:
    """``disks(n)``: so many disks, each of a new company."""
    return lambda count: [make_disk(make_company()) for _ in range(count)]


def claimed(machine: PlayedMachine, count: int, *among: list[TaxDisk]) -> list[str]:
    """Letters for the batches whose runs the next claims get, and "-" for none."""
    letters = {
        disk.device_no: letter for letter, batch in zip("ab", among, strict=True) for disk in batch
    }
    orders = [machine.claim() for _ in range(count)]
    return [letters[order["device_no"]] if order else "-" for order in orders]


def test_a_small_batch_does_not_wait_for_the_rest_of_a_big_one(
    machine: PlayedMachine, disks: Disks, start: StartBatch
) -> None:
    big, small = disks(7), disks(2)
    machine.present(*big, *small)
    start(*big)
    assert claimed(machine, 3, big, small) == ["a", "a", "a"]
    start(*small)
    assert claimed(machine, 3, big, small) == ["b", "b", "a"]


def test_two_batches_of_one_size_take_turns(
    machine: PlayedMachine, disks: Disks, start: StartBatch
) -> None:
    first, second = disks(3), disks(3)
    machine.present(*first, *second)
    start(*first)
    start(*second)
    assert claimed(machine, 6, first, second) == ["a", "b", "a", "b", "a", "b"]


def test_a_walk_in_goes_first_then_who_is_locked_first_then_turn_by_turn(
    agency: Agency, machine: PlayedMachine, disks: Disks, start: StartBatch
) -> None:
    batch = disks(4)
    machine.present(*batch)
    start(*batch)
    with agency_scope(agency.pk):
        for disk, day in ((batch[2], 13), (batch[1], 15)):
            TaxDisk.objects.filter(pk=disk.pk).update(issue_deadline=dt.date(2026, 11, day))
        run_start_waiting(disk_id=batch[3].pk, real_now=dt.datetime.now(dt.UTC))
    orders = [machine.claim() for _ in batch]
    assert [order["device_no"] for order in orders if order] == [
        batch[number].device_no for number in (3, 2, 1, 0)
    ]


def test_a_machine_has_as_many_runs_at_once_as_it_has_disks_in_its_readers(
    machine: PlayedMachine, agency: Agency, disks: Disks, start: StartBatch
) -> None:
    batch = disks(5)
    other = PlayedMachine.enrol(agency, "读盘机二")
    start(*batch)
    assert machine.present(*batch[:2]).json()["runnable"] == 2
    assert other.present(*batch[2:]).json()["runnable"] == 3
    assert claimed(machine, 3, batch[:2], batch[2:]) == ["a", "a", "-"]
    assert claimed(other, 4, batch[:2], batch[2:]) == ["b", "b", "b", "-"]


def test_a_full_bureau_of_one_agency_leaves_every_place_to_another(
    machine: PlayedMachine,
    other_agency: Agency,
    disks: Disks,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The calls at a bureau are counted for each agency by itself."""
    monkeypatch.setattr("clearing.selectors.runnable.BUREAU_PARALLEL", 2)
    batch = disks(3)
    machine.present(*batch)
    start(*batch)
    assert [machine.claim() is not None for _ in batch] == [True, True, False]
    theirs = make_disk(make_company(of=other_agency))
    assert theirs.company.bureau == batch[0].company.bureau
    elsewhere = PlayedMachine.enrol(other_agency)
    elsewhere.present(theirs)
    _click(other_agency, theirs)
    assert elsewhere.claim() is not None


def _click(home: Agency, disk: TaxDisk) -> Any:
    with agency_scope(home.pk):
        return batch_start(
            disk_ids=[disk.pk],
            intent="report_and_clear",
            key="k",
            started_by="会计",
            now=NOW,
        )


def test_a_joined_run_keeps_its_place(
    agency: Agency, machine: PlayedMachine, disks: Disks, start: StartBatch
) -> None:
    big, small = disks(4), disks(1)
    machine.present(*big, *small)
    start(*big)
    start(*small, big[3])
    with agency_scope(agency.pk):
        assert Run.objects.filter(disk=big[3]).count() == 1
    assert claimed(machine, 5, big, small) == ["a", "b", "a", "a", "a"]
