"""What holds for every request: how long it may be, and which powers a page has."""

from __future__ import annotations

import io

import pytest
from django.conf import settings
from django.test import Client, override_settings

from agency import edge
from agency.edge import without_token

TOKEN = "Ab3-" * 10 + "x_9"


def send(length: str) -> int:
    """A form that says it is so long. Only what it says is looked at: nothing is read."""
    body = {"wsgi.input": io.BytesIO(b"username=x"), "CONTENT_LENGTH": length}
    said = Client().generic("POST", "/login", content_type="multipart/form-data", **body)  # type: ignore[arg-type]
    return said.status_code


@pytest.mark.parametrize("length", [str(edge.LONGEST + 1), "9" * 5000, "-1", "0x10", "1 2"])
def test_a_request_that_is_too_long_or_says_no_length_is_not_read(length: str) -> None:
    assert send(length) == 413


@pytest.mark.usefixtures("database")
def test_a_shorter_one_comes_to_the_page() -> None:
    assert Client().post("/login", {"username": "x" * 1000}).status_code == 200


def test_who_is_refused_reads_why_and_the_answer_has_the_headers_too() -> None:
    answer = Client().generic(
        "POST",
        "/import/",
        **{"wsgi.input": io.BytesIO(b""), "CONTENT_LENGTH": str(edge.LONGEST + 1)},  # type: ignore[arg-type]
    )
    assert "超过 32 MB" in answer.text
    assert answer["Cache-Control"] == "no-store"
    assert answer["Permissions-Policy"]


def test_the_limit_comes_before_everything_that_might_read() -> None:
    assert settings.MIDDLEWARE[0] == "agency.edge.EdgeMiddleware"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"Not Found: /c/{TOKEN}", "Not Found: /c/…"),
        (f"https://x.cn/join/{TOKEN}?a=1", "https://x.cn/join/…?a=1"),
        (f"/c/%41{TOKEN}", "/c/…"),
        ("/renew/1a-c2d3e4-0123456789abcdef0123456789abcdef", "/renew/…"),
        ("/companies/12/links", "/companies/12/links"),
    ],
)
def test_the_secret_of_an_address_is_written_nowhere(said: str, kept: str) -> None:
    assert without_token(said) == kept


@pytest.mark.usefixtures("database")
@override_settings(SECURE_SSL_REDIRECT=True)
def test_the_machine_api_does_not_send_a_token_on_to_tls() -> None:
    path, token = "/machine/v1/presence", {"Authorization": "Machine x"}
    plain = Client().post(path, headers=token)
    assert (plain.status_code, plain.json()) == (403, {"error": "https_only"})
    assert Client().get("/login").status_code == 301
    assert Client().post(path, headers=token, secure=True).status_code == 401
