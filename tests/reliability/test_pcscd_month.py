"""All disks of the sample on one machine, behind several pcscd, in one batch, with accidents."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.demonstration.scenario import MACHINES
from deploy.readers import missing
from devices.simulator.evidence import read_log
from devices.simulator.rack_client import RackControl, list_slots
from devices.simulator.world import World
from tests.reliability.month import MonthUnderTest, report

CLIENTS = 48
_PACKAGES = ", ".join(missing())

pytestmark = pytest.mark.skipif(bool(_PACKAGES), reason=f"needs {_PACKAGES}")


class PcscMonth(MonthUnderTest):
    """Every disk is in a reader of one machine, 16 readers to a daemon."""

    def __init__(self, root: Path, *, first: int) -> None:
        super().__init__(root, first=first, cards=True)
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
def test_the_sample_behind_several_pcscd_with_a_swap_and_a_restart_in_mid_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    month = PcscMonth(tmp_path / "m", first=CLIENTS)
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
        assert month.unbacked_clears() == []
        wanted = {disk.device_no: disk for disk in month.expected.disks}
        for device_no in swapped:
            clears = [
                w for w in read_log(month.places.disks, device_no) if w.command == "UPDATE_CONTROLS"
            ]
            assert len(clears) == len(wanted[device_no].clears)
