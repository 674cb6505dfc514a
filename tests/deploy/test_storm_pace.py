"""A storm's time limits fit the computer, as busy as it is."""

from __future__ import annotations

import pytest

from deploy import storm_run
from deploy.weather.pace import LONGEST, QUIET, factor_for, time_factor


@pytest.mark.parametrize(("slower", "factor"), [(0.7, 0.1), (1, 0.1), (2.5, 0.25), (80, LONGEST)])
def test_limits_are_the_longer_the_slower_everything_is_within_bounds(
    slower: float, factor: float
) -> None:
    assert factor_for(slower) == factor


def test_what_is_measured_here_is_a_factor_that_the_settings_take() -> None:
    assert QUIET <= time_factor() <= LONGEST


def test_a_factor_that_the_settings_refuse_is_refused_before_anything_starts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        storm_run.main(["--time-factor", "2"])
    assert "--time-factor" in capsys.readouterr().err
