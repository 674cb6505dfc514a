"""The worker's child with a plan of faults: ``python -m deploy.faultwalk.child PLANS``.

The real child (:mod:`clearing.worker.child`), with a gate at each of its four ways out: the card,
the component, the bureau and the server. What a fault looks like to the software is what the real
way would make of it. A kill is SIGKILL of this very process, or of the worker above it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

if __name__ == "__main__":
    sys.modules["click"] = None  # type: ignore[assignment]  # as the child itself does

from clearing.bureau import exchange, messages
from clearing.worker import child
from clearing.worker.client import Json, ServerClient, Unreachable
from clearing.worker.task import Task
from clearing.worker.watch import DISK, Watch
from deploy.faultwalk.plan import Plan, Way
from devices.drivers.component_http import HttpTransport
from devices.protocol import business_xml
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import changes_card, command_name
from devices.simulator.rack_client import RAW_CODE, RackChannel

T = TypeVar("T")

_FOR_EVER = 3600.0
#: How long a person may take to cancel; a disk's own limit is shorter as a rule.
_CANCEL_SECONDS = 60.0
#: How long after a lease the server may need to take the run back.
_SWEPT_SECONDS = 10.0


class Gates:
    """What stands at the ways out of one child."""

    def __init__(self, plan: Plan, worker: int, lease: float) -> None:
        self._plan = plan
        self._worker = worker
        self._lease = lease
        self._call = "disk"

    def install(self) -> None:
        """Put the gates up, in this process."""
        self._around_calls()
        self._at_card()
        self._at_component()
        self._at_bureau()
        self._at_server()

    def strike(
        self,
        name: str,
        act: Callable[[], T],
        *,
        error: Callable[[], Exception],
        lost: Callable[[], Exception],
        hang: Callable[[], Exception],
        changes: bool,
    ) -> T:
        """Make one call, or have it go wrong as planned. ``error``, ``lost``: what the caller then
        sees; ``hang``: what it sees once its time is up, if it is still there."""
        match self._plan.pass_by(name):
            case None:
                return act()
            case Way.ERROR:
                raise error()
            case Way.LOST:
                act()
                raise lost()
            case Way.HANG:
                if changes:
                    act()
                raise hang()
            case Way.KILLED_BEFORE:
                _kill(os.getpid())
            case Way.KILLED_AFTER:
                act()
                _kill(os.getpid())
            case Way.STALLED:
                _stall(self._worker, 2 * self._lease + _SWEPT_SECONDS)
                return act()
            case Way.CANCELLED:
                act()
                self._wait_for_cancel()
                _kill(os.getpid())
            case Way.MACHINE_BEFORE:
                _kill(self._worker)
            case Way.MACHINE_AFTER:
                act()
                _kill(self._worker)

    def _wait_for_cancel(self) -> None:
        until = time.monotonic() + _CANCEL_SECONDS
        while not self._plan.cancelled and time.monotonic() < until:
            time.sleep(0.05)

    # -- the ways out -------------------------------------------------------------------------

    def _around_calls(self) -> None:
        """Know which call of the procedure the commands of a disk belong to."""
        real, gates = Watch.call, self

        @contextmanager
        def call(watch: Watch, name: str, limit: float, *, writes: bool = False) -> Iterator[None]:
            if name.startswith(DISK):
                gates._call = name
            with real(watch, name, limit, writes=writes):
                yield

        put(Watch, "call", call)

    def _at_card(self) -> None:
        real, gates = RackChannel.transmit, self

        def transmit(channel: RackChannel, apdu: bytes) -> bytes:
            def broken() -> Failure:
                channel.close()
                return Failure(
                    Code.NO_ANSWER, raw_code=RAW_CODE, outcome_unknown=changes_card(apdu)
                )

            return gates.strike(
                f"{gates._call}.{command_name(apdu).replace(' ', '_')}",
                lambda: real(channel, apdu),
                error=broken,
                lost=broken,
                hang=lambda: _sleep(_FOR_EVER, broken),  # a card has no limit: the worker has
                changes=changes_card(apdu),
            )

        put(RackChannel, "transmit", transmit)

    def _at_component(self) -> None:
        real, gates = HttpTransport.operate, self

        def operate(transport: HttpTransport, document: bytes, *, seconds: float) -> bytes:
            operation = business_xml.parse_request(document).operation

            def failed(raw: str, *, sent: bool = True) -> Callable[[], Failure]:
                return lambda: Failure(Code.NO_ANSWER, raw_code=raw, outcome_unknown=sent)

            return gates.strike(
                f"{gates._call}.{operation.id}",
                lambda: real(transport, document, seconds=seconds),
                error=failed("ConnectError", sent=False),
                lost=failed("RemoteProtocolError"),
                hang=lambda: _sleep(seconds, failed("Timeout")),
                changes=operation.changes,
            )

        put(HttpTransport, "operate", operate)

    def _at_bureau(self) -> None:
        real, gates = exchange.post, self

        def post(
            client: Any, address: str, document: bytes, *, seconds: float, acts: bool
        ) -> bytes:
            def failed(raw: str, *, sent: bool = True) -> Callable[[], Failure]:
                unknown = acts and sent
                return lambda: Failure(
                    Code.BUREAU_UNREACHABLE, raw_code=raw, outcome_unknown=unknown
                )

            return gates.strike(
                f"bureau.{messages.parse_request(document).operation.id}",
                lambda: real(client, address, document, seconds=seconds, acts=acts),
                error=failed("ConnectError", sent=False),
                lost=failed("RemoteProtocolError"),
                hang=lambda: _sleep(seconds, failed("Timeout")),
                changes=acts,
            )

        put(exchange, "post", post)

    def _at_server(self) -> None:
        gate_server(self.strike)


def gate_server(strike: Callable[..., Json]) -> None:
    """Put a gate at the way to the server, in this process. A call is all its tries: a server that
    is away is away for as long as anybody asks; one whose answers get lost has acted on each."""
    real = ServerClient._post

    def post(client: ServerClient, path: str, body: Json, within: float = 20.0) -> Json:
        def act() -> Json:
            return real(client, path, body, within)

        def lost() -> Unreachable:
            act()  # the second try
            return Unreachable("RemoteProtocolError")

        return strike(
            f"server.{path.rpartition('/')[2]}",
            act,
            error=lambda: Unreachable("ConnectError"),
            lost=lost,
            hang=lambda: _sleep(within, lambda: Unreachable("ReadTimeout")),
            changes=True,
        )

    put(ServerClient, "_post", post)


def put(where: Any, name: str, what: Any) -> None:
    """Have ``what`` stand there, in this process."""
    setattr(where, name, what)


def _sleep(seconds: float, then: Callable[[], Exception]) -> Exception:
    time.sleep(seconds)
    return then()


def _stall(worker: int, seconds: float) -> None:
    """Stop the worker and ourselves, as when a lid is closed."""
    wake = f"sleep {seconds:.0f}; kill -CONT {worker} {os.getpid()}"
    quiet = subprocess.DEVNULL
    subprocess.Popen(
        ["sh", "-c", wake], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
    )
    os.kill(worker, signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGSTOP)


def _kill(process: int) -> NoReturn:
    os.kill(process, signal.SIGKILL)
    time.sleep(_FOR_EVER)  # the worker is dying, and we with it
    raise SystemExit(1)


def main(arguments: list[str] | None = None) -> int:
    folder = Path((sys.argv[1:] if arguments is None else arguments)[0])

    def prepare(task: Task) -> None:
        Gates(Plan(folder, task.order.device_no), task.parent, task.order.limits.lease).install()

    return child.main(prepare)


if __name__ == "__main__":
    sys.exit(main())
