"""The site on a port, one rack and one bureau for the module's tests, a desk for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agency.models import Agency
from deploy.embedded import EmbeddedValkey
from tests.clearing.worker.house import NOW, Street
from tests.reliability.regressions.desk import Desk, Server


@pytest.fixture(scope="session")
def street() -> Iterator[Street]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="qk-") as short:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
        made = Street(Path(short))
        try:
            made.start()
            yield made
        finally:
            made.close()


@pytest.fixture
def server(
    database: None, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """The real site, whose day is the bureau's, and which asks for presence every second."""
    monkeypatch.setattr("clearing.api.machine.domain_now", lambda: NOW)
    monkeypatch.setattr("clearing.api.machine.PRESENCE_INTERVAL", 1)
    running = Server()
    yield running
    running.close()


@pytest.fixture
def desk(
    agency: Agency, server: Server, street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Desk]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    made = Desk(agency, server, street, tmp_path)
    yield made
    made.close()
