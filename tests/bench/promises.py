"""What the promises cost, as ratios measured in one run.

    python -m tests.bench.promises [--disks 16] [--apdu-ms 150] [--bureau-ms 300]

The same month on simulated IC cards, turn and turn about: by the procedure with a ledger that keeps
nothing, and with the real one (journal, permissions, backup, facts) at a real server. Once without
any latency, once with that of a card and of a bureau. Also what the server was asked, and the
processor time that it and its PostgreSQL took, per clear.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from clearing import procedure
from clearing.bureau.port import DiskAddress
from clearing.bureau.session import BureauSession
from clearing.wire import End, FactKind, Order, Outcome
from clearing.worker.client import ServerClient
from clearing.worker.config import load
from clearing.worker.gate import Gate
from clearing.worker.journal import Journal
from clearing.worker.ledger import ServerLedger
from clearing.worker.steady import OrderClock, ServerClock, steady
from clearing.worker.watch import Watch, WatchedBureau, WatchedDisk
from deploy.demonstration.scenario import MACHINES, Case, clients, on_cards
from devices.drivers.contract import CardChannel, Pin, PinStore, ReportPackage, TaxDisk, Unit
from devices.drivers.ic_card import IcCardDisk
from devices.protocol.failures import Code
from devices.protocol.month import Month
from devices.simulator.rack_client import RackChannel
from devices.simulator.world import World
from tests.bench.processor import cpu_seconds
from tests.devices.cards import KeptPins
from tests.reliability.month import MonthUnderTest


class Bench(MonthUnderTest):
    """Nothing is odd about these disks, and all are at one machine, which the bench plays."""

    def __init__(self, root: Path, disks: int) -> None:
        cards = [row for row in on_cards(clients()) if row.has_disk][:disks]
        super().__init__(root, [replace(row, case=Case.NORMAL, sheet_pin=row.pin) for row in cards])
        self.stack.machines = (MACHINES[0],)
        world = World.load(self.places.world)
        for disk in world.disks:
            disk.machine = MACHINES[0]
        world.save(self.places.world)
        self.slots = [
            {
                "name": disk.slot,
                "device_no": disk.device_no,
                "tax_id": disk.tax_id,
                "kind": "ic_card",
            }
            for disk in world.disks
        ]


@dataclass
class Slow:
    """A channel to a card that takes its time."""

    channel: CardChannel
    seconds: float

    def transmit(self, apdu: bytes) -> bytes:
        time.sleep(self.seconds)
        return self.channel.transmit(apdu)

    def close(self) -> None:
        self.channel.close()


class Counting(httpx.HTTPTransport):
    """Counts what is asked, by the last word of the address."""

    def __init__(self, asked: Counter[str]) -> None:
        super().__init__(trust_env=False)
        self._asked = asked

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._asked[request.url.path.rpartition("/")[2]] += 1
        return super().handle_request(request)


class NoLedger:
    """Permits everything and keeps nothing."""

    def intend(self, stage: str, unit: Unit, period: Month) -> None: ...

    def record(self, kind: FactKind, data: Mapping[str, Any]) -> None: ...

    def hold(self, package: ReportPackage) -> None: ...

    def keep(self, backup: bytes, period: Month) -> None: ...


@dataclass
class Taken:
    """What one kind of month took."""

    seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


class Player:
    """Plays the machine: claims, and does each run one way or the other."""

    def __init__(self, month: Bench, apdu: float, bureau: float) -> None:
        self._config = load(month.places.machine_config(MACHINES[0]))
        self._month, self._apdu, self._bureau_seconds = month, apdu, bureau
        self.asked: Counter[str] = Counter()
        self.clock = ServerClock()
        self.client = self._client()
        self._journal = Journal(self._config.data_dir)

    def _client(self) -> ServerClient:
        transport = Counting(self.asked)
        return ServerClient(
            self._config.server, self._config.token, clock=self.clock, transport=transport
        )

    def present(self) -> None:
        self.client.presence("bench", self._month.slots)

    def claim(self) -> Order:
        order = self.client.claim(str(uuid.uuid4()))
        if order is None:
            raise SystemExit("nothing to claim")
        return order

    def _open(self, order: Order, pins: PinStore, clock: OrderClock) -> TaxDisk:
        socket = self._month.places.rack_socket(MACHINES[0])
        channel = Slow(RackChannel(socket, order.slot, timeout=30.0), self._apdu)
        return IcCardDisk(channel, pins=pins, host_now=clock.now)

    @contextmanager
    def _bureau(self, order: Order) -> Iterator[BureauSession]:
        address = DiskAddress(order.device_no, order.tax_id, order.terminal_no)
        with httpx.Client(trust_env=False) as client:
            client.event_hooks["request"].append(lambda request: time.sleep(self._bureau_seconds))
            yield BureauSession(order.bureau_url, address, timeout_seconds=10.0, client=client)

    def without(self) -> float:
        """A month that promises nothing; its seconds, claim and end not counted."""
        order = self.claim()
        clock = OrderClock(order.now, steady())
        pins = KeptPins(Pin(order.device_password.encode(), 0))
        began = time.perf_counter()
        with self._bureau(order) as bureau:
            outcome = procedure.run(
                order,
                open_disk=lambda: self._open(order, pins, clock),
                bureau=bureau,
                ledger=NoLedger(),
                clock=clock,
            )
        took = time.perf_counter() - began
        _done(outcome)
        self.client.settle(
            order.run_id, order.attempt, Outcome(End.FAILED, code=Code.MACHINE_FAULT), ()
        )
        return took

    def with_promises(self) -> float:
        """The same as a child of the worker does it, from the claim to the settled end."""
        watch = Watch(lambda event: None)
        began = time.perf_counter()
        order = self.claim()
        clock = OrderClock(order.now, steady())
        with ExitStack() as stack:
            client = stack.enter_context(self._client())
            log = stack.enter_context(
                self._journal.open(order.run_id, order.attempt, order.device_no)
            )
            bureau = stack.enter_context(self._bureau(order))
            ledger = ServerLedger(
                order,
                client,
                log,
                self._journal.pins,
                watch=watch,
                gate=Gate(self._config.data_dir),
            )

            def opened() -> TaxDisk:
                disk = self._open(order, ledger.pins, clock)
                ledger.capabilities = disk.capabilities
                return WatchedDisk(disk, watch, ledger.grant, order.limits, rest=0.0)

            outcome = procedure.run(
                order,
                open_disk=opened,
                bureau=WatchedBureau(bureau, watch, order.limits),
                ledger=ledger,
                clock=clock,
            )
            ledger.settle(outcome)
        took = time.perf_counter() - began
        _done(outcome)
        return took


def _done(outcome: Outcome) -> None:
    if outcome.end != End.DONE:
        raise SystemExit(f"a month ended otherwise: {outcome}")


def measure(root: Path, disks: int, apdu: float, bureau: float) -> None:
    month = Bench(root, 2 * disks)
    port, cluster = f"127.0.0.1:{month.stack.port}", (root / "pg" / "cluster").resolve()

    def web() -> float:
        return cpu_seconds(lambda process: port.encode() in (process / "cmdline").read_bytes())

    def postgres() -> float:
        return cpu_seconds(lambda process: (process / "cwd").resolve() == cluster)

    with month.stack as stack:
        stack.start(reader_machines=False)
        player = Player(month, apdu, bureau)
        player.present()
        month.press()
        player.without(), player.with_promises()  # whatever a first one brings
        player.asked.clear()
        plain, promised = Taken(), Taken()
        server = {"web": 0.0, "PostgreSQL": 0.0}
        asked: Counter[str] = Counter()
        for _ in range(disks - 1):
            player.present()
            plain.seconds.append(player.without())
            player.asked.clear()
            before = (web(), postgres())
            promised.seconds.append(player.with_promises())
            server["web"] += web() - before[0]
            server["PostgreSQL"] += postgres() - before[1]
            asked += player.asked
    count = disks - 1
    print(
        f"card {1000 * apdu:g} ms per APDU, bureau {1000 * bureau:g} ms per call;"
        f" {count} months each"
    )
    print(
        f"  with / without promises = {promised.median / plain.median:.3f}"
        f" ({1000 * (promised.median - plain.median):.0f} ms more per clear)"
    )
    each = {verb: round(number / count, 2) for verb, number in sorted(asked.items())}
    print(f"  requests per clear = {asked.total() / count:.2f} {json.dumps(each)}")
    took = ", ".join(f"{name} {1000 * seconds / count:.0f} ms" for name, seconds in server.items())
    share = sum(server.values()) / sum(promised.seconds)
    print(f"  processor time per clear: {took}; of one core while it lasts = {share:.3f}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.promises")
    parser.add_argument("--disks", type=int, default=16)
    parser.add_argument("--apdu-ms", type=float, default=150.0)
    parser.add_argument("--bureau-ms", type=float, default=300.0)
    options = parser.parse_args()
    for name, apdu, bureau in (("a", 0.0, 0.0), ("b", options.apdu_ms, options.bureau_ms)):
        with tempfile.TemporaryDirectory(prefix="qk") as folder:
            measure(Path(folder) / name, options.disks, apdu / 1000, bureau / 1000)
    return 0


if __name__ == "__main__":
    sys.exit(main())
