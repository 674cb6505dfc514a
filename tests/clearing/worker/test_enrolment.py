"""A one-use code becomes a configuration; nothing of it is used up or printed in vain."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clearing.worker.__main__ import main
from clearing.worker.cli import Refusal, refuse_other_user
from clearing.worker.config import is_here, load
from clearing.worker.enrolment import toml_of
from clearing.worker.words import Words
from tests.clearing.worker.fake_server import FakeServer

TOKEN = "token-of-the-machine-31c7"
BROKER = "rediss://m7:broker-secret-5d@redis.example/0"
ANSWER = {
    "token": TOKEN,
    "broker": BROKER,
    "prefix": "m7:",
    "agency": "某某代账",
    "machine": "三楼读盘机",
    "parallel": 4,
}

Enrol = Callable[..., int]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "reader.toml"


@pytest.fixture
def enrol(server: FakeServer, path: Path) -> Enrol:
    server.enrolment = (200, ANSWER)

    def run(*more: str, code: str = "K7QF-3M2P", url: str = "") -> int:
        options = ["--server", url or server.url, "--config", str(path), "--lang", "zh", *more]
        return main(["enroll", code, *options])

    return run


def test_a_code_becomes_a_private_file(enrol: Enrol, server: FakeServer, path: Path) -> None:
    assert enrol("--name", "三楼") == 0
    config = load(path)
    assert (config.server, config.token, config.broker) == (server.url, TOKEN, BROKER)
    assert (config.prefix, config.name, config.parallel) == ("m7:", "三楼读盘机", 4)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.data_dir.stat().st_mode) == 0o700
    (asked,) = server.of("enrol")
    assert asked.body["code"] == "K7QF-3M2P"
    assert asked.body["name"] == "三楼"
    assert set(asked.body) == {"code", "name", "version", "api"}


def test_no_secret_is_printed(enrol: Enrol, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    enrol()
    said = "".join(capsys.readouterr())
    assert "三楼读盘机" in said and str(path) in said
    assert TOKEN not in said and "broker-secret" not in said


def test_without_a_broker_the_machine_lives_from_https(
    enrol: Enrol, server: FakeServer, path: Path
) -> None:
    server.enrolment = (200, ANSWER | {"broker": "none", "prefix": ""})
    assert enrol() == 0
    assert load(path).broker == ""


def test_an_enrolled_machine_is_not_enrolled_over_by_mistake(
    enrol: Enrol, server: FakeServer, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrol()
    before = path.read_bytes()
    assert enrol() == 2
    assert "--force" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert len(server.of("enrol")) == 1  # the second code was not used up


def test_forced_it_keeps_what_the_technician_wrote(
    enrol: Enrol, server: FakeServer, path: Path
) -> None:
    enrol()
    mine = {
        "data_dir": str(path.parent / "elsewhere"),
        "rack_socket": "/run/rack",
        "only_slots": ["A-01", '甲 "1" \\ 号'],
        "restart_service": ["systemctl", "restart", "pcscd"],
        "ladder_seconds": 90,
        "power_cycle_alone": True,
        "pcsc_names": {"甲-1": "ACS ACR38U 00 00", "A 2": "2/ACS ACR38U 01 00"},
        "groups": [{"name": "箱", "slots": ["G-1", "G-2"], "activate": ["switch", "{slot}"]}],
        "components": [{"slot": "B-1", "kind": "baiwang", "address": "http://h:1"}],
    }
    path.write_text(toml_of({"server": "http://old", "token": "old", "broker": "none"} | mine))
    server.enrolment = (200, ANSWER | {"token": "another"})
    assert enrol("--force") == 0
    config = load(path)
    assert config.token == "another"
    assert config.only_slots == ("A-01", '甲 "1" \\ 号')
    assert config.groups[0].slots == ("G-1", "G-2")
    assert config.components[0].address == "http://h:1"
    assert config.restart_service == ("systemctl", "restart", "pcscd")
    assert dict(config.pcsc_names) == mine["pcsc_names"]
    assert (config.ladder_seconds, config.power_cycle_alone) == (90.0, True)
    assert config.data_dir == path.parent / "elsewhere"
    old = path.with_name(path.name + ".old")
    assert stat.S_IMODE(old.stat().st_mode) == 0o600


@pytest.mark.parametrize("status", [404, 426, 429, 500])
def test_a_refused_code_leaves_nothing_behind(
    enrol: Enrol, server: FakeServer, path: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    server.enrolment = (status, {"error": "no"})
    assert enrol() == 2
    assert not path.exists()
    assert capsys.readouterr().err.strip()


@pytest.mark.parametrize("answer", [{}, {"token": ""}, {"token": 7}, {"token": "中文"}])
def test_an_answer_without_a_usable_token_is_no_enrolment(
    enrol: Enrol, server: FakeServer, path: Path, answer: dict[str, Any]
) -> None:
    server.enrolment = (200, answer)
    assert enrol() == 2
    assert not path.exists()


def test_a_server_that_is_away_has_not_used_the_code(
    enrol: Enrol, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enrol(url="http://127.0.0.1:9") == 2
    assert "没有用掉" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_noticed_before_the_code_is_used(
    enrol: Enrol, server: FakeServer, path: Path
) -> None:
    path.parent.write_text("no folder")
    assert enrol() == 2
    assert server.of("enrol") == []


@pytest.mark.parametrize(
    "url", ["qingka.example", "ftp://qingka.example", "http://192.0.2.1", "https://a:b@h"]
)
def test_an_address_that_is_none_or_in_the_clear_is_not_asked(enrol: Enrol, url: str) -> None:
    assert enrol(url=url) == 2


def test_addresses_of_this_machine() -> None:
    assert is_here("127.0.0.1") and is_here("::1") and is_here("localhost")
    assert not is_here("192.168.0.1") and not is_here("qingka.example")


def test_root_makes_no_files_in_somebody_else_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = Words()
    refuse_other_user(tmp_path, words)
    refuse_other_user(tmp_path / "new" / "folder", words)
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Refusal):
        refuse_other_user(tmp_path, words)
    refuse_other_user(tmp_path / "new", words)  # whether we may make it is the system's to say
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("clearing.worker.cli._user", lambda uid: "qingka-reader")
    if tmp_path.stat().st_uid != 0:
        with pytest.raises(Refusal, match="sudo -u qingka-reader"):
            refuse_other_user(tmp_path / "new", words)
