"""``list``, ``read`` and ``labels``: real disks, nothing sent that changes or costs anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo

from clearing.worker.__main__ import main
from clearing.worker.hardware import Component
from clearing.worker.labels import Label, html_sheet, labels_of, text_sheet
from clearing.worker.rungs import Rung
from clearing.worker.showing import list_text, look_round, read_slot, read_text, said_of
from clearing.worker.words import Words, language_of, padded, width_of
from tests.clearing.worker.fake_server import TOKEN
from tests.clearing.worker.house import PIN, House

Run = Callable[..., int]


@pytest.fixture
def words() -> Words:
    return Words()


@pytest.fixture
def run(house: House, tmp_path: Path) -> Run:
    path = tmp_path / "reader.toml"
    path.touch(0o600)
    path.write_text(
        f'server = "{house.server.url}"\ntoken = "{TOKEN}"\ndata_dir = "{house.data_dir}"\n'
        f'rack_socket = "{house.socket}"\nname = "三楼"\n'
        f'only_slots = ["{house.alices.slot}", "{house.bobs.slot}"]\n'
    )
    return lambda command, *more: main([command, "--config", str(path), "--lang", "zh", *more])


def test_the_list_says_who_is_where_and_no_password(
    house: House, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    house.rack.pull(house.bobs.slot)
    assert run("list") == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].split()[:3] == ["盘位", "设备编号", "税号"]
    assert house.alices.device_no in lines[1] and house.alices.tax_id in lines[1]
    assert "税控 IC 卡" in lines[1]
    assert lines[2].split() == [house.bobs.slot, "–"]
    assert PIN.decode() not in said
    assert house.writes() == []


def test_a_disk_in_a_run_is_left_to_it(house: House, words: Words) -> None:
    with house.places.hold_slot(house.alices.slot) as ours:
        assert ours
        found = look_round(house.config, words)
    assert said_of(found[house.alices.slot]["problem"], words) == "正在办理或被占用"
    assert found[house.bobs.slot]["device_no"] == house.bobs.device_no
    assert house.commands() == []


def test_read_shows_identity_and_control_data_and_writes_nothing(
    house: House, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("read", house.alices.slot) == 0
    said = capsys.readouterr().out
    for part in (house.alices.device_no, house.alices.tax_id, "2026-03-16", "2026-02-01", "025"):
        assert part in said
    assert house.writes() == []
    assert "VERIFY_FISCAL_PIN" not in house.commands()
    assert run("read", house.alices.slot, "--json") == 0
    assert json.loads(capsys.readouterr().out)["types"]["025"]["issue_deadline"] == "2026-03-16"


def test_an_empty_slot_and_one_of_another_worker_are_named(
    house: House, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    house.rack.pull(house.alices.slot)
    assert run("read", house.alices.slot) == 1
    assert house.alices.slot in capsys.readouterr().out
    assert run("read", "Z-99") == 2
    assert "Z-99" in capsys.readouterr().err


def test_a_kind_that_wants_its_password_first_says_so(house: House, words: Words) -> None:
    found: dict[str, Any] = {
        "device_no": "661234567890",
        "tax_id": "",
        "kind": "baiwang",
        "terminal_no": None,
        "problem": "",
        "name": "",
        "training": False,
        "retired": False,
        "types": {},
        "unread": "password_missing",
    }
    said = read_text("B-01", found, words)
    assert "不发送口令" in said and "661234567890" in said and "税控盘" in said


def test_a_component_that_is_away_is_no_answer(house: House, words: Words) -> None:
    component = Component("B-01", "baiwang", "http://127.0.0.1:9")
    config = replace(house.config, components=(component,), only_slots=("B-01",))
    assert read_slot(config, "B-01", words)["problem"] == "no_answer"
    assert "B-01" in list_text(look_round(config, words), words)


def test_readers_that_are_away_end_the_command(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "reader.toml"
    path.touch(0o600)
    path.write_text(
        f'server = "http://127.0.0.1:9"\ntoken = "t"\ndata_dir = "{house.data_dir}"\n'
        f'rack_socket = "{tmp_path}/nobody"\n'
    )
    assert main(["list", "--config", str(path), "--lang", "zh"]) == 2
    assert "没有应答" in capsys.readouterr().err


def test_every_problem_a_slot_may_have_has_a_text(words: Words) -> None:
    assert all(said_of(rung.problem, words) for rung in Rung)
    assert said_of("", words) == ""
    assert said_of("of_a_newer_worker", words) == "of_a_newer_worker"


# --- labels ---------------------------------------------------------------------------------------


def test_labels_are_for_every_slot_or_the_named_ones(house: House, words: Words) -> None:
    found = look_round(house.config, words)
    assert labels_of(found) == [
        Label(card.slot, card.device_no) for card in (house.alices, house.bobs)
    ]
    named = [house.bobs.slot, "A-99"]
    assert labels_of(found, named) == [
        Label(house.bobs.slot, house.bobs.device_no),
        Label("A-99", ""),
    ]


def test_a_text_sheet_lines_up(words: Words) -> None:
    lines = text_sheet([Label("甲-03", "A1B2C3D4E5F60718"), Label("A-04", "")], words).splitlines()
    assert {width_of(line) for line in lines} == {36}
    assert "甲-03" in lines[1]


def test_a_web_sheet_cannot_be_broken_by_a_name(words: Words) -> None:
    page = html_sheet([Label("<b>1</b>", "D")], "<script>", words)
    assert "<script>" not in page and "<b>1</b>" not in page
    assert "&lt;b&gt;1&lt;/b&gt;" in page


def test_the_sheet_is_printed(house: House, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("labels") == 0
    assert house.alices.device_no in capsys.readouterr().out
    assert run("labels", "--html", house.alices.slot) == 0
    page = capsys.readouterr().out
    assert page.startswith("<!doctype html>") and "三楼" in page
    assert house.bobs.slot not in page


# --- words ----------------------------------------------------------------------------------------


@pytest.fixture
def english(tmp_path: Path) -> Words:
    catalogue = Catalog(locale="en")
    catalogue.add("盘位 {slot} 空着", "Slot {slot} is empty")
    catalogue.add("税盘没有应答", "The disk does not answer")
    folder = tmp_path / "en" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / "django.mo").open("wb") as file:
        write_mo(file, catalogue)
    return Words("en", locale=tmp_path)


def test_english_comes_from_the_catalogue(english: Words) -> None:
    assert english("盘位 {slot} 空着", slot="A-01") == "Slot A-01 is empty"
    assert english("未译 {what}", what="税盘没有应答") == "未译 The disk does not answer"
    assert english("") == ""
    assert english("{a}", a="{b}") == "{b}"


def test_without_a_catalogue_it_is_chinese(tmp_path: Path) -> None:
    assert Words("en", locale=tmp_path)("盘位 {slot} 空着", slot=1) == "盘位 1 空着"


def test_what_comes_from_outside_moves_no_cursor() -> None:
    assert Words()("{name}", name="a\x1b[2Jb\nc") == "a[2Jbc"


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({}, "zh"),
        ({"LANG": "C.UTF-8"}, "zh"),
        ({"LANG": "en_GB.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
    ],
)
def test_the_language_is_the_system_s(environment: dict[str, str], language: str) -> None:
    assert language_of(environment) == language


def test_a_chinese_character_takes_two_columns() -> None:
    assert width_of("盘A") == 3
    assert padded("盘", 4) == "盘  "
