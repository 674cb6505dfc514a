"""What the engine's tests share: a batch over disks, and reloading under a scope."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from django.db.models import Model
from pytest_django import Settings

from agency.models import Agency
from agency.scope import agency_scope
from clearing.models import Run
from clearing.services import batch_start
from devices.models import TaxDisk
from tests.clearing.machine import PlayedMachine
from tests.conftest import NOW

Row = TypeVar("Row", bound=Model)


@pytest.fixture(autouse=True)
def _on_the_ninth_of_november(monkeypatch: pytest.MonkeyPatch) -> None:
    """The domain's clock stands on a good day; the database's clock runs."""
    monkeypatch.setattr("clearing.api.machine.domain_now", lambda: NOW)


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A presence report is good for a day: how long a test takes says nothing."""
    monkeypatch.setattr("devices.selectors.PRESENCE_AGE", dt.timedelta(days=1))


@pytest.fixture
def machine(agency: Agency) -> PlayedMachine:
    return PlayedMachine.enrol(agency)


@pytest.fixture
def storage(settings: Settings, tmp_path: Path) -> Path:
    """A storage folder of the test's own: files of no other test lie in it."""
    ours = {**settings.STORAGES["default"]["OPTIONS"], "location": tmp_path}
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {**settings.STORAGES["default"], "OPTIONS": ours},
    }
    return tmp_path


StartBatch = Callable[..., list[Run]]


@pytest.fixture
def start(agency: Agency) -> StartBatch:
    """``start(disk, …, intent=…)``: one click; the runs of the batch, joined ones included."""

    def click(*disks: TaxDisk, intent: str = "report_and_clear", key: str = "") -> list[Run]:
        with agency_scope(agency.pk):
            started = batch_start(
                disk_ids=[disk.pk for disk in disks],
                intent=intent,
                key=key or str(uuid.uuid4()),
                started_by="郑会计",
                now=NOW,
            )
            return list(Run.objects.filter(entries__batch=started.batch).order_by("pk"))

    return click


@pytest.fixture
def again(agency: Agency) -> Callable[[Row], Row]:
    """The row as it stands in the database now."""

    def reload(row: Row) -> Row:
        with agency_scope(agency.pk):
            found: Row = type(row)._default_manager.get(pk=row.pk)
            return found

    return reload
