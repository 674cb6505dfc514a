"""A subject and its bureau, made anew for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.contract.month import Office
from tests.contract.subject import Situation, Subject
from tests.contract.subjects import SUBJECTS, cases

MakeSubject = Callable[..., Subject]
MakeOffice = Callable[[Subject], Office]


@pytest.fixture(params=cases(SUBJECTS))
def make_subject(request: pytest.FixtureRequest) -> Iterator[MakeSubject]:
    """``make_subject(tries=0, …)``: the subject in a situation; fields of ``Situation``."""
    made: list[Subject] = []

    def make(**situation: object) -> Subject:
        made.append(SUBJECTS[request.param](Situation(**situation)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for subject in made:
        subject.close()


@pytest.fixture
def subject(make_subject: MakeSubject) -> Subject:
    return make_subject()


@pytest.fixture
def make_office() -> Iterator[MakeOffice]:
    made: list[Office] = []

    def make(subject: Subject) -> Office:
        made.append(Office(subject))
        return made[-1]

    yield make
    for office in made:
        office.close()


@pytest.fixture
def office(subject: Subject, make_office: MakeOffice) -> Office:
    return make_office(subject)
