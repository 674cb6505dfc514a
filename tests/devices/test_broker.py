"""One account and one prefix per machine, on a real broker."""

from __future__ import annotations

import pytest
import redis
from django.conf import settings

from agency.models import Agency
from agency.scope import agency_scope
from clearing import bell
from deploy.embedded import EmbeddedValkey
from devices.broker import COMMANDS, drop_account, grant_account, prefix_of
from devices.models import Machine
from devices.services import machine_create


@pytest.fixture
def machines(agency: Agency) -> list[Machine]:
    with agency_scope(agency.pk):
        return [machine_create(agency=agency, name=name).machine for name in ("一", "二")]


def _client(url: str, valkey: EmbeddedValkey) -> redis.Redis:
    user, _, password = url.partition("//")[2].partition("@")[0].partition(":")
    return redis.Redis.from_url(valkey.url, username=user, password=password)


#: What a thief of an account would like to say to the broker; each is refused.
REFUSED = (
    *("KEYS *", "SCAN 0", "RANDOMKEY", "DBSIZE", "INFO", "MONITOR", "SHUTDOWN", "GET x", "SET x y"),
    *("CONFIG GET *", "CONFIG SET save x", "FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "SAVE"),
    *("ACL LIST", "ACL WHOAMI", "ACL SETUSER x on", "ACL DELUSER default"),
    *("EVAL return(1) 0", "EVALSHA x 0", "SCRIPT FLUSH", "FUNCTION LIST"),
    *("PUBLISH x y", "SUBSCRIBE x", "PSUBSCRIBE *", "SPUBLISH x y", "PUBSUB CHANNELS"),
    *("CLIENT LIST", "CLIENT KILL TYPE normal", "CLIENT PAUSE 1", "CLIENT NO-EVICT on"),
    *("REPLICAOF h 1", "SYNC", "MODULE LIST", "LATENCY LATEST", "SLOWLOG GET", "COMMAND COUNT"),
)


def test_an_account_may_say_what_celery_needs_and_nothing_else(
    machines: list[Machine], valkey: EmbeddedValkey
) -> None:
    account = machines[0].broker_account
    client = _client(grant_account(machines[0]), valkey)
    with redis.Redis.from_url(valkey.url) as admin:
        rules = admin.acl_getuser(account)
    assert set(rules["commands"]) == {f"+{name}" for name in COMMANDS}
    assert rules["categories"] == ["-@all"]
    assert [rules["keys"], rules["channels"], rules["selectors"]] == [[f"~{account}:*"], [], []]
    for command in REFUSED:
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*command.split())  # type: ignore[no-untyped-call]


def test_an_account_reaches_its_own_keys_and_no_others(
    machines: list[Machine], valkey: EmbeddedValkey
) -> None:
    first, second = machines
    client = _client(grant_account(first), valkey)
    assert client.llen(prefix_of(first.broker_account) + "bell") == 0
    for key in (
        prefix_of(second.broker_account) + "bell",
        second.broker_account,
        settings.SERVER_KEY_PREFIX + "celery",
        "bell",
    ):
        for command in ("LLEN", "SADD", "BRPOP", "LPUSH"):
            last = [] if command == "LLEN" else ["0"]
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(command, key, *last)  # type: ignore[no-untyped-call]


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


def test_the_queue_of_a_machine_that_hears_nothing_stays_as_short_as_its_work(
    machines: list[Machine], valkey: EmbeddedValkey
) -> None:
    account = machines[0].broker_account
    key = prefix_of(account) + bell.BELL_QUEUE
    with redis.Redis.from_url(valkey.url) as admin:
        for count, there in ((3, 3), (3, 3), (5, 5), (2, 5)):
            bell.send_bells(account, count)
            assert admin.llen(key) == there
        admin.lpop(key, 4)  # it hears again
        bell.send_bells(account, 3)
        assert admin.llen(key) == 3
