"""Every text for people has an English translation, and no translation outlives its text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog

from deploy.messages import LOCALE, collected, merged, messages, read, untranslated, write

HINT = "run: python -m deploy.messages, then translate in deploy/locale"
PLACES = re.compile(r"%\(\w+\)[sd]|\{\w*(?:![rs])?\}|<[^>]+>")
CATALOGUES = sorted(LOCALE.glob("*/LC_MESSAGES/django.po"))


@pytest.fixture(params=CATALOGUES, ids=lambda path: path.parts[-3])
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def catalogue(path: Path) -> Catalog:
    return read(path, path.parts[-3])


def test_there_is_an_english_catalogue() -> None:
    assert [path.parts[-3] for path in CATALOGUES] == ["en"]


def test_texts_are_found_in_all_layers_in_python_and_in_templates() -> None:
    found = {(name.split("/")[0], Path(name).suffix) for name, _message in messages()}

    assert found >= {
        (layer, suffix)
        for layer in ("agency", "devices", "clearing")
        for suffix in (".py", ".html")
    }


def test_no_text_is_missing_and_none_is_obsolete(path: Path) -> None:
    known = {message.id for message in catalogue(path)}
    wanted = {message.id for message in collected("en")}

    assert wanted - known == set(), HINT
    assert known - wanted == set(), HINT


def test_every_text_is_translated(path: Path) -> None:
    assert untranslated(catalogue(path)) == [], HINT
    assert [message.id for message in catalogue(path) if message.fuzzy and message.id] == []


def test_places_to_fill_in_are_the_same_in_the_translation(path: Path) -> None:
    for message in catalogue(path):
        if not message.id:
            continue
        wanted = sorted(PLACES.findall(_first(message.id)))
        forms = [message.string] if isinstance(message.string, str) else message.string or ()
        for form in forms:
            assert sorted(PLACES.findall(form)) == wanted, message.id


def test_translations_hold_no_chinese_but_the_words_of_sheets_and_search(path: Path) -> None:
    # Words a person has to type or to look for in Chinese.
    allowed = {"白盘", "黑盘", "反写", "企业名称", "税号", "数电"}
    allowed |= {"金税盘", "税控盘", "税务", "税控", "卡"}  # 税务UKey, 税控IC卡
    for message in catalogue(path):
        if not message.id:
            continue
        text = message.string if isinstance(message.string, str) else "".join(message.string or ())
        found = set(re.findall(r"[\u4e00-\u9fff]+", text or ""))
        assert found - allowed == set(), message.id


def test_a_new_text_stands_in_the_catalogue_empty_and_an_old_one_goes(tmp_path: Path) -> None:
    old, new = Catalog(locale="en"), Catalog(locale="en")
    old.add("留下", "stays")
    old.add("走了", "goes")
    new.add("留下")
    new.add("新来")
    write(tmp_path / "x.po", merged(old, new))

    kept = read(tmp_path / "x.po", "en")

    assert {message.id: message.string for message in kept if message.id} == {
        "留下": "stays",
        "新来": "",
    }
    assert untranslated(kept) == ["新来"]


def _first(message: str | list[str] | tuple[str, ...]) -> str:
    return message if isinstance(message, str) else message[0]
