"""The storm in its short form; ``deploy/storm`` plays it longer and with more disks."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.demonstration.child import ROOT
from deploy.weather import network

_LACKING = ", ".join(network.missing())
DISKS, MINUTES, SEED = 12, 0.25, 121

pytestmark = pytest.mark.skipif(bool(_LACKING), reason=f"needs {_LACKING}")


@pytest.mark.timeout(900)
def test_a_short_storm_leaves_no_violation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    told = subprocess.run(
        [
            *(sys.executable, "-m", "deploy.storm_run", "--disks", str(DISKS)),
            *("--minutes", str(MINUTES), "--seed", str(SEED), "--json", str(report)),
            *("--dir", str(tmp_path / "s")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    found = json.loads(report.read_text(encoding="utf-8"))
    with capsys.disabled():
        print(f"{found['accidents_in_all']} accidents, ends {found['ends']}")
    assert found["violations"] == []
    assert found["accidents_in_all"] >= 5
    assert sum(found["ends"].values()) == DISKS
    assert not (tmp_path / "s").exists()  # what went well leaves nothing behind


def test_without_namespaces_it_says_what_is_missing_and_what_can_be_done(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    told = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TOOLS],
        cwd=ROOT,
        env={"PATH": str(empty)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert "iproute2" in told.stdout
    assert "--no-namespaces" in told.stdout


_WITHOUT_TOOLS = """
from deploy import storm_run
from deploy.weather import network
network._find = lambda tool: None
raise SystemExit(storm_run.main(["--disks", "4"]))
"""
