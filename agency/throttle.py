"""Bounded guessing: how often something may be tried from one place in a while.

Counts live in Redis, shared by all server processes, and end by themselves. With Redis away each
process counts for itself (the cache of Django's default, in memory): a person can still sign in,
and a guesser gains a factor of the number of processes, no more.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from dataclasses import dataclass

import redis
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``tries`` within ``seconds``, counted from the first."""

    name: str
    tries: int
    seconds: int

    @property
    def minutes(self) -> int:
        return self.seconds // 60


LOGIN = Limit("login", 10, 900)
# Each person's own password, asked once more before secrets and PINs.
OWN_PASSWORD = Limit("own_password", 5, 900)
# The second factor and the recovery codes: six or eight digits bear no more.
SECOND_FACTOR = Limit("second_factor", 5, 900)
# A code that was taken is not taken again while it would still be right.
CODE_ONCE = Limit("code_once", 1, 120)
# Invitations and clients' links have 256 bits; as for the enrolment code.
LINK_FROM_ONE_PLACE = Limit("link", 30, 600)
# The one who is invited chooses a name of an account: not many, or they would learn which exist.
JOIN_BY_ONE_INVITATION = Limit("join", 10, 3600)
JOIN_FROM_ONE_PLACE = Limit("join_place", 30, 3600)
# A code has 72 bits and ten minutes; this only keeps a guesser from keeping us busy.
ENROL_FROM_ONE_PLACE = Limit("enrol", 20, 600)
ENROL_ALTOGETHER = Limit("enrol_all", 600, 600)


def may_try(limit: Limit, *who: object) -> bool:
    """Count one more try and say whether it may go on; called before the guess is looked at."""
    key = _key(limit, who)
    try:
        with _redis() as client:
            count = int(client.incr(key))
            if count == 1 or client.ttl(key) < 0:
                client.expire(key, limit.seconds)
    except redis.RedisError as error:
        log.warning("throttle counts in memory: %s", type(error).__name__)
        cache.add(key, 0, limit.seconds)
        count = cache.incr(key)
    return count <= limit.tries


def forget(limit: Limit, *who: object) -> None:
    """After a success: begin anew."""
    key = _key(limit, who)
    cache.delete(key)
    try:
        with _redis() as client:
            client.delete(key)
    except redis.RedisError:
        return  # the count ends by itself


def address_of(request: HttpRequest) -> str:
    """The address a request came from. Behind our own proxies (``settings.PROXIES`` or a socket)
    that is the last entry of X-Forwarded-For that none of them has, the one that the first of them
    wrote; what a client put before it is not asked."""
    address = str(request.META.get("REMOTE_ADDR", ""))
    written = request.headers.get("X-Forwarded-For", "").split(",")
    while written and _is_own_proxy(address):
        address = written.pop().strip() or address
    return address


def _is_own_proxy(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address == ""  # a socket
    return any(found in network for network in settings.PROXIES)


def _key(limit: Limit, who: tuple[object, ...]) -> str:
    """Names and addresses are hashed: whoever reads the broker learns no account."""
    digest = hashlib.sha256("\x00".join(str(part).lower() for part in who).encode()).hexdigest()
    return f"{settings.SERVER_KEY_PREFIX}throttle:{limit.name}:{digest[:32]}"


def _redis() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1, retry=None
    )
