"""More readers than one daemon holds: seventeen, and forty-eight over three daemons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devices.simulator import pcscd
from devices.simulator.pcscd import VirtualReaders
from tests.devices.pcsc.desk import Desk, number


def readers_of(desk_or_readers: VirtualReaders) -> list[int]:
    """How many readers each daemon lists."""
    counts = []
    for path in desk_or_readers.sockets:
        command = [sys.executable, "-m", "devices.drivers.pcsc_watch", "--once", "--socket"]
        found = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True)
        counts.append(found.stdout.count('"name"'))
    return counts


def test_one_old_daemon_drops_the_seventeenth_reader(scratch: Path) -> None:
    """PCSC#13: without a word. A newer pcsc-lite (64) may take it; both are right here."""
    with VirtualReaders(scratch, 18, per_daemon=18, wait=False) as readers:
        assert readers_of(readers)[0] in (16, 18)


def test_two_daemons_show_seventeen(scratch: Path) -> None:
    """PCSC#13: one daemon takes sixteen readers; the seventeenth needs another one."""
    with VirtualReaders(scratch, 17) as readers:
        assert sum(readers_of(readers)) >= 17
        assert len(readers.sockets) == 2


_IDENTIFY = """
import sys
from pathlib import Path
from devices.drivers.ic_card import IcCardDisk
from devices.drivers.pcsc_channel import PcscChannel
from devices.drivers.pcsc_service import PcscService
from tests.devices.cards import IN_WINDOW
service = PcscService(Path(sys.argv[1]))
for reader in sys.argv[2:]:
    disk = IcCardDisk(PcscChannel(reader, service=service), pins=None, host_now=lambda: IN_WINDOW)
    print(disk.identify().device_no)
    disk.close()
"""


@pytest.mark.timeout(180)
def test_forty_eight_disks_at_three_daemons_are_each_found_once(scratch: Path) -> None:
    desk = Desk(scratch, scratch, readers=48, disks=48)
    try:
        assert readers_of(desk.virtual) == [16, 16, 16]
        found: list[str] = []
        for daemon, path in enumerate(desk.virtual.sockets):
            readers = [slot.reader for slot in desk.virtual.slots if slot.daemon == daemon]
            command = [sys.executable, "-c", _IDENTIFY, str(path), *readers]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found += said.split()
        assert found == [number(place) for place in range(1, 49)]
        assert pcscd.READERS_PER_DAEMON == 16
        selected = [desk.control.commands(number(place)) for place in range(1, 49)]
        assert all(commands.count("SELECT TSAM01") == 1 for commands in selected)
    finally:
        desk.close()
