"""A machine whose credentials are taken away while its program is in the middle of a run.

It stops before its next irreversible command; what it had done by then is taken as fact.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from agency.scope import agency_scope
from clearing.models import Evidence
from devices.models import EnrolmentCode, Machine
from devices.services import broker_grant, machine_enrol, machine_revoke, machine_roll
from devices.simulator.rack_faults import Mode
from tests.reliability.regressions.desk import MONTH, Desk, until

pytestmark = pytest.mark.committed
#: Time enough, on a busy machine too, to take the credentials away while the report is written.
HANG_SECONDS = 12


def in_the_middle_of_its_report(desk: Desk) -> Any:
    desk.hang(Mode.HANG_AFTER, "DECLARE_DUTY", seconds=HANG_SECONDS)
    desk.start_machine()
    run = desk.press()
    desk.wait_until_hanging()
    return run


def reported(desk: Desk) -> bool:
    """The server has the report as a fact."""
    with agency_scope(desk.agency.pk):
        return Evidence.objects.filter(kind="package", disk=desk.disk).exists()


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def test_a_revoked_machine_ends_its_write_tells_of_it_and_begins_no_other(desk: Desk) -> None:
    run = in_the_middle_of_its_report(desk)
    with agency_scope(desk.agency.pk):
        machine_revoke(machine=desk.machine, now=now())
    assert desk.run(run).state == "claimed"
    desk.wait_for(run, "queued", "waiting", "unknown", "failed")
    until(lambda: reported(desk), "what it had done is not told")
    assert desk.writes() == MONTH[:2]
    assert [entry["why"] for entry in desk.trail("run.denied")][-1:] == ["revoked"]


def test_a_rolled_machine_begins_nothing_until_it_is_enrolled_again_and_then_goes_on(
    desk: Desk,
) -> None:
    run = in_the_middle_of_its_report(desk)
    with agency_scope(desk.agency.pk):
        code = machine_roll(machine=desk.machine, by="吴主管", now=now())
    desk.wait_until_free()
    before = desk.writes()
    desk.kill_machine()
    assert before == MONTH[:2]
    assert not reported(desk)
    with agency_scope(desk.agency.pk):
        assert EnrolmentCode.objects.filter(pk=code.row.pk).exists()
        enrolled = machine_enrol(code_id=code.row.pk, host="pc", version="t", now=now())
        desk.machine = Machine.objects.get(pk=desk.machine.pk)
    with agency_scope(desk.agency.pk):
        desk.token, desk.broker = enrolled.token, broker_grant(desk.machine)
    desk.start_machine()
    assert desk.wait_for(run, "done", "failed").state == "done"
    assert reported(desk)
    assert desk.writes() == MONTH
