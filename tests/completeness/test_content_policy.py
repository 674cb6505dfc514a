"""Every page carries the headers that bound it, and nothing in a page would need less of them."""

from __future__ import annotations

import re

from django.urls import get_resolver

from agency import edge
from agency.models import Agency
from tests.completeness.test_queries import Filled, plain_paths
from tests.conftest import MakeCompany, MakeDisk, Person

#: A script without a source, a style or a handler inside the page.
INLINE = re.compile(r"<script(?![^>]*\bsrc=)|<style\b|<[^>]+\s(style|on[a-z]+)=", re.IGNORECASE)

HEADERS = {
    "Referrer-Policy": "strict-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    **edge.HEADERS,
}


def test_every_page_says_that_nothing_inside_it_runs_and_holds_to_it(
    agency: Agency, owner: Person, make_company: MakeCompany, make_disk: MakeDisk
) -> None:
    filled = Filled(agency, owner, make_company, make_disk)
    filled.more(4)
    seen = 0
    more = (f"/companies/{filled.company.pk}", "/nothing-here", "/c/" + "x" * 43, "/join/x")
    for path in [*plain_paths(get_resolver().url_patterns), *more]:
        response = filled.get(path)
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert {"script-src 'self'", "default-src 'none'"} <= set(policy), path
        assert {name: response.headers[name] for name in HEADERS} == HEADERS, path
        assert "no-store" in response.headers["Cache-Control"], path
        assert not any("unsafe" in directive for directive in policy), path
        if response.headers.get("Content-Type", "").startswith("text/html"):
            assert not (found := INLINE.search(response.text)), (path, found)
            seen += response.status_code == 200
    assert seen > 10
