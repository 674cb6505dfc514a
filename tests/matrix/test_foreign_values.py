"""What another agency has, put into every field: nothing of it is found, told or changed.

An answer to a foreign value is held against the answer to a value that nobody has: the same word,
the same text, the same rows written at home, none written there.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from django.apps import apps
from django.db import connection
from psycopg import sql

from agency.models import AuditEntry, AuditHead, Company, RefusalCount
from agency.scope import agency_scope
from agency.tenancy import TenantModel
from tests.matrix.asking import Asker, Target
from tests.matrix.conftest import World
from tests.matrix.introspection import forms, parameters
from tests.matrix.parameters import ELSEWHERE, SENT, fields, values
from tests.matrix.rights import MACHINES
from tests.matrix.test_matrix import BY_NAME, asked
from tests.matrix.world import House

#: Of the trail only what is no refusal: refusals are counted where they are asked for.
TABLES = [
    model._meta.db_table
    for model in apps.get_models()
    if issubclass(model, TenantModel) and model not in {AuditEntry, AuditHead, RefusalCount}
]

#: Roles, and a bookkeeper with and without the company in hand.
ASKED = ("owner", "assigned", "unassigned", "front_desk", "client")
#: source, field, kind, method and name of the address
Question = tuple[str, str, str, str]


def questions() -> list[Question]:
    return [
        (source, field, kind, sent)
        for source, row in fields().items()
        for field, kind in row.items()
        if kind != "–" and source not in ELSEWHERE
        for sent in SENT[source]
    ]


def test_every_field_that_a_request_may_fill_has_its_line() -> None:
    found = {**forms(), **parameters()}
    table = {source: set(row) for source, row in fields().items()}
    assert found == table
    named = {source for source, row in fields().items() if set(row.values()) != {"–"}}
    assert named - ELSEWHERE <= set(SENT)


def _counts() -> sql.Composed:
    """Rows of each table and their newest change; of the trail what is no refusal."""
    one = sql.SQL("SELECT {}, count(*), coalesce(max(xmin::text::bigint), 0) FROM {}")
    each = [one.format(sql.Literal(table), sql.Identifier(table)) for table in TABLES]
    trail = sql.SQL(
        "SELECT 'trail', count(*), 0 FROM agency_auditentry WHERE action <> 'access.refused'"
    )
    return sql.SQL(" UNION ALL ").join([*each, trail])


@functools.cache
def _untouched(agency_id: int) -> dict[str, tuple[int, int]]:
    """How an agency stands before every question: each one is undone."""
    return _now(agency_id)


def _now(agency_id: int) -> dict[str, tuple[int, int]]:
    with agency_scope(agency_id), connection.cursor() as cursor:
        cursor.execute(_counts())
        return {table: (rows, newest) for table, rows, newest in cursor.fetchall()}


class Traces:
    """What a question left in the tables of an agency."""

    def __init__(self, house: House) -> None:
        self._agency_id = house.agency.pk
        self.before = self.after = _untouched(self._agency_id)

    def look(self) -> None:
        self.after = _now(self._agency_id)

    def written(self) -> dict[str, tuple[int, bool]]:
        """Table → how many rows more, and whether any is new or changed."""
        return {
            table: (self.after[table][0] - rows, self.after[table][1] != newest)
            for table, (rows, newest) in self.before.items()
            if self.after[table] != (rows, newest)
        }


def told(body: str, value: Any) -> str:
    """The answer without echoes of what was sent."""
    texts = [str(value)] if not isinstance(value, list) else _leaves(value)
    for text in sorted(texts, key=len, reverse=True):
        for form in {text, html.escape(text), quote(text), quote_plus(text)}:
            body = re.sub(rf"(?<![\w-]){re.escape(form)}(?![\w-])", "#", body)
    return body


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value] if isinstance(value, str) and len(value) > 12 else []


class Put:
    """One value in one field, asked by one person or machine."""

    def __init__(self, question: Question, who: Asker, value: Any, world: World) -> None:
        _source, field, _kind, sent = question
        method, _, route = sent.partition(" ")
        row = BY_NAME[route, method]
        here, there = (Traces(house) for house in (world.home, world.away))

        def look() -> None:
            here.look()
            there.look()

        answer = asked(row, who, Target(world.home), {field: value}, look)
        self.word, self.body = answer.word, told(answer.body, value)
        self.here, self.there = here.written(), there.written()


def wrong(question: Question, who: Asker, world: World) -> Iterator[str]:
    found = values(question[2], world.away, world.home)
    nobodys = Put(question, who, found.nobodys, world)
    for value in found.foreign:
        put = Put(question, who, value, world)
        if put.there or nobodys.there:
            yield f"{who}, {value}: writes there: {put.there or nobodys.there}"
        if (put.word, put.here) != (nobodys.word, nobodys.here):
            yield f"{who}, {value}: {put.word} {put.here}, not {nobodys.word} {nobodys.here}"
        elif put.body != nobodys.body:
            yield f"{who}, {value}: another text: {_first_difference(put.body, nobodys.body)}"
    for value in found.not_own if who.name in {"assigned", "client"} else []:
        put = Put(question, who, value, world)
        if put.here or put.there:
            yield f"{who}, not own {value}: writes {put.here}"
        refused = put.word == "403" and who.name != "client"
        if not refused and (put.word, put.body) != (nobodys.word, nobodys.body):
            yield f"{who}, not own {value}: {put.word}, not like a missing one"
        if any(name in put.body for name in world.home.hidden_from(who.name)):
            yield f"{who}, not own {value}: its name is told"


def _first_difference(one: str, other: str) -> tuple[str, str]:
    lines = zip(one.splitlines(), other.splitlines(), strict=False)
    return next((pair for pair in lines if pair[0] != pair[1]), ("", "longer or shorter"))


@pytest.mark.parametrize(
    "question", questions(), ids=lambda each: f"{each[3]} {each[1]}".replace(" ", "-")
)
def test_a_foreign_value_is_like_one_that_nobody_has(question: Question, world: World) -> None:
    for_machines = BY_NAME[tuple(reversed(question[3].split(" ", 1)))].for_machines  # type: ignore[index]
    if question[3] == "POST machine-enrol":
        askers = [world.askers[0]]
    else:
        askers = [world.asker(name) for name in (MACHINES[:1] if for_machines else ASKED)]
    assert [problem for who in askers for problem in wrong(question, who, world)] == []


def test_a_form_that_forgets_whose_companies_may_be_named_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clearing.pages.chosen.companies_of", lambda _viewer: Company.objects.all())
    question = ("clearing.pages.chosen", "company", "company", "POST act-start")
    who = world.asker("assigned")
    found = list(wrong(question, who, world))
    assert found
    assert all(problem.startswith(f"{who}, not own") for problem in found)
