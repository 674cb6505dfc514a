"""The services against a small model: anything in any order, and the promises hold after each step.

The model knows what is true of each disk, which worker really holds which permission, and nothing
of our tables. A played worker is honest but unlucky: it reads before it asks, writes only on a
living permission, and may vanish, be late, or be told no at any point.
"""

from __future__ import annotations

import datetime as dt
import uuid

from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from agency.errors import ServiceError
from agency.models import Bureau, Company
from agency.scope import agency_scope
from agency.services import agency_create
from clearing.choices import Intent
from clearing.models import Backup, BureauPause, Run
from clearing.services import (
    batch_start,
    bureau_pause,
    bureau_resume,
    hold,
    mark_filed,
    release_hold,
    run_cancel,
    run_retry,
)
from clearing.services.sweep import sweep
from clearing.states import OPEN, Reason, RunState
from devices.choices import DiskKind
from devices.services import disk_create
from tests.clearing.machine import PERIOD, PlayedMachine
from tests.conftest import NOW, fictional_tax_id
from tests.reliability.kept import Promises
from tests.reliability.truths import (
    BY_HAND,
    BY_ITSELF,
    WAITS,
    TrueBureau,
    TrueDisk,
    TrueWishes,
    Worker,
)

ADDRESS = "http://model.test/"
DISKS = 3
MACHINES = 2


class Engine(Promises):
    """Rules are what people, machines and time do."""

    def __init__(self) -> None:
        super().__init__()
        # One transaction an example, rolled back: examples do not see each other.
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.agency = agency_create(name="模型代账", practice=True)
        self.bureau, _created = Bureau.objects.get_or_create(
            code="14200000000", defaults={"name": "模型税局", "simulated": True, "address": ADDRESS}
        )
        with agency_scope(self.agency.pk):
            self.disks = [self._disk(number) for number in range(DISKS)]
        self.machines = [
            PlayedMachine.enrol(self.agency, f"读盘机{number}") for number in range(MACHINES)
        ]
        self.plugged: dict[int, set[int]] = {number: set() for number in range(MACHINES)}
        self.workers: list[Worker] = []
        self.held: set[int] = set()
        self.truth = TrueBureau()
        self.wishes = TrueWishes()
        self.plug(0, set(range(DISKS)))
        self.click(set(range(DISKS)), "report_and_clear")

    def _disk(self, number: int) -> TrueDisk:
        company = Company.objects.create(
            agency=self.agency,
            short_name=f"模型{number}",
            name=f"模型{number}",
            tax_id=fictional_tax_id(),
            bureau=self.bureau,
        )
        row = disk_create(
            company=company, kind=DiskKind.IC_CARD, device_no=uuid.uuid4().hex[:16], now=NOW
        )
        return TrueDisk(row)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.transaction.__exit__(None, None, None)

    # -- people -----------------------------------------------------------------------------

    @rule(
        which=st.sets(st.integers(0, DISKS - 1), min_size=1),
        intent=st.sampled_from(["read", "report", "report_and_clear", "report_and_clear"]),
    )
    def click(self, which: set[int], intent: str) -> None:
        with agency_scope(self.agency.pk):
            try:
                batch_start(
                    disk_ids=[self.disks[number].row.pk for number in which],
                    intent=intent,
                    key=str(uuid.uuid4()),
                    started_by="会计",
                    now=NOW,
                )
            except ServiceError:
                # Refused only when every disk is kept back, or done already as the tables know it.
                done = {"cleared", "to_clear"} if intent == "report" else {"cleared"}
                assert all(
                    number in self.held or self._row(self.disks[number]) in done for number in which
                )
                return
            self._wished(dict.fromkeys(which, intent))

    def _wished(self, intents: dict[int, str]) -> None:
        """A click was taken: of the disks that nobody keeps back, each open run has it in it."""
        for number, intent in intents.items():
            if number in self.held and intent != "read":
                continue
            run = Run.objects.filter(disk=self.disks[number].row, state__in=OPEN).first()
            if run is not None:
                # What waits for work elsewhere is looked at again.
                assert run.reason != Reason.BY_HAND
                self.wishes.clicked(run.pk, intent)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        with agency_scope(self.agency.pk):
            runs = list(Run.objects.order_by("pk"))
            if not runs:
                return
            run: Run = data.draw(st.sampled_from(runs))
            before = run.state
            try:
                run_cancel(run_id=run.pk, by="会计", now=NOW)
            except ServiceError:
                assert before == RunState.UNKNOWN or before not in OPEN
            else:
                assert before in OPEN - {RunState.UNKNOWN}
                self.wishes.cancelled.add(run.pk)

    @rule()
    def retry(self) -> None:
        with agency_scope(self.agency.pk):
            runs = list(Run.objects.values_list("pk", flat=True))
            failed = Run.objects.filter(state=RunState.FAILED).order_by("pk")
            rows = [disk.row.pk for disk in self.disks]
            wanted = {rows.index(run.disk_id): self.wishes.wanted[run.pk] for run in failed}
            before = Run.objects.count()
            try:
                run_retry(run_ids=runs, key=str(uuid.uuid4()), started_by="会计", now=NOW)
            except ServiceError:
                assert Run.objects.count() == before
            else:
                assert wanted
                self._wished(wanted)

    @rule(which=st.sets(st.integers(0, DISKS - 1), min_size=1))
    def keep_back(self, which: set[int]) -> None:
        with agency_scope(self.agency.pk):
            hold(
                disk_ids=[self.disks[number].row.pk for number in which],
                note="客户要求",
                by="会计",
                real_now=dt.datetime.now(dt.UTC),
            )
        self.held |= which

    @rule(which=st.sets(st.integers(0, DISKS - 1), min_size=1))
    def let_go(self, which: set[int]) -> None:
        with agency_scope(self.agency.pk):
            changed = release_hold(
                disk_ids=[self.disks[number].row.pk for number in which],
                by="会计",
                real_now=dt.datetime.now(dt.UTC),
            )
        assert changed == len(which & self.held)
        self.held -= which

    @rule(pause=st.booleans())
    def pause(self, pause: bool) -> None:
        """By hand: the bureau of all disks."""
        with agency_scope(self.agency.pk):
            act = bureau_pause if pause else bureau_resume
            try:
                act(address=ADDRESS, note="维护", by="主管", now=dt.datetime.now(dt.UTC))
            except ServiceError:
                assert self.truth.paused == (BY_HAND if pause else "")
                return
        if pause:
            self.truth.pause_by_hand()
        else:
            self.truth.free()

    @rule(number=st.integers(0, DISKS - 1))
    def file(self, number: int) -> None:
        with agency_scope(self.agency.pk):
            mark_filed(
                company_ids=[self.disks[number].row.company_id],
                period=str(PERIOD),
                by="会计",
                now=NOW,
            )

    # -- machines ---------------------------------------------------------------------------

    @rule(machine=st.integers(0, MACHINES - 1), disks=st.sets(st.integers(0, DISKS - 1)))
    def plug(self, machine: int, disks: set[int]) -> None:
        """Disks are moved: what is here now is nowhere else."""
        for other in self.plugged.values():
            other -= disks
        self.plugged[machine] = set(disks)
        for number, held in self.plugged.items():
            rows = [self.disks[each].row for each in sorted(held)]
            assert self.machines[number].present(*rows).status_code == 200

    @rule(number=st.integers(0, DISKS - 1))
    def pull(self, number: int) -> None:
        """One disk leaves, the others stay where they are."""
        for machine, held in self.plugged.items():
            if number in held:
                self.plug(machine, held - {number})

    @rule(machine=st.integers(0, MACHINES - 1), number=st.integers(0, DISKS - 1))
    def insert(self, machine: int, number: int) -> None:
        self.plug(machine, self.plugged[machine] | {number})

    @rule(number=st.integers(0, MACHINES - 1))
    def claim(self, number: int) -> None:
        machine = self.machines[number]
        order = machine.claim()
        if order is None:
            return
        disk = next(each for each in self.disks if each.row.device_no == order["device_no"])
        assert self.disks.index(disk) in self.plugged[number]
        assert not any(each.alive and each.disk is disk and each.granted for each in self.workers)
        self.workers.append(Worker(machine, disk, machine.run_id, machine.attempt))

    def _draw(self, data: st.DataObject) -> Worker | None:
        if not self.workers:
            return None
        worker: Worker = data.draw(st.sampled_from(self.workers))
        machine = worker.machine
        machine.run_id, machine.attempt = worker.run_id, worker.attempt
        machine.number = worker.number
        return worker

    # What a worker can do; the honest order of it is ``advance``.

    def _read(self, worker: Worker) -> None:
        machine, worker.read = worker.machine, worker.disk.control()
        machine.on_run("record", machine.identified(worker.disk.row), machine.read(worker.read))
        worker.number, worker.granted = machine.number, ""

    def _ask(self, worker: Worker, stage: str) -> None:
        if not worker.read or worker.granted:
            return
        if worker.machine.intend(stage).status_code == 200:
            assert self.truth.permits(worker.run_id)
            assert self.disks.index(worker.disk) not in self.held
            assert self.wishes.permit(worker.run_id, stage)
            # Only a living attempt may be permitted, and no second one for the same disk.
            assert worker.alive
            assert not any(w.granted and w.alive and w.disk is worker.disk for w in self.workers)
            worker.granted = stage

    def _write(self, worker: Worker) -> None:
        """The disk is changed, if the permission still lives; nobody is told."""
        if not (worker.granted and worker.alive):
            return
        disk = worker.disk
        if worker.granted == "report":
            disk.reported = True
        elif disk.reported:
            disk.cleared = True
            disk.clears += 1
            with agency_scope(self.agency.pk):
                disk.backups_before_clear = Backup.objects.filter(
                    attempt__key=worker.attempt
                ).count()
        worker.granted = ""

    def _keep(self, worker: Worker) -> None:
        worker.machine.keep(b"backup " + worker.attempt.encode())

    def _advance(self, worker: Worker) -> None:
        """The next step of the procedure, from what the worker has read and done itself."""
        disk, step = worker.disk, worker.step
        if step == "claimed":
            self._read(worker)
            worker.step = "cleared" if disk.cleared else "reported" if disk.reported else "fresh"
        elif step == "fresh":
            self._ask(worker, "report")
            worker.step = "reporting" if worker.granted else "claimed"
        elif step in {"reporting", "clearing"}:
            self._write(worker)
            worker.step = "claimed"
        elif step == "reported":
            self._keep(worker)
            worker.step = "backed up"
        elif step == "backed up":
            self._ask(worker, "clear")
            worker.step = "clearing" if worker.granted else "claimed"
        elif step == "cleared":
            worker.machine.settle("done")
            self._gone(worker)

    def _gone(self, worker: Worker) -> None:
        worker.alive, worker.granted = False, ""
        self.workers.remove(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), steps=st.integers(1, 9))
    def advance(self, data: st.DataObject, steps: int) -> None:
        worker = self._draw(data)
        while worker is not None and steps and worker in self.workers:
            self._advance(worker)
            steps -= 1

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), what=st.sampled_from(["read", "keep", "report", "clear", "write"]))
    def wander(self, data: st.DataObject, what: str) -> None:
        """A step out of order: the server must hold all the same."""
        worker = self._draw(data)
        if worker is None:
            return
        if what == "read":
            self._read(worker)
        elif what == "keep":
            self._keep(worker)
        elif what == "write":
            self._write(worker)
        else:
            self._ask(worker, what)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), down=st.booleans())
    def ask_the_bureau(self, data: st.DataObject, down: bool) -> None:
        """A worker tells how a call to the bureau ended; what a dead one tells is old."""
        if (worker := self._draw(data)) is not None:
            self._called(worker, down=down)

    def _called(self, worker: Worker, *, down: bool) -> None:
        machine = worker.machine
        machine.run_id, machine.attempt = worker.run_id, worker.attempt
        machine.number = worker.number
        code = "bureau_unreachable" if down else ""
        said = {"stage": "filing", "ok": not down, "code": code, "period": str(PERIOD)}
        machine.on_run("record", machine.fact("stage", at=NOW.isoformat(), **said))
        worker.number = machine.number
        if worker.alive:
            self.truth.heard(worker.run_id, down=down)

    @precondition(lambda self: self.workers)
    @rule(
        data=st.data(),
        end=st.sampled_from(["done", "failed", "waiting", "cancelled", "unknown"]),
        wait=st.sampled_from(WAITS),
        read_first=st.booleans(),
    )
    def settle(
        self, data: st.DataObject, end: str, wait: tuple[str, str], read_first: bool
    ) -> None:
        worker = self._draw(data)
        if worker is None:
            return
        machine = worker.machine
        facts = [machine.read(worker.disk.control())] if read_first else []
        more = {"code": "no_answer"} if end in {"failed", "unknown"} else {}
        if end == "waiting":
            more = {"reason": wait[0], "code": wait[1]}
        machine.settle(end, *facts, **more)
        self._gone(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """The machine sees its child die and gives the run back."""
        if (worker := self._draw(data)) is not None:
            worker.machine.on_run("release")
            self._gone(worker)

    # -- time -------------------------------------------------------------------------------

    @rule(leases=st.booleans())
    def sweep(self, leases: bool) -> None:
        """Every lease is over; a permission is over before its lease. Late facts may still come."""
        if leases:
            with agency_scope(self.agency.pk):
                Run.objects.filter(state=RunState.CLAIMED).update(
                    lease_until=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
                )
            for worker in self.workers:
                worker.alive, worker.granted = False, ""
        self._swept(leases)

    @precondition(lambda self: self.truth.paused == BY_ITSELF)
    @rule()
    def time_to_probe(self) -> None:
        """The pause is due for a run that tries."""
        with agency_scope(self.agency.pk):
            BureauPause.objects.filter(address=ADDRESS).update(
                next_probe_at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
            )
        self._swept(leases=False)

    def _swept(self, leases: bool) -> None:
        """One round; then who is let through is looked at, and that it is one at the most."""
        with agency_scope(self.agency.pk):
            sweep(
                now=NOW,
                real_now=dt.datetime.now(dt.UTC),
                leases=leases,
            )
            # Nobody goes on with what was cancelled, or waits for a hold that is over.
            standing = Run.objects.filter(state__in=[RunState.QUEUED, RunState.WAITING])
            assert not standing.filter(pk__in=self.wishes.cancelled).exists()
            held = [self.disks[number].row.pk for number in self.held]
            assert not standing.filter(reason=Reason.HOLD).exclude(disk__in=held).exists()
            if not self.truth.paused:
                return
            row = BureauPause.objects.get(address=ADDRESS)
            writing = Run.objects.exclude(intent=Intent.READ)
            if row.opened_at is None:  # nobody is left who would ask
                assert self.truth.paused == BY_ITSELF
                assert not writing.filter(state__in=OPEN).exists()
                self.truth.free()
                return
            let_through = set(writing.filter(state=RunState.QUEUED).values_list("pk", flat=True))
            probing = [self.truth.probe] if self.truth.probe is not None else []
            if Run.objects.filter(
                pk__in=probing, state__in=[RunState.QUEUED, RunState.CLAIMED]
            ).exists():
                assert row.probe_run_id == self.truth.probe
            self.truth.probe = row.probe_run_id
            assert let_through <= {row.probe_run_id}
            assert row.probe_run_id is None or self.truth.paused == BY_ITSELF
