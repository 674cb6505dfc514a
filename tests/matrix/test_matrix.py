"""The permission matrix: every address × method × person or machine × own and foreign object.

Addresses come from the URL resolver, the expected answers from the hand-written tables of
``rights.py``. A foreign object must answer byte for byte like one that does not exist, a refusal
must stand in the trail of the asker's agency, and no answer may hold a mark of the other one.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.db import transaction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, get_resolver

from agency.access import RIGHTS
from agency.choices import Act, Role
from agency.models import PLATFORM, AuditEntry, Company
from agency.scope import agency_scope
from tests.matrix.asking import SHOWN_AT_ONCE, Asker, Target, ask
from tests.matrix.conftest import World
from tests.matrix.rights import (
    NOT_ALLOWED,
    OPEN_RIGHTS,
    OPERATORS,
    PEOPLE,
    ROWS,
    Row,
    answer_for,
    is_compared,
    methods_of,
    rows_of,
    size,
)
from tests.matrix.world import MISSING, House

BY_NAME = {(row.route, row.method): row for row in ROWS}


def routes(patterns: list[URLPattern | URLResolver] | None = None) -> Iterator[str]:
    """The names of all addresses of the site."""
    for entry in get_resolver().url_patterns if patterns is None else patterns:
        if isinstance(entry, URLResolver):
            space = f"{entry.namespace}:" if entry.namespace else ""
            yield from (space + name for name in routes(entry.url_patterns))
        else:
            assert entry.name, f"{entry.pattern} has no name"
            yield entry.name


def test_every_address_has_a_row_and_every_row_an_address() -> None:
    names = list(routes())
    assert len(names) == len(set(names))
    assert {row.route for row in ROWS} == set(names)
    assert len(BY_NAME) == len(ROWS)


@dataclass(frozen=True)
class Answer:
    """What came back, in the words of the table."""

    word: str
    body: str


def asked(
    row: Row,
    who: Asker,
    target: Target,
    instead: Mapping[str, Any] | None = None,
    look: Callable[[], None] = lambda: None,
) -> Answer:
    """Ask, look whether a refusal stands in the trail, ``look`` at what it did, and undo it."""
    cookies = who.client.cookies.output()
    chain = PLATFORM if who.name in OPERATORS else who.house.agency.pk if who.house else None
    with transaction.atomic():
        before = _refusals(chain) if chain == PLATFORM else 0
        response = ask(row, who, target, instead)
        body = b"".join(iter(response)) + _said(response)
        assert "no-store" in response.headers["Cache-Control"], f"{who} {row}: may be kept"
        word = _word(row, response)
        if word == "405":
            assert _allowed(response) == methods_of(row.route) - {"OPTIONS"}, f"{who} {row}"
        if word in {"403", "404"} and chain is not None:
            # The cells before this one are undone, so that it is the first.
            assert _refusals(chain) == before + 1, f"{who}: refused without a trace"
        look()
        transaction.set_rollback(True)
    who.client.cookies.clear()
    who.client.cookies.load(cookies.replace("Set-Cookie: ", ""))
    return Answer(word, _plain(body.decode(errors="replace"), target))


#: What is new in every answer: tokens of forms, keys of clicks, the time.
_NEW = re.compile(
    r'(?<=csrfmiddlewaretoken" value=")\w+|(?<=X-CSRFToken": ")\w+'
    r'|(?<=name="key" value=")[-\w]+|(?<="time":")[^"]+|(?<="token":")[^"]+'
    r'|(?<=class="answer mono">)[-\w]+|(?<=enroll )[-\w]+'
)


def _plain(text: str, target: Target) -> str:
    """The answer without echoes of the id that was asked for, and without what is always new."""
    for number in {MISSING, *target.house.ids.values()}:
        text = re.sub(rf"(?<=[/=])(?:{number})\b", "#", text)
    return _NEW.sub("*", text)


def _word(row: Row, response: HttpResponseBase) -> str:
    status = response.status_code
    if status == 302 and response.headers["Location"].startswith("/login?next="):
        return "login"
    if row.method != "POST" or "/machine/v1/" in response.wsgi_request.path:  # type: ignore[attr-defined]
        return "ok" if status in {200, 302} else str(status)
    if status == 200 and row.route not in SHOWN_AT_ONCE:
        return "form"
    return "ok" if status in {200, 302} else str(status)


def _allowed(response: HttpResponseBase) -> set[str]:
    """The methods that a refusal says the address has."""
    return set(response.headers["Allow"].split(", ")) - {"OPTIONS"}


def _said(response: HttpResponseBase) -> bytes:
    """The messages that the next page will show."""
    request: HttpRequest = response.wsgi_request  # type: ignore[attr-defined]
    waiting = get_messages(request) if hasattr(request, "_messages") else ()
    return "\n".join(str(message) for message in waiting).encode()


def _refusals(chain: int) -> int:
    with agency_scope(chain):
        return AuditEntry.objects.filter(action="access.refused").count()


def _expected(row: Row, who: Asker) -> set[str]:
    if row.right == NOT_ALLOWED and row.for_operators and who.name in PEOPLE:
        return {"404"}
    if row.right == NOT_ALLOWED:
        api = row.route in API
        return {"401" if api and not who.token else "login" if _must_sign_in(row, who) else "405"}
    return {answer_for(row, who.name)}


OF_EVERY_ACCOUNT = {"be signed in", "set up a factor", "use an own factor"}
API = {row.route for row in ROWS if row.for_machines}
OPEN = {row.route for row in ROWS if row.right in OPEN_RIGHTS}


def _must_sign_in(row: Row, who: Asker) -> bool:
    return row.route not in OPEN | API and (who.house is None or bool(who.token))


def check(row: Row, who: Asker, world: World) -> Iterator[str]:
    """What is wrong with one asker's cells of a row: own, missing and foreign object."""
    other = world.away if who.house is world.home else world.home
    own = Target(who.house or world.home)
    answer = asked(row, who, own)
    if answer.word not in _expected(row, who):
        yield f"{who}, own: {answer.word}, not {_expected(row, who)}"
    yield from _leaks(row, who, other, answer)
    if not _asks_for_others(row, who):
        return
    foreign = asked(row, who, Target(other))
    may = _expected(row, who)
    allowed = may if may & {"login", "401"} else {"403", "404"} if "403" in may else {"404", "form"}
    if foreign.word not in allowed:
        yield f"{who}, foreign: {foreign.word}, not {allowed}"
    yield from _leaks(row, who, other, foreign)
    if "login" in may:
        return
    missing = asked(row, who, Target(other, missing=True))
    if foreign != missing:
        yield f"{who}: a foreign object does not answer like a missing one:" + "".join(
            difflib.unified_diff(missing.body.splitlines(), foreign.body.splitlines(), n=0)
        )


def _asks_for_others(row: Row, who: Asker) -> bool:
    return is_compared(row) and not (row.for_operators and who.name not in OPERATORS)


def _leaks(row: Row, who: Asker, other: House, answer: Answer) -> Iterator[str]:
    body, marks = answer.body, other.marks()
    if who.name in OPERATORS and who.house is not None:
        # The names of agencies are theirs to know, and what they wrote; without a session no more.
        for house in (other, who.house):
            body = body.replace(house.agency.name, "").replace(house.reason, "")
        marks = marks + (who.house.marks() if who.name == "operator" else [])
    for mark in [] if row.route in {"machine-enrol", "invitation"} else marks:
        if mark in body:
            yield f"{who}: {mark} of the other agency in the answer"
    hidden = who.house.hidden_from(who.name) if who.house is not None else []
    if any(name in answer.body for name in hidden):
        yield f"{who}: a company that is not in their hands in the answer"


@pytest.mark.parametrize("route", sorted({row.route for row in ROWS}))
def test_everybody_gets_the_answer_of_the_table(route: str, world: World) -> None:
    wrong = [
        f"{row} {problem}"
        for row in rows_of(route)
        for who in world.asked_for(row)
        for problem in check(row, who, world)
    ]
    assert wrong == []


def test_as_many_questions_are_asked_as_are_said(world: World) -> None:
    asked_in_all = sum(
        1 + _asks_for_others(row, who) * (1 if "login" in _expected(row, who) else 2)
        for route in {row.route for row in ROWS}
        for row in rows_of(route)
        for who in world.asked_for(row)
    )
    assert size().endswith(f": {asked_in_all} questions")


def test_everybody_asks_each_address_with_every_kind_of_method(world: World) -> None:
    """The likeliest of those that it has not, and another one of them."""
    for route in {row.route for row in ROWS}:
        refused = [row for row in rows_of(route) if row.right == NOT_ALLOWED]
        times = Counter(who for row in refused for who in map(str, world.asked_for(row)))
        most = max(refused, key=lambda row: len(world.asked_for(row)))
        assert {str(who) for who in world.asked_for(most)} == set(times)
        assert all(world.asked_for(row) for row in refused)
        assert sum(count > 1 for count in times.values()) >= 3 * (len(refused) - 2), route


def test_a_support_session_opens_no_page_of_the_agency_itself(world: World) -> None:
    """Of everything but the operator's site an operator sees what concerns their own account."""
    wrong = []
    for row in ROWS:
        if row.for_operators or row.for_machines or row.right in OPEN_RIGHTS:
            continue
        for who in world.operators[: len(OPERATORS)]:
            assert who.house is world.home
            answer = asked(row, who, Target(who.house))
            if row.right not in OF_EVERY_ACCOUNT and answer.word not in {"403", "404"}:
                wrong.append(f"{who} {row}: {answer.word}")
            wrong += [f"{who} {row}: {mark}" for mark in who.house.marks() if mark in answer.body]
    assert wrong == []


def test_a_right_given_to_the_wrong_role_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RIGHTS, Role.FRONT_DESK, RIGHTS[Role.FRONT_DESK] | {Act.MACHINES})
    asker = world.asker("front_desk")
    assert list(check(BY_NAME["machines", "GET"], asker, world)) == [
        f"{asker}, own: ok, not {{'403'}}"
    ]


def test_a_selector_that_forgets_whose_companies_it_shows_is_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clearing.pages.board.companies_of", lambda _viewer: Company.objects.all())
    asker = world.asker("assigned")
    assert list(check(BY_NAME["home", "GET"], asker, world)) == [
        f"{asker}: a company that is not in their hands in the answer"
    ]
