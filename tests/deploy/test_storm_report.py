"""What a storm says at its end."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from deploy.demonstration.expected import Expected
from deploy.demonstration.judge import Claim, Claims
from deploy.demonstration.scenario import Case
from deploy.weather.report import ends, show
from deploy.weather.scene import set_scene
from devices.protocol.month import Month


def played() -> tuple[Claims, Expected]:
    """A storm of 300 disks that all ended as their world says."""
    expected = set_scene(4, 300, Month(2026, 11), pcsc=False).expected
    claims = [
        Claim(
            disk.device_no,
            disk.tax_id,
            disk.company,
            outcome=disk.outcome,
            reason=disk.reason,
            code=disk.code,
        )
        for disk in expected.disks
    ]
    return Claims(claims), expected


def shown(**found: Any) -> str:
    report = {
        "accidents_in_all": 0,
        "accidents": {},
        "not_done": [],
        "storm_errors": [],
        "ended_by_itself": {},
        "presses": {},
        "seconds": {"storm": 1.0, "calm": 1.0},
        "cleared_in_the_storm": 0,
        "in_doubt": [],
        "violations": [],
    }
    out = io.StringIO()
    show(report | found, Console(file=out, width=80))
    return out.getvalue()


def test_every_end_stands_with_the_situations_of_the_world_behind_it() -> None:
    claims, expected = played()
    found = ends(claims, expected)
    assert sum(found["ends"].values()) == len(expected.disks)
    behind = {case: end for end, cases in found["cases"].items() for case in cases}
    assert behind[Case.NORMAL] == "done"
    assert behind[Case.ABSENT] == "waiting(disk)"
    assert behind[Case.NOT_FILED] == "waiting(filing) not_filed"
    assert behind[Case.LOCKED_PIN] == "failed password_locked"
    for end, cases in found["cases"].items():
        assert sum(cases.values()) == found["ends"][end]


def test_ends_are_shown_in_the_words_of_the_pages_and_a_doubt_by_its_disk() -> None:
    text = shown(**ends(*played()), in_doubt=["6619000000000001"])
    assert "等待: 待申报 [waiting(filing) not_filed]" in text
    assert "未办成 [failed password_locked]" in text
    assert Case.LOCKED_PIN in text
    assert "6619000000000001" in text
    assert "违反 (violations): 0" in text


def test_violations_are_shown_one_a_line_and_of_many_the_first() -> None:
    text = shown(ends={}, cases={}, violations=[f"不符 {number}" for number in range(100)])
    assert "违反 (violations): 100" in text
    assert "· 不符 0\n" in text
    assert "不符 99" not in text
    assert "report.json" in text
