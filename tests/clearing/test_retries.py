"""The one table of retries: each class of failure, how often and after how long."""

from __future__ import annotations

import pytest

from clearing.outcomes import outcome_of
from devices.protocol.catalogue import class_of
from devices.protocol.catalogue.retries import PROBE, patience_of
from devices.protocol.failures import Code, Failure, FailureClass


def test_pauses_grow_are_jittered_and_bounded() -> None:
    patience = patience_of(Code.BUREAU_UNREACHABLE)
    assert patience is not None
    for tried in range(1, 12):
        expected = min(patience.first * 2 ** (tried - 1), patience.longest)
        drawn = {patience.pause(tried) for _ in range(50)}
        assert len(drawn) > 1
        assert 0.8 * expected <= min(drawn) <= max(drawn) <= 1.2 * expected
    assert not patience.exhausted(6)
    assert patience.exhausted(7)
    assert PROBE.pause(100) <= 1.2 * PROBE.longest


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_retried_as_its_class_says(code: Code) -> None:
    patience = patience_of(code)
    if class_of(code) == FailureClass.RETRY:
        assert patience is not None
    outcome = outcome_of(Failure(code))
    if patience is not None and code != Code.QUIET_HOURS:
        assert outcome.retry_after == patience.first
