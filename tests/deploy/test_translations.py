"""Catalogues are compiled when, and only when, they have changed."""

from __future__ import annotations

import gettext
import os
from pathlib import Path

import pytest
from babel.messages.pofile import PoFileError

from deploy.translations import compile_catalogue, stale

HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'


def write(po: Path, text: str) -> Path:
    po.parent.mkdir(parents=True, exist_ok=True)
    po.write_text(HEADER + text, encoding="utf-8")
    return po


def test_a_catalogue_is_stale_until_compiled_and_again_after_a_change(tmp_path: Path) -> None:
    po = write(tmp_path / "app/locale/en/LC_MESSAGES/django.po", 'msgid "抄报"\nmsgstr "report"\n')
    assert stale(tmp_path) == [po]

    compile_catalogue(po)
    assert stale(tmp_path) == []

    newer = po.stat().st_mtime + 10
    os.utime(po, (newer, newer))
    assert stale(tmp_path) == [po]


def test_the_projects_own_locale_folder_counts_too(tmp_path: Path) -> None:
    po = write(tmp_path / "locale/zh_Hans/LC_MESSAGES/django.po", "")
    compile_catalogue(po)
    assert po.with_suffix(".mo").exists()


def test_translations_are_found_and_doubtful_ones_left_out(tmp_path: Path) -> None:
    po = write(
        tmp_path / "app/locale/en/LC_MESSAGES/django.po",
        'msgid "抄报"\nmsgstr "report"\n\n#, fuzzy\nmsgid "清卡"\nmsgstr "wash"\n',
    )
    compile_catalogue(po)
    with po.with_suffix(".mo").open("rb") as compiled:
        catalogue = gettext.GNUTranslations(compiled)
    assert catalogue.gettext("抄报") == "report"
    assert catalogue.gettext("清卡") == "清卡"


def test_a_broken_catalogue_is_refused(tmp_path: Path) -> None:
    po = write(tmp_path / "app/locale/en/LC_MESSAGES/django.po", 'msgid "抄报"\nnonsense\n')
    with pytest.raises(PoFileError):
        compile_catalogue(po)
    assert not po.with_suffix(".mo").exists()
