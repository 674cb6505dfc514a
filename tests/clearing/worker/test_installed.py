"""What is installed with the program: the unit, and the page for technicians."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from clearing.wire import Limits
from clearing.worker.cli import _parser, default_config
from clearing.worker.config import DEFAULT_STOP_SECONDS, MachineConfig
from clearing.worker.overseer import margin
from clearing.worker.words import Words

DEPLOY = Path(__file__).parents[3] / "deploy"
UNIT = DEPLOY / "systemd" / "qingka-reader.service"


@pytest.fixture(scope="module")
def service() -> configparser.SectionProxy:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT, "utf-8")
    return unit["Service"]


def test_a_stop_is_given_the_time_that_a_write_needs(service: configparser.SectionProxy) -> None:
    call = Limits().call
    assert int(service["TimeoutStopSec"]) > DEFAULT_STOP_SECONDS + call + margin(call)
    assert service["KillMode"] == "mixed"
    assert service["Restart"] == "always"


def test_it_is_shut_in(service: configparser.SectionProxy) -> None:
    assert service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["StateDirectoryMode"] == "0700"


def test_it_works_where_enrolment_writes(service: configparser.SectionProxy) -> None:
    folder = Path("/var/lib") / service["StateDirectory"]
    assert str(folder / "reader.toml") in service["ExecStart"]
    assert default_config().name == "reader.toml"


def test_systemd_understands_it() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    done = subprocess.run(
        ["systemd-analyze", "verify", UNIT], capture_output=True, text=True, check=False
    )
    # That the program is not installed here is no fault of the unit's.
    said = [line for line in done.stderr.splitlines() if "is not executable" not in line]
    assert [line for line in said if "qingka-reader" in line] == []


def test_the_page_for_technicians_knows_every_command_and_every_setting() -> None:
    page = (DEPLOY / "technicians.md").read_text("utf-8")
    (commands,) = _parser(Words())._subparsers._group_actions  # type: ignore[union-attr]
    for command in commands.choices or ():
        assert f"qingka-reader {command}" in page
    given = {"server", "token", "data_dir", "name", "prefix", "rack_socket"}  # by enrolment
    for setting in set(MachineConfig.__dataclass_fields__) - given:
        assert setting in page, setting
