"""Finds secrets where they may not be: every form of some bytes, in files, texts and answers.

Knows nothing of what is searched. A form that a search cannot see (compressed, sealed) is no leak.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
import threading
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import redis

Secret = str | bytes
_SHORTEST = 256
_PADDING = re.compile(rb"\0{%d,}" % _SHORTEST)


def forms(secret: Secret) -> set[bytes]:
    """How a secret may stand in a file: as text in several encodings, escaped for JSON, an address
    or a page, in hexadecimal, in base64 at each of the three places within a group of bytes."""
    if isinstance(secret, bytes):
        return {secret, *_encoded(secret)}
    raw = secret.encode()
    texts = {secret, html.escape(secret), quote(secret), quote(secret, safe="")}
    texts |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    found = {text.encode() for text in texts}
    found |= {secret.encode("utf-16-le"), secret.encode("utf-16-be"), secret.encode("gb18030")}
    return found | _encoded(raw) | _encoded(secret.encode("gb18030"))


def _encoded(raw: bytes) -> set[bytes]:
    found = {raw.hex().encode(), raw.hex().upper().encode()}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw)
        # The characters at both ends hold bits of the neighbours, too.
        start = -(-before * 8 // 6)
        end = (before + len(raw)) * 8 // 6
        found |= {encoded[start:end], base64.urlsafe_b64encode(bytes(before) + raw)[start:end]}
    return found


class Searcher:
    """Looks for some secrets, each known by its name: no report shows one."""

    def __init__(self, secrets: dict[str, Secret]) -> None:
        self._forms = {name: forms(secret) for name, secret in secrets.items()}

    def found(self, data: bytes) -> list[str]:
        """The names of the secrets that stand in ``data`` in any form."""
        return [
            name for name, several in self._forms.items() if any(form in data for form in several)
        ]

    def in_files(self, root: Path, *, spared: Iterable[Path] = ()) -> Iterator[tuple[str, str]]:
        """(file, name of the secret) below ``root``, but for what is spared."""
        kept = {path.absolute() for path in spared}
        for path in sorted(root.absolute().rglob("*")):
            if path.is_symlink() or not path.is_file() or kept & {path, *path.parents}:
                continue
            # Files of a database are padded with zeros, and no form has many in a row.
            for name in self.found(_PADDING.sub(bytes(_SHORTEST), path.read_bytes())):
                yield str(path.relative_to(root.absolute())), name


def broker_keys(url: str) -> dict[str, bytes]:
    """All that lies in a broker, key by key."""
    found: dict[str, bytes] = {}
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter():
            match client.type(key):
                case b"list":
                    parts = client.lrange(key, 0, -1)
                case b"set":
                    parts = sorted(client.smembers(key))
                case b"hash":
                    parts = [each for pair in client.hgetall(key).items() for each in pair]
                case b"zset":
                    parts = client.zrange(key, 0, -1)
                case _:
                    parts = [client.get(key) or b""]
            found[key.decode()] = b"\n".join(parts)
    return found


class ProcessWatch:
    """What processes show of themselves to every other: their arguments and environment.

    Looks again and again, for most live only for a moment. ``mark``: of an environment to watch."""

    def __init__(self, mark: str) -> None:
        self.seen: set[bytes] = set()
        self._mark = mark.encode()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def saw(self, words: Collection[bytes]) -> bool:
        return all(any(word in shown for shown in self.seen) for word in words)

    def _watch(self) -> None:
        while not self._ended.wait(0.15):
            for name in os.listdir("/proc"):
                if name.isdecimal() and int(name) != os.getpid():
                    self._look(Path("/proc") / name)

    def _look(self, process: Path) -> None:
        try:
            environment = (process / "environ").read_bytes()
            if self._mark in environment:
                self.seen.add((process / "cmdline").read_bytes() + b"\n" + environment)
        except OSError:  # gone, or somebody else's
            return
