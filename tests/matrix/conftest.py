"""One world of two agencies for all cells; each cell is undone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import redis
from django.conf import settings
from django.db import transaction
from django.test import Client
from pytest_django.plugin import DjangoDbBlocker

from agency import clock
from deploy.embedded import EmbeddedValkey
from tests.conftest import NOW
from tests.matrix.asking import Asker
from tests.matrix.rights import Row
from tests.matrix.world import House, build


@dataclass
class World:
    """``home`` is where most questions are asked; ``away`` has nothing to do with it."""

    home: House
    away: House

    def askers(self) -> list[Asker]:
        """Everybody who asks: nobody, the people and machines of both agencies."""
        found = [Asker("nobody", None, Client())]
        for house in (self.home, self.away):
            found += [Asker(name, house, client) for name, client in house.clients.items()]
            found += [
                Asker(name, house, player.client, player.token)
                for name, player in house.machines.items()
                if name != "lost_machine"
            ]
        return found

    def operators(self) -> list[Asker]:
        """The platform's operators: they ask for their own site only."""
        return [
            Asker(name, house, client)
            for house in (self.home, self.away)
            for name, client in house.operators.items()
        ]

    def asked_for(self, row: Row) -> list[Asker]:
        """Who asks for an address. Those for whom the operator's site does not exist learn that
        before method and object are looked at: two methods and one agency's people are enough."""
        if not row.for_operators:
            return self.askers()
        others = [who for who in self.askers() if who.house is not self.away]
        return self.operators() + (others if row.method in {"GET", "POST"} else [])


@pytest.fixture(scope="package")
def world(
    django_db_setup: None, django_db_blocker: DjangoDbBlocker, valkey: EmbeddedValkey
) -> Iterator[World]:
    """Built once, inside a transaction that is rolled back at the end; time stands still."""
    with redis.Redis.from_url(valkey.url) as client:
        for key in client.keys(f"{settings.SERVER_KEY_PREFIX}throttle:*"):
            client.delete(key)
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock(), transaction.atomic():
        real_now = clock.real_now()
        patch.setattr(clock, "now", lambda: NOW)
        patch.setattr(clock, "real_now", lambda: real_now)
        patch.setattr("clearing.api.machine.domain_now", lambda: NOW)
        patch.setattr("clearing.api.machine.real_now", lambda: real_now)
        yield World(build("甲密", real_now), build("乙密", real_now))
        transaction.set_rollback(True)
