"""Presses 一键抄报清卡 as a person does: signs in, reads the confirmation, starts.

Over HTTP, with cookies and CSRF like any browser; it knows the pages' addresses and nothing of the
database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import lxml.html

_SECONDS = 60.0


class PressError(RuntimeError):
    """The pages did not let it; the text is what they said."""


def press(
    server: str,
    username: str,
    password: str,
    *,
    action: str = "report_and_clear",
    companies: Sequence[int] = (),
) -> str:
    """Start ``action`` for these clients, for every client when none is named; the address of what
    was started. Raises PressError or httpx.HTTPError."""
    with httpx.Client(
        base_url=server,
        trust_env=False,
        follow_redirects=True,
        timeout=_SECONDS,
        headers={"Accept-Language": "zh-hans", "Referer": server},
    ) as browser:
        login = {"username": username, "password": password}
        signed_in = _send(browser, browser.get("/login"), "password", login)
        if signed_in.url.path == "/login":
            raise PressError("不能登录 (could not sign in)")
        ids = ",".join(map(str, companies))
        question = {"action": action, **({"company": ids} if ids else {"all": "1"})}
        answer = _send(browser, browser.get("/act/confirm", params=question), "key", {})
        if "batch" not in answer.url.params:
            raise PressError(_messages(answer) or f"没有开始批次 (nothing started): {answer.url}")
        return str(answer.url)


def _send(
    browser: httpx.Client, page: httpx.Response, field: str, values: Mapping[str, str]
) -> httpx.Response:
    """Fill in that form of the page which has ``field``, and send it."""
    page.raise_for_status()
    forms = [form for form in _tree(page).forms if field in form.fields]
    if len(forms) != 1:
        raise PressError(_messages(page) or f"页面没有可提交的表单 (no form): {page.url}")
    fields = dict(forms[0].form_values()) | dict(values)
    answer = browser.post(forms[0].action or str(page.url), data=fields)
    answer.raise_for_status()
    return answer


def _tree(page: httpx.Response) -> Any:
    return lxml.html.document_fromstring(page.text)  # its stubs know neither forms nor classes


def _messages(page: httpx.Response) -> str:
    found = _tree(page).find_class("message")
    return " ".join(" ".join(each.text_content().split()) for each in found)
