"""Collects the texts to translate: ``python -m deploy.messages`` merges them into the catalogues.

A msgid is the Chinese text itself: in Python marked by ``_``, ``gettext``, ``gettext_lazy``,
``ngettext`` or, in the pure parts, ``N_``; in templates by the tags of Django's ``i18n``. Needs no
gettext programs. Translations of texts that are gone are dropped; new ones stand there empty, and
``tests/completeness/test_translations.py`` fails until somebody fills them in.
"""

from __future__ import annotations

import datetime as dt
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.pofile import read_po, write_po

ROOT = Path(__file__).resolve().parent.parent
LOCALE = ROOT / "deploy" / "locale"
PACKAGES = ("agency", "devices", "clearing", "deploy")
_KEYWORDS: dict[str, tuple[int, ...] | None] = {
    "_": None,
    "N_": None,
    "gettext": None,
    "gettext_lazy": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
}

# A date in the head would change the file at every run.
_NO_DATE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

Message = str | tuple[str, ...]


def messages(root: Path = ROOT) -> Iterator[tuple[str, Message]]:
    """(file, msgid) of every marked text, in a stable order; a plural one is a pair."""
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix == ".py" and "migrations" not in path.parts:
                source = path.read_bytes()
            elif path.suffix == ".html" and "templates" in path.parts:
                source = _as_python(path)
            else:
                continue
            name = str(path.relative_to(root))
            for _line, message, _comments, _context in extract(
                "python", io.BytesIO(source), keywords=_KEYWORDS
            ):
                if message:
                    yield name, message


def _as_python(path: Path) -> bytes:
    """A template as calls of gettext, the way ``makemessages`` sees it."""
    from django.utils.translation.template import templatize

    calls = templatize(path.read_text(encoding="utf-8"), origin=str(path))
    # Blanked-out markup keeps its indentation, which means nothing to Python.
    return "\n".join(line.strip() for line in calls.splitlines()).encode()


def collected(locale: str, root: Path = ROOT) -> Catalog:
    """A catalogue of every marked text, untranslated."""
    catalogue = Catalog(
        locale=locale,
        project="qingka",
        fuzzy=False,
        header_comment="# Texts of Qingka (清卡台). Written by python -m deploy.messages.",
        creation_date=_NO_DATE,
        revision_date=_NO_DATE,
        last_translator="Qingka",
        language_team="Qingka",
        msgid_bugs_address="Qingka",
    )
    for name, message in messages(root):
        catalogue.add(message, locations=[(name, 0)])
    return catalogue


def read(path: Path, locale: str) -> Catalog:
    if not path.exists():
        return Catalog(locale=locale)
    with path.open("rb") as file:
        return read_po(file, locale=locale)


def merged(old: Catalog, new: Catalog) -> Catalog:
    """``new`` with the translations of ``old``."""
    for message in new:
        known = old.get(message.id) if message.id else None
        if known is not None:
            message.string = known.string
    return new


def untranslated(catalogue: Catalog) -> list[Message]:
    """The msgids without a translation, or with a plural form missing."""
    found: list[Message] = []
    for message in catalogue:
        forms = message.string or ""
        if message.id and not (forms if isinstance(forms, str) else all(forms)):
            found.append(message.id if isinstance(message.id, str) else tuple(message.id))
    return found


def write(path: Path, catalogue: Catalog) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        # No line numbers, no dates: a text that moves is no change.
        write_po(file, catalogue, omit_header=False, include_lineno=False, width=100)


def main() -> int:
    for folder in sorted(LOCALE.iterdir()):
        path = folder / "LC_MESSAGES" / "django.po"
        catalogue = merged(read(path, folder.name), collected(folder.name))
        write(path, catalogue)
        empty = untranslated(catalogue)
        print(f"{path.relative_to(ROOT)}: {len(catalogue)} texts, {len(empty)} untranslated")
        for text in empty:
            print(f"  {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
