"""A rack with two disks, in a folder short enough for its socket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices.cards import OTHER_NO, world_disk, world_of
from tests.devices.simulator.racks import RackProcess


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qk") as folder:
        yield Path(folder)


@pytest.fixture
def rack(short_folder: Path) -> Iterator[RackProcess]:
    rack = RackProcess(short_folder, world_of(world_disk(), world_disk(OTHER_NO)))
    yield rack
    rack.end()
