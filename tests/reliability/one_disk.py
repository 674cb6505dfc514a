"""One disk, one bureau, our real server and worker code in one process, and the storm's checker.

The run is the child's own (``clearing.worker.child``): driver, journal, procedure and ledger are
real, the card stands in a rack, the bureau is the stand-in; the machine API is asked without a
socket, so that everything rolls back with the test. Accidents are put between two steps, where they
matter.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from django.conf import settings
from django.test import Client

from agency import clock
from agency.models import Agency, Bureau, Company
from agency.scope import agency_scope
from clearing import services
from clearing.bureau.standin.server import Server
from clearing.bureau.standin.service import Service
from clearing.models import Run
from clearing.services.sweep import sweep
from clearing.wire import Order
from clearing.worker import child
from clearing.worker.client import ServerClient
from clearing.worker.hardware import Hardware
from clearing.worker.leash import Leash
from clearing.worker.steady import steady
from clearing.worker.task import Task
from deploy.demonstration.play import Play
from deploy.demonstration.scenario import Case, build, clients
from deploy.weather.verdict import Verdict, verdict
from devices.models import TaxDisk
from devices.services import disk_create
from devices.simulator.rack import listen, serve
from devices.simulator.rack_disks import Rack
from devices.simulator.rack_faults import Fault
from tests.clearing.machine import PlayedMachine


def _ask(request: httpx.Request) -> httpx.Response:
    """The machine API, in the test's own transaction."""
    answer = Client().post(
        request.url.path,
        request.content,
        content_type="application/json",
        headers={"Authorization": request.headers["Authorization"]},
    )
    return httpx.Response(answer.status_code, content=answer.content)


class _NoLeash(Leash):
    def __init__(self) -> None:
        pass

    def stopping(self) -> bool:
        return False


class OneDisk:
    """``agency`` must be the one that the checker looks for."""

    def __init__(self, folder: Path, agency: Agency, monkeypatch: pytest.MonkeyPatch) -> None:
        play = Play.beginning(dt.datetime.now(dt.UTC))
        monkeypatch.setattr(settings, "CLOCK_OFFSET", play.offset)
        monkeypatch.setattr(settings, "LIMITS_SCALE", 0.3)
        asks = functools.partial(ServerClient, transport=httpx.MockTransport(_ask))
        monkeypatch.setattr(child, "ServerClient", asks)
        row = next(row for row in clients() if row.case is Case.NORMAL and row.kind == "ic_card")
        self._folder, self._agency, self._offset = folder, agency, play.offset
        world, self.expected = build(play.window, [row])
        world.stage_ms = world.bureau_ms = 0
        self._closing = ExitStack()
        self.rack = self._start_rack(world)
        bureau = Server(0, Service(world, folder / "bureau", clock_offset=play.offset))
        threading.Thread(target=bureau.serve_forever, args=(0.02,), daemon=True).start()
        self._closing.callback(bureau.server_close)
        self._closing.callback(bureau.shutdown)
        self.device_no = row.device_no
        with agency_scope(agency.pk):
            self.disk = self._enter(row, f"http://127.0.0.1:{bureau.server_port}/")
        self.machines = [PlayedMachine.enrol(agency, name) for name in ("读盘机A", "读盘机B")]

    def close(self) -> None:
        self._closing.close()

    def _start_rack(self, world: Any) -> Rack:
        disks = self._folder / "disks"
        disks.mkdir()
        rack = Rack(world, world.disks[0].machine, disks)
        server = listen(self._folder / "rack")
        ending, end = os.pipe()
        thread = threading.Thread(target=serve, args=(rack, server, ending), daemon=True)
        thread.start()
        self._closing.callback(os.close, ending)
        self._closing.callback(server.close)
        self._closing.callback(rack.stop)
        self._closing.callback(thread.join)
        self._closing.callback(os.close, end)
        return rack

    def _enter(self, row: Any, address: str) -> TaxDisk:
        bureau = Bureau.objects.create(
            code=row.bureau_code, name=row.bureau_name, address=address, simulated=True
        )
        company = Company.objects.create(
            agency=self._agency,
            short_name=row.short_name,
            name=row.name,
            tax_id=row.tax_id,
            bureau=bureau,
        )
        return disk_create(
            company=company,
            kind=row.kind,
            device_no=row.device_no,
            terminal_no=row.terminal_no,
            device_password=row.pin,
            now=clock.now(),
        )

    # -- what people and time do ----------------------------------------------------------------

    def press(self) -> None:
        with agency_scope(self._agency.pk):
            services.batch_start(
                disk_ids=[self.disk.pk],
                intent="report_and_clear",
                key=str(uuid.uuid4()),
                started_by="周负责",
                now=clock.now(),
            )

    def let_time_pass(self) -> None:
        """Leases and waits are over."""
        past = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
        with agency_scope(self._agency.pk):
            Run.objects.exclude(lease_until=None).update(lease_until=past)
            Run.objects.exclude(next_try_at=None).update(next_try_at=past)
            now = clock.real_now()
            sweep(now=clock.now(), real_now=now, leases=True)

    def plug_in(self, machine: int) -> None:
        """The disk is in this machine's slot and nowhere else."""
        self.machines[1 - machine].present()
        self.machines[machine].present(self.disk)

    def fault(self, fault: Fault) -> None:
        self.rack.set_fault(self.device_no, fault)

    # -- what a machine does --------------------------------------------------------------------

    def work(self, machine: int = 0) -> bool:
        """One claim and its run, to the end; False when there was nothing to claim."""
        played = self.machines[machine]
        order = played.claim()
        if order is None:
            return False
        slot = next(view["slot"] for view in self.rack.slots() if view["device_no"])
        task = Task(
            order=Order.from_json({**order, "slot": slot}),
            server="http://testserver",
            token=played.token,
            data_dir=self._data_dir(machine),
            hardware=Hardware(self._folder / "rack"),
            server_seen=None,
            arrived=steady(),
            parent=os.getpid(),
        )
        child._run(task, _NoLeash(), cast(Callable[[Mapping[str, Any]], None], lambda event: None))
        return True

    def work_to_the_end(self, machine: int = 0) -> None:
        for _ in range(5):
            self.let_time_pass()
            self.plug_in(machine)
            if not self.work(machine):
                return

    def _data_dir(self, machine: int) -> Path:
        return self._folder / f"machine-{machine}"

    def verdict(self) -> Verdict:
        return verdict(
            disks=self._folder / "disks",
            bureau=self._folder / "bureau",
            machines=[self._data_dir(number) for number in (0, 1)],
            expected=self.expected,
            clock_offset=self._offset,
        )
