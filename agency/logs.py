"""One event, one line: what users or devices sent cannot break a log line nor forge another.

For the server and for the reader machine's program alike, so it knows neither Django nor Celery.
"""

from __future__ import annotations

import logging
import re

LINE = "%(asctime)s %(levelname)s %(name)s %(message)s"
# C0, DEL and C1, the line and paragraph separators, and what turns the direction of writing.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """``text`` with every control character written out."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


class OneLine(logging.Formatter):
    """The message on one line; a traceback follows it, each line behind a bar."""

    def shown(self, text: str) -> str:
        """``text`` as it may stand in a line."""
        return plain(text)

    def formatMessage(self, record: logging.LogRecord) -> str:
        return self.shown(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        head, *rest = super().format(record).splitlines() or [""]
        return "\n".join([head, *(f"  | {self.shown(line)}" for line in rest)])


def log_to_stderr() -> None:
    """The logging of a program that has no settings: everything from INFO on, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(LINE))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request
