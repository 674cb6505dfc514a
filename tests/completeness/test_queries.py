"""No page asks the database more often because there are more rows; the counts stand in a file.

The pages are taken from the URL resolver: each that answers the owner's plain GET is measured with
few and with many rows of everything. ``queries.json`` says how many each may ask at most, a little
above what it asks; a page without a line there is held to a bound.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver

from agency import clock, refusals
from agency.models import Agency
from agency.scope import agency_scope
from agency.support import consent_give
from clearing.models import Batch
from clearing.states import RunState
from devices.models import Machine
from devices.services import SlotReport, machine_create, presence_note
from tests.clearing import scenes
from tests.conftest import NOW, MakeCompany, MakeDisk, Person, add_operator, signed_in

BASELINES = Path(__file__).with_name("queries.json")
#: Most queries of a page that has no line of its own yet.
BOUND = 40
FEW, MANY = 4, 24


def plain_paths(patterns: Sequence[URLPattern | URLResolver], start: str = "/") -> Iterator[str]:
    """Every route without arguments."""
    for pattern in patterns:
        path = start + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from plain_paths(pattern.url_patterns, path)
        elif "<" not in path:
            yield path


class Filled:
    """An agency with rows of everything that a list shows."""

    def __init__(
        self, agency: Agency, owner: Person, make_company: MakeCompany, make_disk: MakeDisk
    ) -> None:
        self._agency, self._owner = agency, owner
        self._make_company, self._make_disk = make_company, make_disk
        self._made = 0
        self.client = signed_in(owner)
        self.client.get("/")  # whatever a first visit brings
        with agency_scope(agency.pk):
            consent_give(agency=agency)
        operator = add_operator()
        self.visitor = signed_in(operator)
        assert operator.visit(self.visitor, agency).status_code == 302
        disk = make_disk(make_company(assigned_to=owner))
        self.batch = scenes.run(disk, RunState.DONE).batch
        self.company = disk.company
        self.machine = self._machine()

    def _machine(self) -> Machine:
        self._made += 1
        with agency_scope(self._agency.pk):
            made = machine_create(agency=self._agency, name=f"读盘机{self._made}", simulated=True)
        return made.machine

    def get(self, path: str) -> Any:
        """The page as the owner, the operator's as the operator who visits."""
        return (self.visitor if path.startswith("/operator/") else self.client).get(path)

    def more(self, count: int) -> None:
        """So many more companies, disks, runs, batches, machines, unknown disks, entries."""
        for number in range(count):
            disk = self._make_disk(self._make_company(assigned_to=self._owner))
            states: list[tuple[RunState, dict[str, Any]]] = [
                (RunState.FAILED, {"code": "wrong_disk"}),
                (RunState.WAITING, {"reason": "disk"}),
                (RunState.UNKNOWN, {}),
                (RunState.DONE, {}),
            ]
            state, fields = states[number % len(states)]
            scenes.run(disk, state, **fields)
            scenes.run(self._make_disk(self._make_company()), RunState.QUEUED, batch=self.batch)
            scenes.run(self._make_disk(self.company), RunState.DONE)
            machine = self._machine()
            with agency_scope(self._agency.pk):
                presence_note(
                    machine=machine,
                    slots=[
                        SlotReport("A-01", disk.device_no or "", disk.company.tax_id),
                        SlotReport("A-02", f"{machine.pk:016d}", disk.company.tax_id),
                    ],
                    version="t",
                    now=NOW,
                )

    def paths(self) -> dict[str, str]:
        """Name in the file → address, of the pages that can be read."""
        named = {path: path for path in plain_paths(get_resolver().url_patterns)}
        named |= {
            "/companies/…": f"/companies/{self.company.pk}",
            "/batches/…": f"/batches/{self.batch.pk}",
            "/machines/…/labels": f"/machines/{self.machine.pk}/labels",
        }
        return {name: path for name, path in named.items() if self.get(path).status_code == 200}

    def counts(self, paths: dict[str, str]) -> dict[str, int]:
        found = {}
        for name, path in paths.items():
            with CaptureQueriesContext(connection) as seen:
                assert self.get(path).status_code == 200, path
            found[name] = len(seen)
        return found


@pytest.fixture
def _one_minute(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look of a minute at the operator's pages is recorded, the others are counted."""
    moment = clock.real_now()
    monkeypatch.setattr(refusals, "real_now", lambda: moment)


@pytest.mark.usefixtures("_one_minute")
def test_no_page_asks_more_often_when_there_are_more_rows(
    agency: Agency, owner: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    filled = Filled(agency, owner, make_company, make_disk)
    filled.more(FEW)
    paths = filled.paths()
    few = filled.counts(paths)
    filled.more(MANY)
    many = filled.counts(paths)
    with agency_scope(agency.pk):
        assert Batch.objects.count() > MANY
    grown = {name: (few[name], many[name]) for name in many if many[name] > few[name]}
    assert grown == {}
    baselines: dict[str, int] = json.loads(BASELINES.read_text(encoding="utf-8"))
    above = {
        name: f"{count} queries, at most {baselines.get(name, BOUND)}"
        for name, count in many.items()
        if count > baselines.get(name, BOUND)
    }
    assert above == {}
    assert set(baselines) <= set(many), "a line for a page that is not there"


@pytest.mark.parametrize("path", ["/", "/batches", "/audit", "/batches/{batch}"])
def test_a_list_shows_a_page_of_it(
    agency: Agency,
    owner: Person,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    """With a page of five rows, the sixth is on the second page."""
    for page in ("clearing.pages.board", "clearing.pages.batch", "agency.pages.audit"):
        monkeypatch.setattr(f"{page}.PER_PAGE", 5)
    filled = Filled(agency, owner, make_company, make_disk)
    filled.more(6)
    address = path.format(batch=filled.batch.pk)
    first, second = (filled.client.get(f"{address}?page={number}") for number in (1, 2))
    assert "page=2" in first.content.decode()
    assert first.content != second.content
