"""What a storm says at its end: on the terminal, and as JSON beside its logs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.demonstration.expected import Expected
from deploy.demonstration.judge import Claims

_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Course:
    """Seconds of storm and calm, how many disks we had cleared when the storm was over, and how
    often the button was pressed, by what for."""

    storm: float
    calm: float
    cleared: int
    presses: Mapping[str, int]


def ends(claims: Claims, expected: Expected) -> dict[str, Any]:
    """How many disks ended how, and by end in which situations of the world they were: whoever
    reads it sees whether a reason or a code is the true one."""
    situation = {disk.device_no: disk.case for disk in expected.disks}
    cases: dict[str, Counter[str]] = defaultdict(Counter)
    for claim in claims.disks:
        cases[f"{claim.ending} {claim.code}".strip()][situation.get(claim.device_no, "?")] += 1
    order = sorted(cases, key=lambda end: -cases[end].total())
    return {
        "ends": {end: cases[end].total() for end in order},
        "cases": {end: dict(cases[end].most_common()) for end in order},
    }


def write(report: Mapping[str, Any], *paths: Path | None) -> None:
    """The whole report, wherever it is wanted."""
    text = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    for path in paths:
        if path is not None:
            path.write_text(text, encoding="utf-8")


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report for a person; of many violations the first ones."""

    def say(line: str, style: str = "") -> None:
        console.print(line, style=style, markup=False, soft_wrap=True)

    say(f"事故 (accidents) {report['accidents_in_all']}:")
    for kind, count in report["accidents"].items():
        say(f"  {count:4d} {kind}")
    for title, lines in (
        ("未能进行 (not done)", report["not_done"]),
        ("风暴自身的错误 (errors of the storm itself)", report["storm_errors"]),
    ):
        for line in lines:
            say(f"  {title}: {line}", "yellow")
    if report["ended_by_itself"]:
        say(f"自行退出后重启 (ended by itself, restarted): {report['ended_by_itself']}", "yellow")
    seconds = report["seconds"]
    say(
        f"风暴 {seconds['storm']} 秒, 平静 {seconds['calm']} 秒 (storm, calm); 风暴中清卡 "
        f"{report['cleared_in_the_storm']} (cleared in the storm); 按键 {report['presses']}"
    )
    say("结果, 以及模拟世界中的情形 (ends, and the situations of the world behind each):")
    for end, count in report["ends"].items():
        say(f"  {count:4d} {_end(end)}")
        say(f"       {'、'.join(f'{case} {n}' for case, n in report['cases'][end].items())}", "dim")
    if report["in_doubt"]:
        say(f"  PIN 确实待核对 (PIN truly in doubt): {'、'.join(report['in_doubt'])}", "yellow")
    violations = report["violations"]
    say(f"违反 (violations): {len(violations)}", "red bold" if violations else "green")
    for sentence in violations[:_MOST_SHOWN]:
        say(f"  · {sentence}", "red")
    if len(violations) > _MOST_SHOWN:
        say("  … (report.json)", "red")


def _end(end: str) -> str:
    """An end in the words of the pages, with its codes."""
    from deploy.demonstration.show import state_words, why

    ending, _, code = end.partition(" ")
    because = why(ending, code)
    return f"{state_words(ending)} [{end}]{f': {because}' if because else ''}"
