"""The examination of a reader machine: every line can be well, to be looked at, and broken."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from clearing.worker.__main__ import main
from clearing.worker.config import MachineConfig
from clearing.worker.doctor import machine, readers, server
from clearing.worker.doctor.examine import examine, status_of
from clearing.worker.doctor.findings import Finding, Level, as_json, as_text, error, ok
from clearing.worker.doctor.host import Host
from clearing.worker.doctor.wanted import parsed
from clearing.worker.durable import locked
from clearing.worker.hardware import Component, Group
from clearing.worker.words import Words
from deploy.embedded import EmbeddedValkey
from tests.clearing.worker.fake_server import TOKEN, Answer, Call
from tests.clearing.worker.house import House

PCSC_UP = {"session": 1, "problem": "", "readers": [{"present": True}, {"present": False}]}


@dataclass(frozen=True)
class PlayedHost(Host):
    """A machine whose programs say what a test wants."""

    says: dict[str, str] = field(default_factory=dict)
    running: dict[int, str] = field(default_factory=dict)

    def output(self, command: Sequence[str]) -> str | None:
        name = command[0] if "pcsc_watch" not in " ".join(command) else "pcsc_watch"
        return self.says.get(name)

    def processes(self) -> dict[int, str]:
        return self.running


@pytest.fixture
def config(house: House) -> MachineConfig:
    house.places  # noqa: B018 - makes the folder
    house.data_dir.chmod(0o700)
    return house.config


@pytest.fixture
def path(house: House, tmp_path: Path) -> Path:
    found = tmp_path / "reader.toml"
    found.touch(0o600)
    found.write_text(
        f'server = "{house.server.url}"\ntoken = "{TOKEN}"\ndata_dir = "{house.data_dir}"\n'
        f'rack_socket = "{house.socket}"\n'
    )
    house.data_dir.mkdir(mode=0o700)
    return found


def levels(findings: Sequence[Finding]) -> dict[str, Level]:
    return {finding.check: finding.level for finding in findings}


def supply(root: Path, name: str, **values: str) -> None:
    folder = root / "sys/class/power_supply" / name
    folder.mkdir(parents=True)
    for key, value in values.items():
        (folder / key).write_text(value + "\n")


# --- as a whole -----------------------------------------------------------------------------------


def test_a_machine_that_is_well(house: House, path: Path, tmp_path: Path) -> None:
    host = PlayedHost(root=tmp_path)
    with locked(house.data_dir / "worker.lock"):
        findings = examine(path, host)
    assert {finding.check for finding in findings if finding.level != Level.OK} == set()
    assert status_of(findings) == 0
    assert {"config", "data_dir", "disk_space", "power", "copies", "invoicing_client"} <= set(
        levels(findings)
    )
    assert {"server", "api", "clock", "broker", "rack", "packages"} <= set(levels(findings))


def test_an_examination_forgets_no_slot_claims_nothing_and_sends_no_password(
    house: House, path: Path, tmp_path: Path
) -> None:
    examine(path, PlayedHost(root=tmp_path))
    assert house.server.verbs() == ["renew"]
    assert house.server.calls[0].run_id == 0
    assert house.commands() == []


def test_one_check_that_breaks_stops_no_other(
    house: House, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise RuntimeError("with a secret in it")

    monkeypatch.setattr(machine, "power", broken)
    findings = examine(path, PlayedHost(root=tmp_path))
    assert levels(findings)["power"] == Level.ERROR
    assert "server" in levels(findings)
    assert "secret" not in as_text(findings, Words())


def test_a_machine_that_is_not_enrolled_is_told_how(tmp_path: Path) -> None:
    findings = examine(tmp_path / "nothing.toml", PlayedHost(root=tmp_path))
    assert levels(findings)["config"] == Level.ERROR
    assert "enroll" in as_text(findings, Words())
    assert "power" in levels(findings)


def test_the_command_prints_json_and_its_status(
    house: House, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house.server.scripts["renew"] = lambda call: (401, {"error": "unknown"})
    assert main(["doctor", "--config", str(path), "--lang", "zh", "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert said["level"] == "error"
    broken = next(each for each in said["findings"] if each["check"] == "server")
    assert broken["level"] == "error" and broken["remedy"]
    assert TOKEN not in json.dumps(said)


def test_each_line_that_is_not_well_has_a_remedy_and_no_other() -> None:
    with pytest.raises(ValueError, match="remedy"):
        error("x", "broken", "")
    with pytest.raises(ValueError, match="remedy"):
        Finding("x", Level.OK, "well", "do this")
    text = as_text([ok("x", "well"), error("y", "{n} broken", "mend {n}", n=3)], Words())
    assert text.splitlines() == ["[正常] well", "[错误] 3 broken", "       → mend 3"]
    assert as_json([], Words()) == {"level": "ok", "findings": []}


# --- the machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o750, 0o705])
def test_a_data_folder_that_others_can_open(config: MachineConfig, mode: int) -> None:
    config.data_dir.chmod(mode)
    (finding,) = machine.rights(config, Host())
    assert finding.level == Level.ERROR


def test_a_data_folder_of_another_user_is_not_touched(
    house: House, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: house.data_dir.stat().st_uid + 1)
    findings = examine(path, PlayedHost(root=tmp_path))
    assert levels(findings)["data_dir"] == Level.ERROR
    assert "rack" not in levels(findings)
    assert list(house.data_dir.iterdir()) == []


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(
    ("free", "level"),
    [(50 * 2**20, Level.ERROR), (500 * 2**20, Level.WARNING), (5 * 2**30, Level.OK)],
)
def test_room(
    config: MachineConfig, free: int, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(0, 0, free))
    (finding,) = machine.room(config)
    assert finding.level == level


@pytest.mark.parametrize(
    ("plugged", "status", "capacity", "level"),
    [
        ("1", "Charging", "80", Level.OK),
        ("1", "Full", "100", Level.OK),
        ("0", "Discharging", "80", Level.WARNING),
        ("0", "Discharging", "12", Level.ERROR),
    ],
)
def test_power(tmp_path: Path, plugged: str, status: str, capacity: str, level: Level) -> None:
    supply(tmp_path, "AC", type="Mains", online=plugged)
    supply(tmp_path, "BAT0", type="Battery", status=status, capacity=capacity)
    supply(tmp_path, "mouse", type="Battery", scope="Device", status="Discharging", capacity="3")
    (finding,) = machine.power(Host(root=tmp_path))
    assert finding.level == level


def test_a_machine_without_a_battery_has_power(tmp_path: Path) -> None:
    (finding,) = machine.power(Host(root=tmp_path))
    assert finding.level == Level.OK


WORKERS = [
    "/opt/qingka/bin/python -m clearing.worker run --config /x",
    "/opt/qingka/bin/python /opt/qingka/bin/qingka-reader run",
]


def test_two_workers_are_one_too_many(config: MachineConfig) -> None:
    running = dict(enumerate([*WORKERS, "python -m clearing.worker.child", "vim run"]))
    (finding,) = machine.copies(config, PlayedHost(running=running))
    assert finding.level == Level.ERROR
    assert finding.values["pids"] == "0, 1"


def test_one_worker_or_none(config: MachineConfig) -> None:
    (finding,) = machine.copies(config, PlayedHost())
    assert finding.level == Level.WARNING
    with locked(config.data_dir / "worker.lock"):
        (finding,) = machine.copies(config, PlayedHost(running={7: WORKERS[0]}))
    assert finding.level == Level.OK


def test_an_invoicing_client_is_noticed() -> None:
    running = {1: "init", 9: r"C:\fp\Bin\Aisino.Framework.Startup.exe"}
    (finding,) = machine.invoicing_client(PlayedHost(running=running))
    assert finding.level == Level.WARNING
    (finding,) = machine.invoicing_client(PlayedHost(running={1: "init"}))
    assert finding.level == Level.OK


def test_processes_are_found_here_and_as_windows_lists_them(tmp_path: Path) -> None:
    assert os.getpid() in Host().processes()
    listed = '"System","4","Services","0","1 K"\r\n"开票软件.exe","812","Console","1","9 K"\r\n'

    class Windows(Host):
        def output(self, command: Sequence[str]) -> str | None:
            return listed

    assert Windows(platform="win32").processes() == {4: "System", 812: "开票软件.exe"}


def test_a_program_that_is_not_there_says_nothing() -> None:
    assert Host().output(["qingka-no-such-program"]) is None
    assert "Python" in (Host().output(["python3", "--version"]) or "")


# --- readers --------------------------------------------------------------------------------------


def pcsc(config: MachineConfig, **says: str) -> dict[str, Finding]:
    bare = replace(config, rack_socket=None)
    known = {
        "pcscd": "pcsc-lite version 2.5.1.\nCopyright",
        "dpkg-query": "1.8.0-1",
        "pcsc_watch": json.dumps(PCSC_UP),
    }
    host = PlayedHost(says={name: text for name, text in (known | says).items() if text})
    return {finding.check: finding for finding in readers.examine_readers(bare, host)}


def test_readers_that_are_well(config: MachineConfig) -> None:
    found = pcsc(config)
    assert {finding.level for finding in found.values()} == {Level.OK}
    assert found["readers"].values == {"count": 2, "present": 1}


@pytest.mark.parametrize(
    ("says", "check", "level"),
    [
        ({"pcscd": ""}, "pcscd", Level.ERROR),
        ({"pcscd": "pcsc-lite version 1.8.24."}, "pcscd", Level.ERROR),
        ({"pcscd": "pcsc-lite version 1.9.9."}, "reader_limit", Level.WARNING),
        ({"dpkg-query": "1.5.1-1"}, "libccid", Level.WARNING),
        ({"dpkg-query": "1.4.31-1"}, "libccid", Level.ERROR),
        ({"pcsc_watch": ""}, "readers", Level.ERROR),
        ({"pcsc_watch": "Traceback"}, "readers", Level.ERROR),
        ({"pcsc_watch": json.dumps(PCSC_UP | {"session": 0})}, "readers", Level.ERROR),
        ({"pcsc_watch": json.dumps(PCSC_UP | {"readers": []})}, "readers", Level.ERROR),
    ],
)
def test_readers_that_are_not(
    config: MachineConfig, says: dict[str, str], check: str, level: Level
) -> None:
    assert pcsc(config, **says)[check].level == level


def test_each_daemon_is_looked_at(config: MachineConfig) -> None:
    two = replace(config, rack_socket=None, readers="pcsc", pcsc_sockets=("/run/a", "/run/b"))
    host = PlayedHost(says={"pcscd": "version 2.5.1", "pcsc_watch": json.dumps(PCSC_UP)})
    found = [finding.check for finding in readers.examine_readers(two, host)]
    assert found.count("readers") == 2


def test_the_limit_of_an_old_daemon_is_said(config: MachineConfig) -> None:
    finding = pcsc(config, pcscd="pcsc-lite version 1.9.9.")["reader_limit"]
    text = as_text([finding], Words())
    assert "1.9.9" in text and "16" in text and "2.5" in text


def test_a_package_that_is_missing(config: MachineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        from importlib.metadata import PackageNotFoundError

        raise PackageNotFoundError(name)

    monkeypatch.setattr(readers, "version", version)
    found = pcsc(config)
    assert found["pyscard"].level == Level.ERROR
    assert found["httpx"].level == Level.ERROR


def test_a_rack_that_is_away_and_a_slot_that_is_not_there(
    house: House, config: MachineConfig
) -> None:
    here = replace(config, only_slots=(house.alices.slot, "Z-99"))
    found = levels(list(readers.examine_readers(here, PlayedHost())))
    assert (found["rack"], found["only_slots"]) == (Level.OK, Level.WARNING)
    gone = replace(config, rack_socket=house.data_dir / "nobody")
    found = levels(list(readers.examine_readers(gone, PlayedHost())))
    assert found["rack"] == Level.ERROR


def test_a_component_that_is_away_and_one_of_a_group(config: MachineConfig) -> None:
    gone = Component("B-01", "baiwang", "http://127.0.0.1:9")
    alone = replace(config, rack_socket=None, components=(gone,))
    (finding, _) = readers.examine_readers(alone, PlayedHost())
    assert (finding.check, finding.level) == ("component", Level.ERROR)
    group = Group("box", ("G-1", "G-2"), ("switch", "{slot}"), reader="B-01")
    (finding, _) = readers.examine_readers(replace(alone, groups=(group,)), PlayedHost())
    assert finding.level == Level.OK  # not switched for an examination


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.9.9-2", (1, 9, 9)), ("pcsc-lite version 2.5.1.", (2, 5, 1)), ("none", ()), ("45", (45,))],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert parsed(text) == version


# --- the server -----------------------------------------------------------------------------------

Script = Callable[[Call], Answer | None]


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_a_server_that_says_no(
    house: House, config: MachineConfig, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SECONDS", 0.2)
    house.server.scripts["renew"] = lambda call: (status, {})
    house.server.bare = status == 404  # without the API's name on it, it is somebody else's
    found = levels(list(server.examine_server(config)))
    assert found["server"] == Level.ERROR
    assert "api" not in found


def test_a_server_out_of_reach(config: MachineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_SECONDS", 0.2)
    gone = replace(config, server="http://127.0.0.1:9")
    assert levels(list(server.examine_server(gone))) == {"server": Level.ERROR}


@pytest.mark.parametrize(
    ("api", "level"), [(1, Level.OK), (2, Level.WARNING), (3, Level.ERROR), (0, Level.ERROR)]
)
def test_the_version_of_the_api(
    house: House, config: MachineConfig, api: int, level: Level
) -> None:
    house.server.scripts["renew"] = lambda call: (404, {"error": "not_found", "api": api})
    found = levels(list(server.examine_server(config)))
    assert found["server"] == Level.OK
    assert found["api"] == level


@pytest.mark.parametrize(
    ("seconds", "level"),
    [(5, Level.OK), (60, Level.WARNING), (-60, Level.WARNING), (200, Level.ERROR)],
)
def test_the_clock(house: House, config: MachineConfig, seconds: int, level: Level) -> None:
    house.server.clock_offset = dt.timedelta(seconds=seconds)
    assert levels(list(server.examine_server(config)))["clock"] == level


def test_a_connection_in_the_clear(config: MachineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_SECONDS", 0.1)
    elsewhere = replace(config, server="http://198.51.100.1")
    assert levels(list(server.examine_server(elsewhere)))["encryption"] == Level.WARNING


# --- the bell -------------------------------------------------------------------------------------


@pytest.fixture
def account(valkey: EmbeddedValkey) -> str:
    """A broker's address with the account of machine 9."""
    with redis.Redis.from_url(valkey.url) as client:
        rules = ["reset", "on", ">pw", "resetchannels", "~m9:*"]
        commands = ["+@connection", "+set", "+get", "+del"]
        client.execute_command("ACL", "SETUSER", "m9", *rules, *commands)
    path = valkey.url.removeprefix("unix://")
    return f"redis+socket://m9:pw@{path}"


def broker_level(config: MachineConfig, broker: str, prefix: str = "m9:") -> Level:
    (finding,) = server.examine_broker(replace(config, broker=broker, prefix=prefix))
    return finding.level


def test_the_account_works_for_its_own_keys_and_leaves_none(
    config: MachineConfig, account: str, valkey: EmbeddedValkey
) -> None:
    assert broker_level(config, account) == Level.OK
    with redis.Redis.from_url(valkey.url) as client:
        assert list(client.scan_iter("m9:*")) == []


def test_an_account_that_is_wrong_too_small_or_too_large(
    config: MachineConfig, account: str, valkey: EmbeddedValkey
) -> None:
    assert broker_level(config, account.replace(":pw@", ":other@")) == Level.WARNING
    assert broker_level(config, account, "m10:") == Level.WARNING
    assert broker_level(config, valkey.broker_url) == Level.WARNING  # reaches everybody's keys
    assert broker_level(config, f"redis+socket://{config.data_dir}/nobody") == Level.WARNING


def test_no_broker_is_well(config: MachineConfig) -> None:
    assert broker_level(config, "") == Level.OK
