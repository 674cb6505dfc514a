"""The server's log lines: as everywhere (``agency.logs``), and addresses that hold a secret of
their own are written without it."""

from __future__ import annotations

from agency import logs
from agency.edge import without_token


class OneLine(logs.OneLine):
    """For the web server and the server's worker."""

    def shown(self, text: str) -> str:
        return super().shown(without_token(text))
