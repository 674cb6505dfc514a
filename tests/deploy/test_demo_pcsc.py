"""``deploy/demo --pcsc``: the disks of both machines at real pcscd, or a plain word about it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from clearing.worker import config
from deploy import demo_run, readers
from deploy.demonstration.places import Places
from deploy.readers import PcscRack
from tests.deploy.test_demo import folder, run_once

__all__ = ["folder"]

_PACKAGES = ", ".join(readers.missing())
needs_pcscd = pytest.mark.skipif(bool(_PACKAGES), reason=f"needs {_PACKAGES}")


def test_what_is_missing_is_named_and_nothing_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QINGKA_DEMO_DIR", str(tmp_path / "demo"))
    monkeypatch.setattr("deploy.readers.pcscd.missing", lambda: ["pcscd", "vsmartcard-vpcd"])
    assert demo_run.main(["--pcsc", "--once"]) == demo_run.FAILED
    assert "pcscd, vsmartcard-vpcd" in capsys.readouterr().out.replace("\n", "")
    assert not (tmp_path / "demo").exists()


@needs_pcscd
def test_a_machine_s_configuration_names_the_reader_of_each_slot(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.write_machine_config(
        "读盘机A", server="http://s", token="t", broker="redis://b", prefix="p", parallel=2
    )
    slots = [f"A-{number:02d}" for number in range(1, 18)]
    rack = PcscRack(places.readers(0), slots)
    try:
        places.plug_machine("读盘机A", rack.config)
        found = config.load(places.machine_config("读盘机A"))
        assert found.uses_pcsc
        assert found.hardware.rack_socket is None
        assert len(found.pcsc_sockets) == 2  # 16 readers to a daemon
        assert found.pcsc_names["A-17"].startswith("2/")
        assert not found.takes("2/QK virtual 00 00 01")  # the entry's other reader is no slot
        raw = tomllib.loads(places.machine_config("读盘机A").read_text(encoding="utf-8"))
        assert (raw["token"], "rack_socket" in raw) == ("t", False)
    finally:
        rack.close()


@needs_pcscd
@pytest.mark.timeout(420)
def test_the_sample_ends_as_expected_at_real_pcscd(folder: Path) -> None:
    run = run_once(folder, "--pcsc")
    assert run.status == 0, run.output
    machine = next((folder / "machines").glob("*.toml")).read_text(encoding="utf-8")
    assert 'readers = "pcsc"' in machine
