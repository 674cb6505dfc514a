"""One Redis account and one key prefix per reader machine.

A message to a machine is a bell: it carries nothing that matters. The account reaches only keys
below its own prefix, no channel, and only the commands that Celery's transport needs.
"""

from __future__ import annotations

import secrets
from urllib.parse import quote, urlsplit, urlunsplit

import redis
from django.conf import settings

from devices.models import Machine

#: What kombu says for a worker that hears one queue, with ``ack_emulation`` off, and no more: no
#: scripts, no channels, no listing of keys, and of the connection's commands only those that
#: concern itself. A category is never granted: the broker's next version may put more into it.
COMMANDS = (
    *("ping", "client|setinfo"),
    "select",  # where the broker's address names a database
    *("multi", "exec"),
    *("llen", "sadd", "brpop"),  # declares the queue, binds it, waits at it
    "lpush",  # puts back at the end what was taken and not begun
)


def prefix_of(account: str) -> str:
    """The key prefix of a machine's account."""
    return f"{account}:"


def grant_account(machine: Machine) -> str:
    """Create the machine's account, or give it a new password; returns its broker URL.

    The URL holds the password: it goes to the machine and is kept nowhere else. Raises
    redis.RedisError when the broker is away."""
    password = secrets.token_urlsafe(32)
    rules = [
        "reset",
        "on",
        f">{password}",
        "resetchannels",
        f"~{prefix_of(machine.broker_account)}*",
    ]
    rules += [f"+{name}" for name in COMMANDS]
    _execute("ACL", "SETUSER", machine.broker_account, *rules)
    return _with_credentials(
        settings.MACHINE_BROKER_URL or settings.REDIS_URL, machine.broker_account, password
    )


def drop_account(account: str) -> None:
    """Remove the account; open connections of it are closed by the broker. Removing one that is
    not there is no error. Raises redis.RedisError when the broker is away."""
    _execute("ACL", "DELUSER", account)


def _execute(*command: str) -> None:
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=5
    ) as client:
        client.execute_command(*command)
        try:
            client.execute_command("ACL", "SAVE")
        except redis.ResponseError:
            # No ACL file is configured: the account lives until the broker restarts, and
            # whoever runs the broker keeps the accounts in its own configuration.
            return


def _with_credentials(url: str, account: str, password: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return urlunsplit(
            ("redis+socket", f"{quote(account)}:{quote(password)}@", parts.path, parts.query, "")
        )
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(
        (parts.scheme, f"{quote(account)}:{quote(password)}@{host}", parts.path, parts.query, "")
    )
