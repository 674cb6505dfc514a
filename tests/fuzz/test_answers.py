"""The fuzz command in its short form, and hypothesis on top: same rules, smaller numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.protocol.failures import Failure
from tests.fuzz.answers import ACTIONS, DRIVERS, Broken, answers_in, fuzz, main, one_run


@pytest.mark.parametrize("driver", list(DRIVERS))
def test_whatever_a_device_answers_only_failures_of_the_catalogue_leave(driver: str) -> None:
    ends = fuzz(driver, runs=400, seed=1)
    assert ends["result"] > 0
    assert ends["device_garbled"] > 0


@pytest.mark.parametrize("driver", list(DRIVERS))
@given(replies=st.lists(st.binary(max_size=120), max_size=6), which=st.sampled_from(list(ACTIONS)))
def test_pure_noise_is_a_failure(driver: str, replies: list[bytes], which: str) -> None:
    noise = iter(replies)
    target = DRIVERS[driver](lambda real: next(noise, b""))
    try:
        ACTIONS[which](target)
    except Failure:
        return
    assert driver == "ic_card"  # a card has no uploads to ask for: it needs no answer


def test_a_run_is_the_same_when_told_again() -> None:
    assert [one_run("ukey", 3, n) for n in range(20)] == [one_run("ukey", 3, n) for n in range(20)]


def test_what_is_broken_is_told_with_its_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(target: object) -> object:
        return 1 // 0

    answers_in("ic_card", "identify")
    monkeypatch.setitem(ACTIONS, "identify", broken)
    with pytest.raises(Broken, match=r"run [0-9]+"):
        fuzz("ic_card", runs=100, seed=0)
    assert main(["--runs", "100", "--driver", "ic_card"]) == 1
    assert "BROKEN" in capsys.readouterr().out
