"""One account and one prefix per machine, on a real broker."""

from __future__ import annotations

import pytest
import redis

from agency.models import Agency
from agency.scope import agency_scope
from clearing import bell
from deploy.embedded import EmbeddedValkey
from devices.broker import drop_account, grant_account, prefix_of
from devices.models import Machine
from devices.services import machine_create


@pytest.fixture
def machines(agency: Agency) -> list[Machine]:
    with agency_scope(agency.pk):
        return [machine_create(agency=agency, name=name).machine for name in ("一", "二")]


def _client(url: str, valkey: EmbeddedValkey) -> redis.Redis:
    user, _, password = url.partition("//")[2].partition("@")[0].partition(":")
    return redis.Redis.from_url(valkey.url, username=user, password=password)


def test_an_account_reaches_its_own_keys_and_nothing_else(
    machines: list[Machine], valkey: EmbeddedValkey
) -> None:
    first, second = machines
    client = _client(grant_account(first), valkey)
    client.set(prefix_of(first.broker_account) + "x", "1")
    for key in (prefix_of(second.broker_account) + "x", "qingka:celery", "x"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.get(key)
    for command in (
        ["KEYS", "*"],
        ["FLUSHALL"],
        ["ACL", "LIST"],
        ["SUBSCRIBE", "x"],
        ["CONFIG", "GET", "*"],
    ):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command)  # type: ignore[no-untyped-call]


def test_a_dropped_account_cannot_sign_in_any_more(
    machines: list[Machine], valkey: EmbeddedValkey
) -> None:
    url = grant_account(machines[0])
    assert _client(url, valkey).ping()
    drop_account(machines[0].broker_account)
    with pytest.raises(redis.exceptions.AuthenticationError):
        _client(url, valkey).ping()


def test_a_bell_reaches_the_machine_it_is_for_and_no_other(
    machines: list[Machine], valkey: EmbeddedValkey
) -> None:
    first = machines[0]
    for machine in machines:
        grant_account(machine)
    bell.send_bells(first.broker_account, 2)
    with redis.Redis.from_url(valkey.url) as admin:
        waiting = [
            admin.llen(prefix_of(machine.broker_account) + bell.BELL_QUEUE) for machine in machines
        ]
    assert waiting == [2, 0]
