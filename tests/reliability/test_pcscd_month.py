"""48 disks on one machine, behind several pcscd, cleared in one batch, with accidents."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.demonstration.scenario import MACHINES, Case, clients, on_cards
from deploy.readers import missing
from devices.simulator.evidence import read_log
from devices.simulator.rack_client import RackControl, list_slots
from devices.simulator.world import World
from tests.reliability.month import MonthUnderTest, report

DISKS = 48
IN_HAND = 8  # runs at once on one machine
_PACKAGES = ", ".join(missing())

pytestmark = pytest.mark.skipif(bool(_PACKAGES), reason=f"needs {_PACKAGES}")


class PcscMonth(MonthUnderTest):
    """Every disk is in a reader of one machine, 16 readers to a daemon."""

    def __init__(self, root: Path) -> None:
        cards = [row for row in on_cards(clients()) if row.has_disk][:DISKS]
        # Nothing is odd about these clients: the accidents are the readers'.
        super().__init__(root, [replace(row, case=Case.NORMAL, sheet_pin=row.pin) for row in cards])
        self.stack.machines = (MACHINES[0],)
        self.stack.pcsc = True
        world = World.load(self.places.world)
        for disk in world.disks:
            disk.machine = MACHINES[0]  # slots are A-… and B-…: no two have one name
        world.save(self.places.world)

    @property
    def readers(self) -> Any:
        return self.stack.readers[MACHINES[0]]

    def wait_present(self, seconds: float = 120.0) -> None:
        """Opening each disk once takes a while. Says which slots stayed without one."""
        try:
            super().wait_present(seconds)
        except AssertionError:
            with self.database() as connection:
                slots = connection.execute(
                    "SELECT name, problem, seen_at FROM devices_slot WHERE device_no = ''"
                ).fetchall()
            raise AssertionError(f"{len(slots)} of {len(self.readers.slots)}: {slots}") from None

    def swap_two_that_wait(self) -> list[str]:
        """Two disks whose turn has not come change slots, at different daemons."""
        socket = self.places.rack_socket(MACHINES[0])
        slot_of = {view.device_no: view.slot for view in list_slots(socket)}
        daemon = {no: self.readers.slots[slot].daemon for no, slot in slot_of.items() if no}
        waiting = [run.device_no for run in self.runs() if run.state == "queued"]
        first = waiting[-1]
        second = next(no for no in reversed(waiting) if daemon[no] != daemon[first])
        RackControl(socket).swap(slot_of[first], second)
        return [first, second]


def until(there: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)


@pytest.mark.timeout(900)
def test_48_disks_behind_several_pcscd_are_cleared_through_a_swap_and_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    month = PcscMonth(tmp_path / "m")
    with month.stack as stack:
        stack.start()
        assert len(month.readers.virtual.sockets) > 1
        month.wait_present()
        month.press()
        until(lambda: month.finished() >= 4, 180)
        swapped = month.swap_two_that_wait()
        until(lambda: month.finished() >= 12, 180)
        month.readers.restart(1)
        assert not month.settled(), "the batch was over before the accidents"
        month.wait_settled(400)
        with capsys.disabled():
            print(f"{len(month.readers.slots)} disks at {len(month.readers.virtual.sockets)} pcscd")
            print(report(month, 0))
        assert month.violations() == []
        # A daemon that dies under a PIN roll leaves that one PIN in doubt: violations() has
        # looked for its window. Everything else is cleared.
        ends = Counter(run.code or run.state for run in month.runs())
        assert ends["done"] + ends["pin_unknown"] == DISKS
        assert ends["pin_unknown"] <= IN_HAND
        wanted = {disk.device_no: disk for disk in month.expected.disks}
        for device_no in swapped:
            clears = [
                w for w in read_log(month.places.disks, device_no) if w.command == "UPDATE_CONTROLS"
            ]
            assert len(clears) == len(wanted[device_no].clears)
