"""A real browser against the real site: Debian's Chromium, the tests' own PostgreSQL.

The site runs in threads of the test process, so that a test can change the database while a page
is open; data are committed, each test's in an agency of its own (marker ``committed``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from django.core.wsgi import get_wsgi_application
from django.db import connections
from playwright.sync_api import Browser, ConsoleMessage, Page, Route, sync_playwright

from tests.conftest import PASSWORD, Person

CHROMIUM = Path("/usr/bin/chromium")
POLICY = "Content Security Policy"
NewPage = Callable[..., Page]
SignIn = Callable[..., Page]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 50

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            connections.close_all()


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are no news."""


@pytest.fixture
def site(database: None) -> Iterator[str]:
    """The address of the running site."""
    application = get_wsgi_application()
    server = make_server("127.0.0.1", 0, application, _Server, _Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} is missing (apt-get install chromium)")
    # Playwright runs an event loop in this thread; the tests' own queries are not part of it.
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def new_page(site: str, browser: Browser) -> Iterator[NewPage]:
    """``new_page(width=…, javascript=…)``: a fresh browser profile at the site, nobody signed in.

    The test fails on any error in its console (a script's, or what the content policy stops) and
    on any request to another host."""
    troubles: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" or POLICY in message.text:
            troubles.append(message.text)

    def at_home_only(route: Route) -> None:
        if route.request.url.startswith(site):
            route.continue_()
        else:
            troubles.append(f"foreign host: {route.request.url}")
            route.abort()

    def start(*, width: int = 1440, dark: bool = False, javascript: bool = True) -> Page:
        context = browser.new_context(
            base_url=site,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            locale="zh-CN",
            java_script_enabled=javascript,
        )
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: troubles.append(f"script error: {error}"))
        page.route("**/*", at_home_only)
        return page

    yield start
    assert troubles == []


@pytest.fixture
def sign_in(site: str, new_page: NewPage) -> SignIn:
    """``sign_in(person, width=…, javascript=…)``: a new page, signed in by the form."""

    def start(person: Person, **how: Any) -> Page:
        page = new_page(**how)
        page.goto("/login")
        send_password(page, person.user.username)
        page.wait_for_url(f"{site}/")
        return page

    return start


def send_password(page: Page, username: str) -> None:
    """Fill in the sign-in page and send it."""
    page.get_by_label("账号").fill(username)
    page.get_by_label("登录口令").fill(PASSWORD)
    page.get_by_role("button", name="登录").click()


def refuse_what_the_policy_stopped(message: ConsoleMessage) -> None:
    if POLICY in message.text:
        pytest.fail(message.text)
