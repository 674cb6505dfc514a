"""The web server that deploy starts, as a process: what its log holds of a request."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from agency import client_links, clock
from agency.models import Agency
from agency.scope import agency_scope
from tests.conftest import MakeCompany

pytestmark = pytest.mark.committed
#: For a machine on which much else runs.
SECONDS = 100


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "web.log"


@pytest.fixture
def web(database: None, log: Path) -> Iterator[httpx.Client]:
    """A client of the running server, whose output goes to ``log``. The socket listens before the
    server starts: who comes early waits."""
    with socket.create_server(("127.0.0.1", 0)) as listening, log.open("wb") as output:
        bound = ("--bind", f"fd://{listening.fileno()}", "--no-control-socket")
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--config", "python:deploy.web", *bound],
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            pass_fds=[listening.fileno()],
            stdout=output,
            stderr=output,
        )
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            with httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as client:
                yield client
        finally:
            server.terminate()
            server.wait(SECONDS)


def told(log: Path, last: str) -> str:
    """The log once its last line is there: a line is written after its answer was sent."""
    until = time.monotonic() + SECONDS
    while last not in (text := log.read_text(encoding="utf-8")) and time.monotonic() < until:
        time.sleep(0.05)
    return text


def test_the_log_has_each_request_and_no_token(
    agency: Agency, make_company: MakeCompany, web: httpx.Client, log: Path
) -> None:
    company = make_company()
    with agency_scope(agency.pk):
        made = client_links.link_create(
            company=company, name="钱老板", by="周", now=clock.real_now()
        )
    wrong = "Wr0ng-" * 7 + "x"
    headers = {"Referer": f"http://127.0.0.1/c/{made.token}"}

    assert web.get(f"/c/{made.token}", headers=headers).status_code == 302
    assert web.get(f"/c/{wrong}", headers=headers).status_code == 404
    assert web.get(f"/join/{wrong}", headers=headers).status_code == 404
    assert web.get("/healthz?key=query-marker").status_code == 200

    text = told(log, '"GET /healthz" 200')
    for part in ('"GET /c/…" 302', '"GET /c/…" 404', '"GET /join/…" 404', '"GET /healthz" 200'):
        assert part in text
    for secret in (made.token, wrong, "query-marker"):
        assert secret not in text
