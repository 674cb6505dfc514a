"""A real browser against the real site: Debian's Chromium, the tests' own PostgreSQL.

The site runs in threads of the test process, so that a test can change the database while a page
is open; data are committed, each test's in an agency of its own (marker ``committed``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from django.core.wsgi import get_wsgi_application
from django.db import connections
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.conftest import PASSWORD, Person

CHROMIUM = Path("/usr/bin/chromium")
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
def sign_in(site: str, browser: Browser) -> SignIn:
    """``sign_in(person, width=…, javascript=…)``: a page of the site, signed in by the form.

    The test fails on any script error, anything the content policy stops, and any request to
    another host."""

    def start(
        person: Person, *, width: int = 1440, dark: bool = False, javascript: bool = True
    ) -> Page:
        context = browser.new_context(
            base_url=site,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            locale="zh-CN",
            java_script_enabled=javascript,
        )
        page = context.new_page()
        page.on("console", refuse_what_the_policy_stopped)
        page.on("pageerror", lambda error: pytest.fail(f"script error: {error}"))
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(site)
                   else pytest.fail(f"foreign host: {route.request.url}"))  # fmt: skip
        page.goto("/login")
        page.get_by_label("账号").fill(person.user.username)
        page.get_by_label("登录口令").fill(PASSWORD)
        page.get_by_role("button", name="登录").click()
        page.wait_for_url(f"{site}/")
        return page

    return start


def refuse_what_the_policy_stopped(message: ConsoleMessage) -> None:
    if "Content Security Policy" in message.text:
        pytest.fail(message.text)
