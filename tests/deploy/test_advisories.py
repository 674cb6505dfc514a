"""The question about dependencies: what it fails for, and that it never fails offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from deploy import advisories

DJANGO = advisories.pins()["django"]
Handler = Callable[[httpx.Request], httpx.Response]


def services(
    *advised: dict[str, Any], exploited: tuple[str, ...] = (), asked: list[str] | None = None
) -> Handler:
    """OSV and CISA as they answer, about Django."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "www.cisa.gov":
            rows = [{"cveID": number} for number in exploited]
            return httpx.Response(200, json={"vulnerabilities": rows})
        if request.url.path == "/v1/querybatch":
            names = [query["package"]["name"] for query in json.loads(request.content)["queries"]]
            if asked is not None:
                asked.extend(names)
            ids = [{"id": entry["id"]} for entry in advised]
            answers = [{"vulns": ids} if name == "django" else {} for name in names]
            return httpx.Response(200, json={"results": answers})
        number = request.url.path.rpartition("/")[2]
        return httpx.Response(200, json=next(row for row in advised if row["id"] == number))

    return handle


def advice(number: str = "PYSEC-1", fixed: str = "99.1", **more: Any) -> dict[str, Any]:
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    return {
        "id": number,
        "aliases": ["CVE-2026-0001"],
        "affected": [
            {"package": {"name": "Django"}, "ranges": [{"type": "ECOSYSTEM", "events": events}]},
            {"package": {"name": "other"}, "ranges": [{"events": [{"fixed": "1.1"}]}]},
        ],
        **more,
    }


def run(handler: Handler) -> int:
    return advisories.main(httpx.Client(transport=httpx.MockTransport(handler)))


def test_every_pinned_package_is_asked_about() -> None:
    asked: list[str] = []
    assert run(services(asked=asked)) == 0
    assert sorted(asked) == sorted(advisories.pins())
    assert {"django", "django-allauth", "cryptography", "openpyxl", "lxml", "celery"} <= set(asked)


@pytest.mark.parametrize(
    ("exploited", "fixed", "status", "word"),
    [
        (("CVE-2026-0001",), "99.1", 1, "URGENT"),
        (("CVE-2026-0001",), "", 0, "no fix, known to be exploited"),
        ((), "99.1", 0, "known"),
        (("CVE-2026-9999",), "99.1", 0, "known"),
    ],
)
def test_it_fails_only_for_what_is_exploited_and_fixed_and_names_the_rest(
    capsys: pytest.CaptureFixture[str],
    exploited: tuple[str, ...],
    fixed: str,
    status: int,
    word: str,
) -> None:
    assert run(services(advice(fixed=fixed), exploited=exploited)) == status
    said = capsys.readouterr().out
    assert word in said
    assert f"django {DJANGO}: PYSEC-1 CVE-2026-0001" in said
    assert "1.1" not in said.replace("99.1", "")


def test_a_withdrawn_advisory_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    withdrawn = advice(withdrawn="2026-01-01T00:00:00Z")
    assert run(services(withdrawn, exploited=("CVE-2026-0001",))) == 0
    assert "0 known flaws" in capsys.readouterr().out


def _away(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no route", request=request)


@pytest.mark.parametrize(
    "handler",
    [
        _away,
        lambda _: httpx.Response(503),
        lambda _: httpx.Response(200, text="<html>captive portal</html>"),
        lambda _: httpx.Response(200, json=[]),
        lambda _: httpx.Response(200, json={}),
    ],
    ids=["offline", "down", "a portal", "a list", "nothing"],
)
def test_when_nobody_answers_it_says_that_nothing_was_asked_and_fails_nothing(
    capsys: pytest.CaptureFixture[str], handler: Handler
) -> None:
    assert run(handler) == 0
    assert "NOT ASKED" in capsys.readouterr().out
