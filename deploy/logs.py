"""One event, one line: what users or devices sent cannot break a log line nor forge another.

Addresses that hold a secret of their own are written without it.
"""

from __future__ import annotations

import logging
import re

from agency.edge import without_token

# C0, DEL and C1, the line and paragraph separators, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """``text`` with every control character written out."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class OneLine(logging.Formatter):
    """The message on one line; a traceback follows it, each line behind a bar."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return plain(without_token(super().formatMessage(record)))

    def format(self, record: logging.LogRecord) -> str:
        head, *rest = super().format(record).splitlines() or [""]
        return "\n".join([head, *(f"  | {plain(without_token(line))}" for line in rest)])
