"""A real reader machine at a real server: the machine's program, PostgreSQL, Valkey, a rack.

The server answers in threads of the test's process, so that a test can look at its tables; the
machine is a process of its own, with children of its own, as in production.
"""

from __future__ import annotations

import datetime as dt
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from django.core.servers.basehttp import ThreadedWSGIServer
from django.core.wsgi import get_wsgi_application

from agency.models import Agency, AuditEntry, Bureau, Company
from agency.scope import agency_scope
from clearing.models import DiskPeriod, Run
from clearing.services import batch_start
from clearing.worker.client import ServerClient
from devices.broker import grant_account
from devices.choices import DiskKind
from devices.models import TaxDisk
from devices.services import disk_create, machine_create
from devices.simulator import evidence
from devices.simulator.rack_client import RackControl
from devices.simulator.rack_faults import Mode
from tests.clearing.worker.house import NOW, PIN, Street

#: What a month changes on an IC card, in order.
MONTH = ["VERIFY_FISCAL_PIN", "DECLARE_DUTY", "VERIFY_FISCAL_PIN", "UPDATE_CONTROLS"]
PATIENCE = 90.0


def until(there: Callable[[], object], what: str) -> None:
    """Wait for a condition, far longer than it takes."""
    end = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < end, what
        time.sleep(0.05)


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""


class Server:
    """The site, answering on a port of its own."""

    def __init__(self) -> None:
        self._http = ThreadedWSGIServer(("127.0.0.1", 0), _Quiet)
        self._http.set_app(get_wsgi_application())
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class Desk:
    """One agency with one disk, in a slot of its one machine; the machine's program is started by
    the test, and killed at the end."""

    def __init__(self, agency: Agency, server: Server, street: Street, folder: Path) -> None:
        self.agency = agency
        self._server, self._street, self._folder = server, street, folder
        self._card = street.take()
        self._started: list[subprocess.Popen[bytes]] = []
        bureau, _made = Bureau.objects.update_or_create(
            code="14201060000",
            defaults={
                "name": "某区税务局(模拟)",
                "simulated": True,
                "address": street.bureau_url,
            },
        )
        with agency_scope(agency.pk):
            company = Company.objects.create(
                agency=agency,
                short_name="某公司",
                name="某公司",
                tax_id=self._card.tax_id,
                bureau=bureau,
            )
            self.disk: TaxDisk = disk_create(
                company=company,
                kind=DiskKind.IC_CARD,
                device_no=self._card.device_no,
                device_password=PIN.decode(),
                now=NOW,
            )
            made = machine_create(agency=agency, name="读盘机", simulated=True)
        self.machine, self.token = made.machine, made.token
        self.broker = grant_account(self.machine)

    @property
    def prefix(self) -> str:
        return f"{self.machine.broker_account}:"

    # -- the machine --------------------------------------------------------------------------

    def start_machine(self, broker: str | None = None) -> subprocess.Popen[bytes]:
        """Start its program; returns when the disk is reported present."""
        config = self._folder / "machine.toml"
        config.touch(0o600)
        config.write_text(
            f'server = "{self._server.url}"\ntoken = "{self.token}"\n'
            f'broker = "{broker or self.broker}"\nprefix = "{self.prefix}"\n'
            f'data_dir = "{self._folder / "data"}"\nrack_socket = "{self._street.socket}"\n'
            f'only_slots = ["{self._card.slot}"]\n'
        )
        with (self._folder / "log").open("ab") as log:
            command = [sys.executable, "-m", "clearing.worker", "run", "--config", str(config)]
            process = subprocess.Popen(command, stderr=log, start_new_session=True)
        self._started.append(process)
        until(self.present, "the disk is not reported")
        return process

    def kill_machine(self) -> None:
        """SIGKILL, as when its power fails."""
        process = self._started[-1]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()

    def present(self) -> bool:
        with agency_scope(self.agency.pk):
            return self.machine.slots.filter(device_no=self._card.device_no).exists()

    # -- the disk -----------------------------------------------------------------------------

    def hang(self, mode: Mode, command: str, seconds: float) -> None:
        self._rack.fault(self._card.device_no, mode, command=command, seconds=seconds)

    def wait_until_hanging(self) -> None:
        self._rack.wait_until_hanging(self._card.device_no, timeout=PATIENCE)

    def wait_until_free(self) -> None:
        self._rack.wait_until_free(self._card.device_no, timeout=PATIENCE)

    @property
    def _rack(self) -> RackControl:
        return RackControl(self._street.socket)

    def writes(self) -> list[str]:
        """Commands that changed the disk, in order."""
        log = evidence.read_log(self._street.rack_dir, self._card.device_no)
        return [write.command for write in log]

    # -- the work -----------------------------------------------------------------------------

    def press(self, intent: str = "report_and_clear") -> Run:
        """One click; the run it queued or joined."""
        with agency_scope(self.agency.pk):
            started = batch_start(
                disk_ids=[self.disk.pk],
                intent=intent,
                key=str(uuid.uuid4()),
                started_by="郑会计",
                now=NOW,
            )
            return Run.objects.get(entries__batch=started.batch)

    def run(self, run: Run) -> Run:
        with agency_scope(self.agency.pk):
            return Run.objects.get(pk=run.pk)

    def wait_for(self, run: Run, *states: str) -> Run:
        until(lambda: self.run(run).state in states, f"the run is not {states}")
        return self.run(run)

    def period_state(self) -> str:
        with agency_scope(self.agency.pk):
            return DiskPeriod.objects.get(disk=self.disk, period="2026-02").state

    def trail(self, action: str) -> list[dict[str, Any]]:
        """The data of the entries of one action, in order."""
        with agency_scope(self.agency.pk):
            found = AuditEntry.objects.filter(action=action).order_by("sequence")
            return list(found.values_list("data", flat=True))

    def claim_and_vanish(self) -> None:
        """A machine reports the disk, takes its run, and is never heard of again."""
        with ServerClient(self._server.url, self.token) as client:
            slot = {"name": "A-01", "device_no": self._card.device_no, "kind": "ic_card"}
            client.presence("t", [slot])
            assert client.claim(str(uuid.uuid4())) is not None

    def expire_lease(self) -> None:
        with agency_scope(self.agency.pk):
            Run.objects.update(lease_until=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1))
