"""What a message in the broker may look like: which task, and ids. Everything else is strange."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_TEXT_ID = f'"{_ID}"'
_ARGUMENT = rf"(\d+|'{_ID}')"
_EMPTY = r"null|\[\]|\{\}|0|false"

TASK = "task"
#: Each header and property with the whole of what may stand there, as JSON.
HEADERS = {
    "lang": '"py"',
    TASK: r'"[a-z_]+\.[a-z_]+"',
    "id": _TEXT_ID,
    "root_id": _TEXT_ID,
    "parent_id": f"null|{_TEXT_ID}",
    "argsrepr": rf'"[(\[]({_ARGUMENT},? ?)*[)\]]"',
    "kwargsrepr": r'"\{\}"',
    "origin": r'"gen\d+@[\w.-]+"',
    "expires": r'null|"[0-9T:.+-]+"',
    "eta": r'null|"[0-9T:.+-]+"',
    "timelimit": r"\[(null|\d+), (null|\d+)\]",
    "ignore_result": "true|false",
    "celery_beat_task": "true",
    "redelivered": "true",
    "retries": r"\d+",
    **dict.fromkeys(
        ("shadow", "group", "group_index", "replaced_task_nesting", "stamps", "stamped_headers"),
        _EMPTY,
    ),
}
PROPERTIES = {
    "correlation_id": _TEXT_ID,
    "reply_to": _TEXT_ID,
    "delivery_tag": _TEXT_ID,
    "delivery_mode": "2",
    "priority": "0",
    "expiration": r'"\d+"|\d+',
    "body_encoding": '"base64"',
    "delivery_info": r'\{"exchange": "", "routing_key": "[a-z]+"(, "redelivered": true)?\}',
    "periodic_task_name": '"[a-z-]+"',
}
OUTSIDE = {
    "content-encoding": '"utf-8"',
    "content-type": '"application/json"',
}


def strange(message: Mapping[str, Any], tasks: set[str]) -> list[str]:
    """What of a message is neither a known task nor an id nor Celery's own, by its place."""
    parts = dict(message)
    headers, properties = parts.pop("headers"), parts.pop("properties")
    found = [
        *_unlike("", parts, {**OUTSIDE, "body": r'"[A-Za-z0-9+/=]+"'}),
        *_unlike("headers.", headers, HEADERS),
        *_unlike("properties.", properties, PROPERTIES),
    ]
    if headers.get(TASK) not in tasks:
        found.append("headers.task")
    args, kwargs, embedded = json.loads(base64.b64decode(parts["body"]))
    if any(not re.fullmatch(rf"\d+|{_ID}", str(each)) for each in args):
        found.append("args")
    if kwargs:
        found.append("kwargs")
    if any(embedded.values()):
        found.append("embedded")
    return found


def _unlike(where: str, values: Mapping[str, Any], allowed: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        if name not in allowed or not re.fullmatch(allowed[name], json.dumps(value)):
            yield where + name


def ever_sent(folder: Path) -> list[dict[str, Any]]:
    """Every message that was ever put into a queue, from the broker's own append-only file."""
    found = []
    for path in sorted(folder.rglob("*.aof")):
        for command in _commands(path.read_bytes()):
            if command[0].upper() in {b"LPUSH", b"RPUSH"}:
                found += [json.loads(each) for each in command[2:]]
    return found


def _commands(data: bytes) -> Iterator[list[bytes]]:
    """The commands of an append-only file: ``*n`` and n times ``$length`` and a text, CRLF."""
    at = 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        if data[at : at + 1] != b"*":  # a note of the broker's own
            at = end + 2
            continue
        count, at, parts = int(data[at + 1 : end]), end + 2, []
        for _ in range(count):
            end = data.index(b"\r\n", at)
            length = int(data[at + 1 : end])
            parts.append(data[end + 2 : end + 2 + length])
            at = end + 2 + length + 2
        yield parts
