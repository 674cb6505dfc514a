"""What users and devices send can neither break a log line nor forge another."""

from __future__ import annotations

import logging
import sys

import pytest

import deploy.settings
from agency.logs import OneLine


def said(message: str, *args: object, failing: bool = False) -> str:
    error = sys.exc_info() if failing else None
    record = logging.LogRecord("x", logging.INFO, __file__, 1, message, args, error)
    return OneLine("%(levelname)s %(message)s").format(record)


@pytest.mark.parametrize("mark", ["\n", "\r", "\x1b", "\x00", "\x85", "\u2028", "\u202e"])
def test_a_control_character_is_written_out(mark: str) -> None:
    line = said("company %s", f"晨光{mark}INFO forged")
    assert mark not in line
    assert line.splitlines() == [line]
    assert "晨光" in line


def test_a_traceback_cannot_pass_for_a_line_of_its_own() -> None:
    try:
        raise ValueError("first\nINFO forged")
    except ValueError:
        text = said("failed", failing=True)
    head, *rest = text.splitlines()
    assert head == "INFO failed"
    assert rest
    assert all(line.startswith("  | ") for line in rest)


def test_the_servers_logs_are_formatted_so() -> None:
    formatters: dict[str, dict[str, str]] = vars(deploy.settings)["LOGGING"]["formatters"]
    assert {name: each["()"] for name, each in formatters.items()} == {
        "line": "deploy.logs.OneLine"
    }
