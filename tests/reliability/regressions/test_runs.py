"""What becomes of a run whose machine dies, whose lease is over, or that is cancelled, while its
disk is being written."""

from __future__ import annotations

import datetime as dt

import pytest

from agency.choices import Action
from agency.scope import agency_scope
from clearing.models import Batch
from clearing.services import run_cancel
from clearing.services.sweep import sweep
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.house import NOW
from tests.reliability.regressions.desk import MONTH, Desk

pytestmark = pytest.mark.committed


def test_killed_between_the_write_and_its_commit_the_disk_tells_what_happened(desk: Desk) -> None:
    """awx#9594: a job whose worker was killed was called failed, although its work was done."""
    desk.hang(Mode.HANG_AFTER, "UPDATE_CONTROLS", seconds=60)
    desk.start_machine()
    run = desk.press()
    desk.wait_until_hanging()
    desk.kill_machine()
    assert desk.writes() == MONTH  # on the disk, and nobody was told
    desk.start_machine()
    assert desk.wait_for(run, "done", "failed").state == "done"
    assert desk.writes() == MONTH
    assert desk.period_state() == "cleared"


def test_a_run_taken_from_a_silent_machine_is_never_told_as_failed(desk: Desk) -> None:
    """awx#2285: a reaper marked a living job as failed and mailed it; the job then succeeded."""
    desk.hang(Mode.HANG_AFTER, "UPDATE_CONTROLS", seconds=5)
    desk.start_machine()
    run = desk.press()
    desk.wait_until_hanging()
    desk.expire_lease()
    with agency_scope(desk.agency.pk):
        sweep(now=NOW, real_now=dt.datetime.now(dt.UTC), leases=True)
        assert Batch.objects.get().ended_at is None
    assert desk.run(run).state == "unknown"
    assert desk.wait_for(run, "done", "failed").state == "done"
    ends = [entry["state"] for entry in desk.trail(Action.RUN_SETTLED)]
    assert ends and set(ends) <= {"done", "unknown", "queued"}
    assert desk.writes() == MONTH


def test_a_cancel_during_a_write_cuts_nothing_and_tells_the_truth(desk: Desk) -> None:
    """netbox#23158: stopping a running job leaves what it was writing half done and unrecorded."""
    desk.hang(Mode.HANG_BEFORE, "UPDATE_CONTROLS", seconds=2)
    desk.start_machine()
    run = desk.press()
    desk.wait_until_hanging()
    with agency_scope(desk.agency.pk):
        run_cancel(run_id=run.pk, by="郑会计", now=NOW)
    assert desk.run(run).state == "claimed"
    # The write was permitted before the cancel, so it ends, is read back and stands.
    assert desk.wait_for(run, "done", "failed", "cancelled").state == "done"
    assert desk.writes() == MONTH
    assert desk.period_state() == "cleared"
