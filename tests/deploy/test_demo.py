"""The demo as a newcomer runs it: to the end, again on its data, killed, with a list of one's own.

Real runs of the whole house; what the judge's word is worth is shown in ``test_demo_judge``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openpyxl import Workbook

from deploy.demonstration.scenario import clients, fictional_tax_id
from tests.deploy.test_stack import processes_of

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.timeout(420)]


@dataclass(frozen=True)
class Run:
    """A finished run of the demo; ``output`` without its line breaks."""

    status: int
    output: str
    result: Mapping[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder that is not there yet."""
    return tmp_path / "demo"


def demo(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "deploy.demo_run", *arguments]


def environment(folder: Path) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("QINGKA_")}
    return plain | {"QINGKA_DEMO_DIR": str(folder), "COLUMNS": "200"}


def run_once(folder: Path, *arguments: str) -> Run:
    result = folder.with_suffix(".json")
    result.unlink(missing_ok=True)
    done = subprocess.run(
        demo("--once", "--json", str(result), *arguments),
        cwd=ROOT,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        check=False,
    )
    told = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    return Run(done.returncode, done.stdout, told)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        demo(*arguments), cwd=ROOT, env=environment(folder), stdout=subprocess.PIPE, text=True
    )


def read_until(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdout is not None
    said = ""
    while word not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def wait_until_gone(folder: Path) -> None:
    until = time.monotonic() + 30
    while processes_of(folder) and time.monotonic() < until:
        time.sleep(0.1)
    assert processes_of(folder) == []


def test_48_clients_are_cleared_and_a_second_start_goes_on_until_ctrl_c(folder: Path) -> None:
    first = run_once(folder)
    assert first.status == 0, first.output
    assert first.result["counts"] == {
        "done": 42,
        "failed": 4,
        "skipped": 1,
        "waiting(disk)": 1,
        "waiting(filing)": 1,
        "no_disk": 1,
    }
    disks = first.result["disks"]
    assert len(disks) == 49
    assert all(list(d) == ["device_no", "tax_id", "outcome", "code", "writes"] for d in disks)
    codes = {disk["code"] for disk in disks if disk["outcome"] == "failed"}
    assert codes == {"wrong_disk", "password_wrong", "password_locked", "past_deadline"}
    # 40 were reported and cleared once, one of two months, one by its vendor; two only reported.
    # Each unit is written by itself, and a disk of another kind than a card can have several.
    units = {row.device_no: len(row.units) for row in clients()}
    more = sum(2 * (units[disk["device_no"]] - 1) for disk in disks)
    assert more > 0
    assert sum(disk["writes"] for disk in disks) == 40 * 2 + 4 + 0 + 2 + more
    assert "s of waiting for disks" in first.output
    assert "模拟" in first.output
    assert processes_of(folder) == []

    second = run_once(folder)
    assert second.status == 0, second.output
    assert second.result == first.result

    with start(folder) as staying:
        said = read_until(staying, "Ctrl-C")
        assert "owner" in said and "记账会计" in said
        address = next(word for word in said.split() if word.startswith("http://"))
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{address}/login", timeout=10) as page:
            assert "清卡台" in page.read().decode()
        refused = run_once(folder)
        assert refused.status == 2
        assert "another demo runs there" in refused.output
        staying.send_signal(signal.SIGINT)
        assert staying.wait(60) == 0
    assert processes_of(folder) == []


def own_list(path: Path) -> None:
    """As an agency keeps it: a title above, other headings, other disks, no device numbers."""
    book = Workbook()
    book.remove(book.worksheets[0])
    sheet = book.create_sheet("客户")
    sheet.append(["虚构代账客户一览表"])
    sheet.append(["序号", "公司名称", "纳税人识别号", "纳税人性质", "税局", "会计", "税控设备"])
    kinds = ["金税盘", "税控盘", "税务UKey", "IC卡"]
    for number in range(1, 12):
        kind = "数电" if number == 11 else kinds[number % 4]
        tax_id, taxpayer = fictional_tax_id(700 + number), ["小规模", "一般纳税人"][number % 2]
        name, people = f"武汉自有{number}有限公司", ["李四", "王五"][number % 2]
        sheet.append([number, name, tax_id, taxpayer, "江夏区税务局", people, kind])
    book.save(path)


def test_an_own_list_killed_in_mid_batch_is_finished_by_the_next_start(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.xlsx"
    own_list(path)
    with start(folder, "--clients", str(path)) as killed:
        read_until(killed, "(pressed)")
        time.sleep(1.5)
        killed.kill()
    second = run_once(folder)
    assert second.status == 0, second.output
    assert "going on with the data of an earlier start" in second.output
    # A kill in the middle of a PIN roll may leave the PIN in doubt; the judge has looked.
    doubtful = [disk for disk in second.result["disks"] if disk["code"] == "pin_unknown"]
    done = [disk for disk in second.result["disks"] if disk["outcome"] == "done"]
    assert len(done) + len(doubtful) == 10
    assert done
    # One more where the report package was lost with its machine.
    assert {disk["writes"] for disk in done} <= {2, 3}
    wait_until_gone(folder)


def test_a_list_with_errors_is_refused_row_by_row(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.xlsx"
    book = Workbook()
    book.remove(book.worksheets[0])
    sheet = book.create_sheet("客户")
    sheet.append(["企业名称", "税号"])
    sheet.append(["武汉虚构有限公司", fictional_tax_id(1)[:-1] + "0"])
    book.save(path)
    refused = run_once(folder, "--clients", str(path))
    assert refused.status == 2
    assert "第 2 行" in refused.output and "校验位" in refused.output
    wait_until_gone(folder)


def test_reset_deletes_nothing_in_a_folder_that_is_not_a_demos(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "thesis.txt").write_text("irreplaceable")
    refused = run_once(folder, "--reset")
    assert refused.status == 2
    assert (folder / "thesis.txt").read_text() == "irreplaceable"
