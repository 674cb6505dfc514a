"""Bounded guessing, with the broker there and without it; and whose address counts."""

from __future__ import annotations

import uuid
from ipaddress import ip_network

import pytest
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.test import Client

from agency import throttle
from agency.throttle import Limit, address_of, forget, may_try
from deploy.embedded import EmbeddedValkey
from tests.conftest import PASSWORD, Person


@pytest.fixture(params=["broker", "memory"])
def limit(
    request: pytest.FixtureRequest, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> Limit:
    if request.param == "memory":
        monkeypatch.setattr(settings, "REDIS_URL", "unix:///nowhere/at/all")
    return Limit(f"test-{uuid.uuid4().hex}", 3, 60)


def test_so_many_tries_and_no_more_and_others_are_not_concerned(limit: Limit) -> None:
    assert [may_try(limit, "a", "1") for _ in range(5)] == [True, True, True, False, False]
    assert may_try(limit, "a", "2")
    assert not may_try(limit, "A", "1")  # the same account, typed otherwise


def test_a_success_begins_anew(limit: Limit) -> None:
    for _try in range(3):
        may_try(limit, "a")
    forget(limit, "a")
    assert may_try(limit, "a")


def test_a_count_ends_by_itself(valkey: EmbeddedValkey) -> None:
    limit = Limit(f"test-{uuid.uuid4().hex}", 1, 60)
    may_try(limit, "a")
    with throttle._redis() as client:
        (key,) = client.keys(f"*{limit.name}*")
        assert 0 < client.ttl(key) <= 60


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", "", "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not our proxy: its word is nothing
        ("127.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "192.0.2.7, 198.51.100.1", "198.51.100.1"),  # what the proxy wrote, not the client
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
def test_an_address_is_the_one_that_our_own_proxy_saw(
    peer: str, forwarded: str, address: str
) -> None:
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = peer
    if forwarded:
        request.META["HTTP_X_FORWARDED_FOR"] = forwarded
    assert address_of(request) == address


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("10.0.0.5", "198.51.100.1", "198.51.100.1"),
        ("10.0.1.77", "192.0.2.7, 198.51.100.1, 10.0.0.5", "198.51.100.1"),  # two of our own
        ("10.0.0.5", "10.0.1.9", "10.0.1.9"),  # from inside
        ("10.0.0.6", "198.51.100.1", "10.0.0.6"),
        ("127.0.0.1", "198.51.100.1", "127.0.0.1"),  # not in this list
        ("", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.5", "not an address", "not an address"),
    ],
)
def test_proxies_elsewhere_are_believed_when_the_settings_name_them(
    peer: str, forwarded: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [ip_network("10.0.0.5"), ip_network("10.0.1.0/24")]
    monkeypatch.setattr(settings, "PROXIES", named)
    request = HttpRequest()
    request.META |= {"REMOTE_ADDR": peer, "HTTP_X_FORWARDED_FOR": forwarded}
    assert address_of(request) == address


def sign_in(client: Client, person: Person, password: str) -> str:
    values = {"username": person.user.username, "password": password}
    return client.post("/login", values, follow=True).content.decode()


def test_signing_in_is_bounded_per_account_and_address(bookkeeper: Person, owner: Person) -> None:
    guesser, elsewhere = Client(REMOTE_ADDR="203.0.113.1"), Client(REMOTE_ADDR="203.0.113.2")
    for _guess in range(throttle.LOGIN.tries):
        assert "账号或口令不对" in sign_in(guesser, bookkeeper, "guess")

    assert "登录尝试次数过多" in sign_in(guesser, bookkeeper, PASSWORD)
    assert "本月清卡" in sign_in(guesser, owner, PASSWORD)
    assert "本月清卡" in sign_in(elsewhere, bookkeeper, PASSWORD)  # nobody is locked out


def test_a_person_who_knows_the_password_is_never_stopped(bookkeeper: Person) -> None:
    for _day in range(throttle.LOGIN.tries + 2):
        assert "本月清卡" in sign_in(Client(REMOTE_ADDR="203.0.113.3"), bookkeeper, PASSWORD)


@pytest.fixture(autouse=True)
def _empty_memory() -> None:
    cache.clear()
