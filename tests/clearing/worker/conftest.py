"""What the worker's tests share. None of them touches Django or a database."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clearing.worker.fake_server import FakeServer
from tests.clearing.worker.house import House, Street


@pytest.fixture(scope="session", autouse=True)
def _importable() -> Iterator[None]:
    """Children find the code wherever the tests are started from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        yield


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def street(_importable: None) -> Iterator[Street]:
    with tempfile.TemporaryDirectory(prefix="qk-") as short:  # a socket's path must be short
        made = Street(Path(short))
        try:
            made.start()
            yield made
        finally:
            made.close()


@pytest.fixture
def house(street: Street, tmp_path: Path) -> Iterator[House]:
    """A reader machine with two disks, a bureau and a server."""
    made = House(street, tmp_path)
    yield made
    made.close()
