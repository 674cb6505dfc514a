"""Somebody at a browser, who keeps every answer and follows every kind of link once."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx

_MOST_PAGES = 60


class Person:
    """Signed in by :meth:`send`; answers are kept by method and address."""

    def __init__(self, server: str, name: str) -> None:
        self.name = name
        self.http = httpx.Client(
            base_url=server,
            trust_env=False,
            follow_redirects=True,
            timeout=120,
            headers={"Referer": server},
        )
        self.answers: dict[str, bytes] = {}

    def get(self, address: str) -> httpx.Response:
        return self._kept(self.http.get(address))

    def send(self, address: str, *, page: str = "", **values: Any) -> httpx.Response:
        """Fill in the form at ``page``, or at ``address`` itself; ``file``: a sheet with it."""
        shown = self.get(page or address)
        found = re.search('name="csrfmiddlewaretoken" value="([^"]+)"', shown.text)
        assert found, f"no form at {address}: {shown.status_code}"
        file = values.pop("file", None)
        data = {"csrfmiddlewaretoken": found[1], **values}
        files = {"file": ("clients.xlsx", file)} if file is not None else None
        return self._kept(self.http.post(address, data=data, files=files))

    def walk(self, *starts: str) -> None:
        """A page of every kind that a link leads to, downloads and exports too."""
        todo = list(starts)
        kinds: set[str] = set()
        while todo and len(kinds) < _MOST_PAGES:
            address = todo.pop(0)
            if _kind(address) in kinds:
                continue
            kinds.add(_kind(address))
            page = self.get(address)
            todo += [
                link.replace("&amp;", "&")
                for link in re.findall('href="(/[^"#]*)"', page.text)
                if "/static/" not in link and "logout" not in link
            ]

    def _kept(self, answer: httpx.Response) -> httpx.Response:
        for each in (*answer.history, answer):
            said = each.request
            shown = "\n".join(f"{name}: {value}" for name, value in each.headers.items())
            at = f"{self.name} {said.method} {said.url.path} {len(self.answers)}"
            self.answers[at] = shown.encode() + b"\n" + each.content
        return answer


def _kind(address: str) -> str:
    """Addresses that differ in an id or a value only are of one kind."""
    parts = urlsplit(address)
    asked = ",".join(name for name, _value in parse_qsl(parts.query))
    return re.sub(r"\d+", "#", parts.path) + "?" + asked
