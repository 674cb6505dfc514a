"""What must hold after every step of the state model, whatever was played."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis.stateful import RuleBasedStateMachine, invariant

from agency import audit
from agency.models import Agency
from agency.scope import agency_scope
from clearing.choices import PeriodState
from clearing.models import DiskPeriod, Run
from clearing.states import OPEN, Reason, RunState
from tests.clearing.machine import PERIOD
from tests.reliability.truths import TrueBureau, TrueDisk, TrueWishes


class Promises(RuleBasedStateMachine):
    """Our tables of ``agency`` against what is true of its ``disks``."""

    agency: Agency
    disks: Sequence[TrueDisk]
    wishes: TrueWishes
    truth: TrueBureau

    def _row(self, disk: TrueDisk) -> str:
        row = DiskPeriod.objects.filter(disk=disk.row, period=str(PERIOD)).first()
        return row.state if row is not None else ""

    @invariant()
    def no_row_says_cleared_where_the_disk_is_not(self) -> None:
        with agency_scope(self.agency.pk):
            for disk in self.disks:
                if self._row(disk) == PeriodState.CLEARED:
                    assert disk.cleared

    @invariant()
    def what_is_called_done_is_so(self) -> None:
        with agency_scope(self.agency.pk):
            for run in Run.objects.filter(state=RunState.DONE, intent="report_and_clear"):
                assert next(disk for disk in self.disks if disk.row.pk == run.disk_id).cleared

    @invariant()
    def no_disk_is_cleared_twice_or_without_a_backup(self) -> None:
        for disk in self.disks:
            assert disk.clears <= 1
            assert disk.clears == 0 or disk.backups_before_clear > 0

    @invariant()
    def every_open_run_says_where_it_stands(self) -> None:
        with agency_scope(self.agency.pk):
            for run in Run.objects.filter(state__in=OPEN):
                assert run.state != RunState.WAITING or run.reason
                assert run.state != RunState.UNKNOWN or run.open_intent
                assert run.state != RunState.CLAIMED or run.attempt is not None

    @invariant()
    def every_open_run_is_what_people_want(self) -> None:
        with agency_scope(self.agency.pk):
            for run in Run.objects.filter(state__in=OPEN):
                assert run.intent == self.wishes.wanted[run.pk]
                # One that a late read queued may be kept back before the next round ends it.
                if run.state == RunState.WAITING and run.reason != Reason.HOLD:
                    assert run.pk not in self.wishes.cancelled

    @invariant()
    def every_waiting_run_has_a_waker(self) -> None:
        """A time; or a disk or a machine that comes, a person, the end of a pause."""
        woken = {Reason.DISK, Reason.MACHINE, Reason.BY_HAND, Reason.HOLD}
        with agency_scope(self.agency.pk):
            for run in Run.objects.filter(state=RunState.WAITING, next_try_at__isnull=True):
                assert run.reason in woken or (
                    run.reason == Reason.BUREAU and self.truth.paused != ""
                )

    @invariant()
    def the_trail_is_whole(self) -> None:
        with agency_scope(self.agency.pk):
            assert audit.first_bad_sequence() is None
