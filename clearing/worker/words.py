"""The program's own texts in the language of whoever reads them.

Chinese is what the texts are written in; English comes from the one compiled catalogue, where it is
installed. Plain gettext, no Django.
"""

from __future__ import annotations

import gettext
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

CHINESE, ENGLISH = "zh", "en"
LANGUAGES = (CHINESE, ENGLISH)
LOCALE = Path(__file__).resolve().parents[2] / "deploy" / "locale"


class Words:
    """Looks texts up and fills them in."""

    def __init__(self, language: str = CHINESE, *, locale: Path = LOCALE) -> None:
        self.language = language
        self._catalogue: gettext.NullTranslations = gettext.NullTranslations()
        if language != CHINESE:
            self._catalogue = gettext.translation("django", locale, [language], fallback=True)

    def __call__(self, text: str, /, **values: object) -> str:
        """``text`` (marked by N_), translated, with its places filled in."""
        filled = {name: _plain(self.of(str(value))) for name, value in values.items()}
        return self.of(text).format_map(filled)

    def of(self, text: str) -> str:
        """``text`` as it is in the catalogue, places and all; anything else unchanged."""
        return self._catalogue.gettext(text) if text else ""


def language_of(environment: Mapping[str, str] = os.environ) -> str:
    """The reader's language: English where the system says so, else Chinese."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            return ENGLISH if value.startswith("en") else CHINESE
    return CHINESE


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes: a Chinese character takes two."""
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def padded(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))


def _plain(value: object) -> str:
    """Nothing that came from outside moves a terminal's cursor."""
    return "".join(char for char in str(value) if char.isprintable())
