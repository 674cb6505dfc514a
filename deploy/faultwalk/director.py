"""Drives the scenarios of one running stack to their ends, and plays the people in them.

Starts a few on each machine at a time, starts machines again that were killed (as systemd would),
files a return where a run waits for it, and plays two more people: one cancels a run in the middle
of its clear, one finds out a PIN that is in doubt. It looks only at what the tables say; whether
that is true is the judge's business. Bounded in everything.
To be used after ``django.setup()``.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agency.clock import now
from agency.errors import ServiceError
from agency.models import Agency
from agency.scope import agency_scope
from clearing.bureau.standin import control
from clearing.models import Run
from clearing.services import batch_start, mark_filed, run_cancel, run_retry
from clearing.states import ENDED, Reason, RunState
from deploy.faultwalk.house import plans
from deploy.faultwalk.paths import Scenario
from deploy.faultwalk.plan import Way, mark_cancelled, struck, write_plan
from deploy.faultwalk.spread import ALONE
from deploy.stack import Stack
from devices.models import TaxDisk
from devices.protocol.failures import Code
from devices.services import disk_password_enter
from devices.simulator.store import DiskStore

_BY = "走查"
#: How many runs a machine has open at a time, for each that it works on: some of them only wait.
_OPEN_PER_PLACE = 3
_LOOK_SECONDS = 1.0
#: Waits that end by themselves; all others are ends.
_GOES_ON = frozenset(Reason) - {Reason.BY_HAND, Reason.WINDOW, Reason.FILING}


@dataclass(slots=True)
class Progress:
    """What has become of one scenario. ``note``: why it was given up, if it was."""

    scenario: Scenario
    started: float = 0.0
    ended: float = 0.0
    filed: bool = False
    cancelled: bool = False
    pin_found_out: bool = False
    note: str = ""


@dataclass(slots=True)
class Director:
    """``patience``: seconds that one scenario may take. ``say``: told how many have ended."""

    stack: Stack
    period: str
    parallel: int
    patience: float
    say: Callable[[int], None] = lambda ended: None
    _agencies: dict[str, int] = field(default_factory=dict)
    _open: dict[str, dict[str, Progress]] = field(default_factory=lambda: defaultdict(dict))

    def run(self, those: Sequence[Scenario]) -> list[Progress]:
        """Drive all of them; in their order."""
        self._agencies = {
            agency.name.rpartition(" ")[2]: agency.pk for agency in Agency.objects.all()
        }
        waiting: dict[str, deque[Progress]] = defaultdict(deque)
        everyone = [Progress(each) for each in those]
        for progress in everyone:
            waiting[progress.scenario.machine].append(progress)
        while any(waiting.values()) or any(self._open.values()):
            for machine, queue in waiting.items():
                with agency_scope(self._agencies[machine]):
                    self._look_after(machine)
                    self._start_some(machine, queue)
            self.stack.tend()
            self.say(sum(progress.ended > 0 for progress in everyone))
            time.sleep(_LOOK_SECONDS)
        return everyone

    def _start_some(self, machine: str, queue: deque[Progress]) -> None:
        most = 1 if machine.startswith(ALONE) else self.parallel * _OPEN_PER_PLACE
        fresh: list[Progress] = []
        while queue and len(self._open[machine]) < most:
            progress = queue.popleft()
            each = progress.scenario
            write_plan(plans(self.stack.places), each.device_no, machine, each.steps)
            progress.started = time.monotonic()
            self._open[machine][each.device_no] = progress
            fresh.append(progress)
        if not fresh:
            return
        numbers = [progress.scenario.device_no for progress in fresh]
        batch_start(
            disk_ids=TaxDisk.objects.filter(device_no__in=numbers).values_list("pk", flat=True),
            intent="report_and_clear",
            key=str(uuid.uuid4()),
            started_by=_BY,
            now=now(),
        )

    def _look_after(self, machine: str) -> None:
        """See what has ended, and do what a person would do about what waits for one."""
        open_here = self._open[machine]
        newest = (
            Run.objects.select_related("disk")
            .filter(disk__device_no__in=list(open_here))
            .order_by("disk_id", "-pk")
            .distinct("disk_id")
        )
        for run in newest if open_here else ():
            progress = open_here[run.disk.device_no or ""]
            self._cancel_where_planned(run, progress)
            if time.monotonic() - progress.started > self.patience:
                progress.note = f"没有办完 (not settled): {run.state} {run.reason} {run.code}"
            elif not self._is_over(run, progress):
                continue
            progress.ended = time.monotonic()
            del open_here[run.disk.device_no or ""]

    def _cancel_where_planned(self, run: Run, progress: Progress) -> None:
        """A person cancels once the command is on its way; they are refused where the doubt about
        it came first."""
        each = progress.scenario
        if progress.cancelled or each.fault is None or each.fault.way != Way.CANCELLED:
            return
        folder = plans(self.stack.places)
        if struck(folder, each.device_no) == len(each.steps):
            with contextlib.suppress(ServiceError):
                run_cancel(run_id=run.pk, by=_BY, now=now())
            mark_cancelled(folder, each.device_no)
            progress.cancelled = True

    def _is_over(self, run: Run, progress: Progress) -> bool:
        if run.state == RunState.WAITING and run.reason == Reason.FILING:
            return not self._file(run, progress)
        if run.state == RunState.FAILED and run.code == Code.PIN_UNKNOWN:
            return not self._find_out_pin(run, progress)
        if run.state == RunState.WAITING:
            return run.reason not in _GOES_ON
        return run.state in ENDED

    def _file(self, run: Run, progress: Progress) -> bool:
        """The return is filed, and a person marks it. Whether there is anything to go on for."""
        each = progress.scenario
        if progress.filed or not each.path.filed_later:
            return False
        filings = {each.client.tax_id: {self.period: "filed"}}
        control.send(self.stack.bureau_url, filings=filings)
        mark_filed(company_ids=[run.disk.company_id], period=self.period, by=_BY, now=now())
        progress.filed = True
        return True

    def _find_out_pin(self, run: Run, progress: Progress) -> bool:
        """The tax hall sets the PIN, and a person enters it; once. What the card holds is known
        here because it is simulated."""
        state = DiskStore(self.stack.places.disks, progress.scenario.device_no).load()
        if progress.pin_found_out or state is None:
            return False
        pin = state.pin.decode("latin-1")
        text = pin if pin.isascii() and pin.isprintable() else state.pin.hex().upper()
        disk_password_enter(disk=run.disk, device_password=text, now=now())
        run_retry(run_ids=[run.pk], key=str(uuid.uuid4()), started_by=_BY, now=now())
        progress.pin_found_out = True
        return True
