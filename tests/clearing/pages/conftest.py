"""All pages of these tests are looked at on the same morning of a filing window."""

from __future__ import annotations

import pytest

from agency import clock
from tests.conftest import NOW


@pytest.fixture(autouse=True)
def _morning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
