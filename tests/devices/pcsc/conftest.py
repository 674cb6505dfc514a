"""Desks with real daemons. Without pcscd, vpcd or pyscard these tests are skipped, saying why."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.devices.pcsc import desk as desks
from tests.devices.pcsc.desk import Desk

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    ours = [item for item in items if item.path.is_relative_to(_HERE)]
    if ours and (reason := desks.missing()):
        for item in ours:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def daemon_folder() -> Path:
    return desks.daemon_folder()


@pytest.fixture
def scratch() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qk"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def desk(daemon_folder: Path, scratch: Path) -> Iterator[Desk]:
    """Four readers; disks in the first two."""
    desk = Desk(daemon_folder, scratch)
    yield desk
    desk.close()
