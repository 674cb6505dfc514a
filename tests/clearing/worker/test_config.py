"""The machine's configuration file: what is refused, and that nothing secret is said."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from clearing.worker.config import ConfigError, load

SECRET = "secret-9b1e"
GOOD = f"""
server = "https://qingka.example/"
token = "{SECRET}"
broker = "rediss://m7:{SECRET}@redis.example/0"
prefix = "m7:"
data_dir = "/var/lib/qingka"
rack_socket = "/run/qingka/rack"
only_slots = ["A-01", "A-02"]
"""


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "machine.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_a_private_file_is_read(tmp_path: Path) -> None:
    config = load(written(tmp_path, GOOD))
    assert config.server == "https://qingka.example"
    assert config.only_slots == ("A-01", "A-02")
    assert config.parallel == 8


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    assert SECRET not in repr(load(written(tmp_path, GOOD)))


@pytest.mark.parametrize("server", ["http://127.0.0.1:8000", "http://localhost", "http://[::1]"])
def test_on_this_machine_nothing_need_be_encrypted(tmp_path: Path, server: str) -> None:
    here = GOOD.replace("https://qingka.example/", server).replace("rediss", "redis+socket")
    assert load(written(tmp_path, here)).server == server


def test_a_plain_address_elsewhere_is_taken_only_when_the_file_says_so(tmp_path: Path) -> None:
    plain = GOOD.replace("https://", "http://").replace("rediss", "redis")
    with pytest.raises(ConfigError):
        load(written(tmp_path, plain))
    assert load(written(tmp_path, plain + "plain_http = true\n")).plain_http


@pytest.mark.parametrize("bit", [stat.S_IRGRP, stat.S_IROTH, stat.S_IWGRP, stat.S_IWOTH])
def test_a_file_that_others_can_open_is_refused(tmp_path: Path, bit: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        load(written(tmp_path, GOOD, 0o600 | bit))


def test_without_a_broker_no_prefix_is_needed(tmp_path: Path) -> None:
    config = load(
        written(tmp_path, 'server = "https://h"\ntoken = "t"\nbroker = "none"\ndata_dir = "d"')
    )
    assert config.broker == ""


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("prefix", "#", "prefix"),
        ("token", "#", "token"),
        ("https://", "http://", "server"),
        ("rediss://", "redis://", "broker"),
        ("example/0", "example/0?ssl_cert_reqs=none", "broker"),
        ("https://qingka.example/", "qingka.example", "server"),
        ('"A-02"', "2", "only_slots"),
        ("data_dir", "parallel = 0\ndata_dir", "parallel"),
        ("data_dir", "paralell = 3\ndata_dir", "paralell"),
    ],
)
def test_a_wrong_value_is_named_and_not_shown(
    tmp_path: Path, before: str, after: str, named: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, GOOD.replace(before, after, 1)))
    assert named in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_that_is_no_toml_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, f"token = {SECRET}"))
    assert SECRET not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"machine\.toml"):
        load(tmp_path / "machine.toml")
