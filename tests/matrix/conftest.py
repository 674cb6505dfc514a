"""One world of two agencies for all cells; each cell is undone."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import redis
from django.conf import settings
from django.core.handlers.base import BaseHandler
from django.db import transaction
from django.test import Client
from django.urls import get_resolver
from pytest_django.plugin import DjangoDbBlocker

from agency import clock
from deploy.embedded import EmbeddedValkey
from tests.conftest import NOW
from tests.matrix.asking import Asker
from tests.matrix.rights import MACHINES, NOT_ALLOWED, OPERATORS, PEOPLE, Row, in_turn, size
from tests.matrix.world import House, build

LAYERS = ("agency", "devices", "clearing", "deploy")


@dataclass
class World:
    """``home`` is where most questions are asked; ``away`` has nothing to do with it."""

    home: House
    away: House
    #: Everybody who asks: nobody, the people and machines of both agencies.
    askers: list[Asker] = field(init=False)
    #: The platform's operators: they ask for their own site only.
    operators: list[Asker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.askers = [Asker("nobody", None, Client())]
        for house in (self.home, self.away):
            self.askers += [Asker(name, house, house.clients[name]) for name in PEOPLE]
            players = [(name, house.machines[name]) for name in MACHINES]
            self.askers += [Asker(name, house, one.client, one.token) for name, one in players]
            self.operators += [Asker(name, house, house.operators[name]) for name in OPERATORS]

    def asker(self, name: str, house: House | None = None) -> Asker:
        """The one of that name at home, or in ``house``."""
        at = house or self.home
        return next(who for who in self.askers if who.name == name and who.house is at)

    def asked_for(self, row: Row) -> list[Asker]:
        """Who asks for an address. Those for whom the operator's site does not exist learn that
        first of all: one agency's people are enough there."""
        at_home = [who for who in self.askers if who.house is not self.away]
        here = self.operators + at_home if row.for_operators else at_home
        if row.right == NOT_ALLOWED:
            return in_turn(row, here)
        return here if row.for_operators else self.askers


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(f"permission matrix: {size()}")


@pytest.fixture(scope="package")
def world(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, valkey: EmbeddedValkey
) -> Iterator[World]:
    """Built once, inside a transaction that is rolled back at the end; time stands still."""
    _import_the_site()
    with redis.Redis.from_url(valkey.url) as client:
        for key in client.keys(f"{settings.SERVER_KEY_PREFIX}throttle:*"):
            client.delete(key)
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock(), transaction.atomic():
        real_now = clock.real_now()
        standing_still = {"domain_now": lambda: NOW, "real_now": lambda: real_now}
        clocks = {"now": clock.now, "domain_now": clock.now, "real_now": clock.real_now}
        ours = [m for name, m in sys.modules.items() if name.startswith(LAYERS)]
        for module in ours:
            for name, function in clocks.items():
                if getattr(module, name, None) is function:
                    patch.setattr(module, name, standing_still.get(name, lambda: NOW))
        # Thousands of refusals are asked for; nobody reads their tracebacks.
        patch.setattr(logging.getLogger("django.request"), "disabled", True)
        yield World(build("甲密", real_now), build("乙密", real_now))
        transaction.set_rollback(True)


def _import_the_site() -> None:
    """A module that is imported while time stands still would keep the clock that does."""
    BaseHandler().load_middleware()
    assert get_resolver().url_patterns
