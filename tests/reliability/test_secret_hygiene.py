"""A password goes every way there is, and stands nowhere but sealed.

What is searched: the whole run folder (the logs of all processes, PostgreSQL's files with its WAL,
the broker's file and what went through it, the machines' journals and configurations), every row of
every table, every page and export of every role, the machine API's answers, and what processes show
of themselves. A planted password goes the same ways, and must be found in each kind of place.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.celery import app as server
from tests.reliability.leaks import Searcher, forms
from tests.reliability.marked_month import FORGED, MARKERS, PLANTED, MarkedMonth
from tests.reliability.messages import ever_sent, strange

PLACES = {"table", "broker", "page", "export", "process", "log", "file"}
BELL = "qingka.bell"


@pytest.mark.timeout(600)
def test_a_password_that_goes_every_way_stands_nowhere_but_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with it, in the same month: messages carry only ids, and a log line is one line."""
    lived = MarkedMonth(tmp_path, monkeypatch)
    lived.live()
    ends = {name: lived.states[row.device_no] for name, row in lived.rows.items()}
    assert ends == {**dict.fromkeys(lived.rows, "done"), "raised": "failed"}
    assert lived.processes.saw([b"clearing.worker.child", b"gunicorn", b"valkey-server"])

    found = everywhere(lived, Searcher({"planted": PLANTED}))
    assert {kind for kind, _where, _name in found} >= PLACES
    answered = [said for (kind, _where), said in lived.places.items() if kind == "machine API"]
    assert any(b"lease_lost" in said for said in answered)
    world = Searcher(lived.secrets()).found((lived.root / "world.json").read_bytes())
    assert {"PIN", "certificate password"} <= set(world)  # the search sees what is there

    assert [
        (kind, where, name)
        for kind, where, name in everywhere(lived, Searcher(lived.secrets()))
        # Back in the field in which it was typed, for the one who typed it.
        if not (name == "typed as the account" and where.startswith("owner POST /login"))
    ] == []
    own = list((lived.root / "machines").glob("*.toml"))
    assert everywhere(lived, Searcher(lived.credentials()), spared=own) == []

    nothing_but_ids(lived)
    no_forged_lines(lived)


def everywhere(
    lived: MarkedMonth, searcher: Searcher, *, spared: list[Path] | None = None
) -> list[tuple[str, str, str]]:
    """(kind of place, where, which secret)."""
    found = [
        (kind, where, name)
        for (kind, where), content in lived.places.items()
        for name in searcher.found(content)
    ]
    for file, name in searcher.in_files(lived.root, spared=[*lived.spared, *(spared or [])]):
        found.append(("log" if file.endswith(".log") else "file", file, name))
    return found


def nothing_but_ids(lived: MarkedMonth) -> None:
    """As the messages lay in the queues while the batch waited, and all that were ever sent; but
    for the planted ones and those with the name of no task, which are found."""
    server.loader.import_default_modules()
    tasks = {BELL, *(name for name in server.tasks if not name.startswith("celery."))}
    assert lived.waiting
    assert [found for each in lived.waiting if (found := strange(json.loads(each), tasks))] == []
    sent = ever_sent(lived.root / "vk")
    assert {message["headers"]["task"] for message in sent} >= {BELL, "clearing.sweep"}
    odd = {tuple(found) for message in sent if (found := strange(message, tasks))}
    assert odd == {("headers.argsrepr", "args"), ("headers.task", "headers.task")}


def no_forged_lines(lived: MarkedMonth) -> None:
    """What would pass for a line of its own is in the logs, and never begins one."""
    logs = sorted(lived.month.places.logs.glob("*.log"))
    said = {log.stem: log.read_text("utf-8") for log in logs}
    for log, what in (("web", "path"), ("server-worker", "server task")):
        assert f"{FORGED} {what}" in said[log]
    for name in lived.month.stack.machines:
        assert f"{FORGED} machine task" in said[name]
    lines = [line for text in said.values() for line in text.splitlines()]
    assert [line for line in lines if line.startswith(FORGED)] == []


# -- the search itself --------------------------------------------------------------------------


@pytest.mark.parametrize("form", sorted(forms(MARKERS["own password"])))
@pytest.mark.parametrize("before", [b"", b"x" * 4096, bytes(4096)])
def test_the_search_finds_a_planted_password(tmp_path: Path, form: bytes, before: bytes) -> None:
    searcher = Searcher({"own": MARKERS["own password"], "other": "never there"})
    planted = tmp_path / "pg" / "pg_wal" / "000000010000000000000001"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(before + form + b"\0rest")
    assert list(searcher.in_files(tmp_path)) == [(str(planted.relative_to(tmp_path)), "own")]
    assert list(searcher.in_files(tmp_path, spared=[tmp_path / "pg"])) == []


def message(args: list[Any], kwargs: dict[str, Any], **headers: Any) -> dict[str, Any]:
    task_id = "0f8fad5b-d9cb-469f-a165-70867728950e"
    body = base64.b64encode(json.dumps([args, kwargs, {"chain": None}]).encode()).decode()
    plain = {"task": BELL, "id": task_id, "argsrepr": repr(tuple(args)), "kwargsrepr": repr(kwargs)}
    return {
        "body": body,
        "content-type": "application/json",
        "headers": {**plain, **headers},
        "properties": {"correlation_id": task_id},
    }


@pytest.mark.parametrize("args", [[], [7], [7, "0f8fad5b-d9cb-469f-a165-70867728950e"]])
def test_a_message_of_ids_is_not_strange(args: list[Any]) -> None:
    assert strange(message(args, {}), {BELL}) == []


@pytest.mark.parametrize(
    ("sent", "where"),
    [
        (message(["Kq7xVm2Z"], {}), "args"),
        (message(["武汉虚构有限公司"], {}), "headers.argsrepr"),
        (message([], {"tax_id": 7}), "kwargs"),
        (message([], {}, task="qingka.other"), "headers.task"),
        (message([], {}, company="晨光"), "headers.company"),
        (message([], {}, shadow="晨光"), "headers.shadow"),
        ({**message([], {}), "note": "晨光"}, "note"),
    ],
)
def test_a_message_that_says_more_is_found(sent: dict[str, Any], where: str) -> None:
    assert where in strange(sent, {BELL})
