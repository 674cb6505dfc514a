"""One run in a process of its own: ``python -m clearing.worker.child``.

The order, the token and the rest come as one JSON line on standard input (never as arguments or
environment, which others can see). It owns the disk for the time of the run (file locks), drives
``procedure.run``, settles, and tells the worker above by JSON lines on standard output what it is
doing. It may be killed at any point: what matters is in the journal or on the disk.

Must never: print an order, touch a disk without its locks, or go on after its worker is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # httpx imports its command line along with rich and pygments wherever click is found: two
    # thirds of what this process would cost.
    sys.modules["click"] = None  # type: ignore[assignment]

from clearing import procedure
from clearing.bureau.port import DiskAddress
from clearing.bureau.session import BureauSession
from clearing.outcomes import outcome_of
from clearing.wire import End, Order, Outcome
from clearing.worker import durable
from clearing.worker.client import ServerClient, ServerError
from clearing.worker.drivers import Wanted, open_disk
from clearing.worker.gate import Gate
from clearing.worker.journal import Journal
from clearing.worker.leash import Leash, die, tie_to_parent
from clearing.worker.ledger import ServerLedger
from clearing.worker.pins import usable_password
from clearing.worker.places import Places
from clearing.worker.steady import OrderClock, ServerClock
from clearing.worker.switch import activate
from clearing.worker.task import Task
from clearing.worker.watch import DISK, Emit, Watch, WatchedBureau, WatchedDisk
from devices.drivers.contract import TaxDisk
from devices.protocol.failures import Code, Failure


def main(prepare: Callable[[Task], None] = lambda task: None) -> int:
    """Run the one task; 0 when it was ended at the server or waits in the journal. ``prepare``: for
    a fault walk, called with the task before anything of it is done."""
    emit = _events()
    sys.excepthook = lambda kind, error, trace: None  # its text could hold what must not be seen
    leash = Leash()
    task = Task.from_line(leash.task_line())
    tie_to_parent(task.parent)
    leash.hold()
    prepare(task)
    try:
        _run(task, leash, emit)
    except (ServerError, OSError, Failure) as error:
        emit({"event": "unsettled", "why": _where(error)})
        return 1
    return 0


def _run(task: Task, leash: Leash, emit: Emit) -> None:
    order = task.order
    watch = Watch(emit)
    journal = Journal(task.data_dir)
    clock = ServerClock(*task.server_seen) if task.server_seen else None
    client = ServerClient(task.server, task.token, clock=clock)
    with client, journal.open(order.run_id, order.attempt, order.device_no) as log:
        ledger = ServerLedger(
            order,
            client,
            log,
            journal.pins,
            watch=watch,
            stopping=leash.stopping,
            gate=Gate(task.data_dir),
            hold_seconds=task.hold_seconds,
        )
        with _held(task, leash, watch) as free:
            if not free:
                emit({"event": "busy"})
                ledger.release("the disk or its slot is in use on this machine")
                return
            outcome = _work(task, ledger, watch, emit)
            if outcome.end == End.LOST:
                ledger.release(ledger.denial or "permission lost")
            else:
                ledger.settle(outcome)
    emit({"event": "settled", "end": outcome.end.value, "code": str(outcome.code)})


@contextlib.contextmanager
def _held(task: Task, leash: Leash, watch: Watch) -> Iterator[bool]:
    """The disk, its slot, and the group of slots it belongs to."""
    order, places = task.order, Places(task.data_dir)
    with contextlib.ExitStack() as held:
        free, group = True, task.hardware.group_of(order.slot)
        if group is not None:  # who asks around in it lets go after each slot
            with watch.call("group", order.limits.call):
                waited = places.hold_group(group.name, order.limits.call, leash.stopping)
                free = held.enter_context(waited)
        yield free and held.enter_context(places.hold(order.device_no, order.slot))


def _work(task: Task, ledger: ServerLedger, watch: Watch, emit: Emit) -> Outcome:
    order = task.order
    clock = OrderClock(order.now, task.arrived)

    active = False

    def opened() -> TaxDisk:
        nonlocal active
        if not active:
            with watch.call(DISK + "activate", order.limits.call):
                activate(task.hardware, order.slot, order.limits.call)
            active = True
        with watch.call(DISK + "open", order.limits.call):
            disk = open_disk(task.hardware, _wanted(order, ledger, clock))
        ledger.capabilities = disk.capabilities
        rest = order.limits.call if task.hardware.component_of(order.slot) else 0.0
        return WatchedDisk(disk, watch, ledger.grant, order.limits, rest=rest)

    try:
        return procedure.run(
            order,
            open_disk=opened,
            bureau=WatchedBureau(_bureau_session(task), watch, order.limits),
            ledger=ledger,
            clock=clock,
        )
    except Failure as failure:  # nothing was begun: there is no way to the bureau
        return outcome_of(failure)
    except Exception as error:  # a fault of ours; the disk is what it is
        emit({"event": "crashed", "why": _where(error)})
        end = End.UNKNOWN if ledger.in_doubt else End.FAILED
        return Outcome(end, code=Code.MACHINE_FAULT, detail=type(error).__name__)


def _bureau_session(task: Task) -> BureauSession:
    """Straight to the bureau, or through the component that holds the disk's certificate. Raises
    Failure(password_missing) for a component without a certificate password."""
    order, client = task.order, None
    address = DiskAddress(order.device_no, order.tax_id, order.terminal_no)
    component = task.hardware.component_of(order.slot)
    if component is not None and component.operate_net:
        from clearing.bureau.operate_net import operate_net_client  # only where there is one

        client = operate_net_client(
            component.address, disk=address, certificate_password=order.certificate_password
        )
    return BureauSession(
        order.bureau_url, address, timeout_seconds=order.limits.bureau, client=client
    )


def _wanted(order: Order, ledger: ServerLedger, clock: OrderClock) -> Wanted:
    return Wanted(
        kind=order.kind,
        slot=order.slot,
        call_seconds=order.limits.call,
        host_now=clock.now,
        device_no=order.device_no,
        tax_id=order.tax_id,
        pins=ledger.pins,
        password=lambda: usable_password(order),
    )


def _events() -> Emit:
    """Standard output as a channel of JSON lines that no stray print can get into."""
    descriptor = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def emit(event: Mapping[str, Any]) -> None:
        try:
            durable.write_all(descriptor, json.dumps(event).encode() + b"\n")
        except OSError:  # the worker is gone
            die()

    return emit


def _where(error: BaseException) -> str:
    """Type and place of an error; its text may hold a secret."""
    frames: Iterator[traceback.FrameSummary] = reversed(traceback.extract_tb(error.__traceback__))
    with contextlib.suppress(StopIteration):
        frame = next(frames)
        return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    return type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
