"""What a storm says at its end: on the terminal, and as JSON beside its logs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Course:
    """Seconds of storm and calm, and how many disks we had cleared when the storm was over."""

    storm: float
    calm: float
    cleared: int


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
    say("结果 (ends):")
    for end, count in report["ends"].items():
        say(f"  {count:4d} {end}")
    violations = report["violations"]
    say(f"违反 (violations): {len(violations)}", "red bold" if violations else "green")
    for sentence in violations[:_MOST_SHOWN]:
        say(f"  · {sentence}", "red")
    if len(violations) > _MOST_SHOWN:
        say("  … (report.json)", "red")
