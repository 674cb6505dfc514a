"""What our driver costs over PC/SC, as ratios measured in one run.

    python -m tests.bench.pcsc_overhead [--delay-ms 20] [--repeat 10] [--readers 16]

The same month on the same card (each APDU takes 20 ms), turn and turn about: by our driver and
channel, and by a bare pyscard loop that sends the APDUs our driver was seen to send. Then the
month in one reader against the month in 16 at a time, each in a process of its own. Needs pcscd,
vsmartcard-vpcd and pyscard.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from devices.drivers.contract import CardChannel
from devices.drivers.ic_card import UNIT, IcCardDisk
from devices.drivers.pcsc_channel import PcscChannel
from devices.drivers.pcsc_service import PcscService
from devices.simulator.pcscd import VirtualReaders
from tests.devices.cards import IN_WINDOW, PERIOD, KeptPins, clear_data
from tests.devices.pcsc.desk import missing, until


@dataclass
class Taken:
    """Seconds of one month: opening to closing, and of the clear in it."""

    month: float
    clear: float


class Recording:
    """A channel that writes down what goes through it."""

    def __init__(self, channel: CardChannel) -> None:
        self._channel = channel
        self.apdus: list[bytes] = []

    def transmit(self, apdu: bytes) -> bytes:
        self.apdus.append(apdu)
        return self._channel.transmit(apdu)

    def close(self) -> None:
        self._channel.close()


def month(channel: CardChannel) -> float:
    """A month by our driver; the seconds of its clear."""
    disk = IcCardDisk(channel, pins=KeptPins(), host_now=lambda: IN_WINDOW)
    disk.identify()
    disk.read_control()
    disk.report(UNIT, PERIOD)
    disk.read_control()
    disk.export()
    disk.clear_request(UNIT)
    began = time.perf_counter()
    disk.clear(UNIT, clear_data())
    clear = time.perf_counter() - began
    disk.read_control()
    return clear


def by_driver(reader: str, service: PcscService) -> Taken:
    began = time.perf_counter()
    channel = PcscChannel(reader, service=service)
    clear = month(channel)
    channel.close(reset=True)  # the card begins anew
    return Taken(time.perf_counter() - began, clear)


def by_bare_loop(reader: str, service: PcscService, apdus: list[bytes], clear: range) -> Taken:
    """What anybody would write; ``clear``: which of the APDUs are the clear's."""
    scard = service.api()
    took = 0.0
    began = time.perf_counter()
    _, context = scard.SCardEstablishContext(scard.SCARD_SCOPE_USER)
    _, card, _ = scard.SCardConnect(
        context, reader, scard.SCARD_SHARE_EXCLUSIVE, scard.SCARD_PROTOCOL_T1
    )
    for place, apdu in enumerate(apdus):
        sent = time.perf_counter()
        _, answer = scard.SCardTransmit(card, scard.SCARD_PCI_T1, list(apdu))
        if answer[-2:] not in ([0x90, 0], [0x6A, 0x83]):
            raise SystemExit(f"the card answered otherwise: {bytes(answer[-2:]).hex()}")
        if place in clear:
            took += time.perf_counter() - sent
    scard.SCardDisconnect(card, scard.SCARD_RESET_CARD)
    scard.SCardReleaseContext(context)
    return Taken(time.perf_counter() - began, took)


def record(reader: str, service: PcscService) -> tuple[list[bytes], range]:
    channel = PcscChannel(reader, service=service)
    recording = Recording(channel)
    month(recording)
    channel.close(reset=True)
    updates = [place for place, apdu in enumerate(recording.apdus) if apdu[1] == 0xF6]
    selects = [
        place
        for place, apdu in enumerate(recording.apdus[: updates[0]])
        if apdu[1] == 0xA4 and apdu[2] == 0x04
    ]
    return recording.apdus, range(selects[-1], updates[0] + 1)


_WORKER = """
import sys
from pathlib import Path
from devices.drivers.pcsc_service import PcscService
from tests.bench.pcsc_overhead import by_driver
service = PcscService(Path(sys.argv[1]))
by_driver(sys.argv[2], service)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    by_driver(sys.argv[2], service)
print("done", flush=True)
"""


def in_parallel(readers: list[str], socket: Path, months: int) -> float:
    """Seconds until every reader has done its months."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(socket), reader, str(months)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for reader in readers
    ]
    pipes = [(w.stdin, w.stdout) for w in workers if w.stdin is not None and w.stdout is not None]
    for _, stdout in pipes:
        stdout.readline()
    began = time.perf_counter()
    for stdin, _ in pipes:
        stdin.write("go\n")
        stdin.flush()
    for _, stdout in pipes:
        if stdout.readline() != "done\n":
            raise SystemExit("a worker failed")
    took = time.perf_counter() - began
    for worker in workers:
        worker.communicate()
    return took


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pcsc_overhead")
    parser.add_argument("--delay-ms", type=float, default=20.0)
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--readers", type=int, default=16)
    options = parser.parse_args()
    if reason := missing():
        print(reason)
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="qk") as folder,
        VirtualReaders(Path(folder), options.readers) as virtual,
    ):
        ports = [str(slot.port) for slot in virtual.slots]
        command = [sys.executable, "-m", "tests.devices.pcsc.fresh_cards", *ports]
        command += ["--delay-ms", str(options.delay_ms)]
        with subprocess.Popen(virtual.inside(command), stdin=subprocess.PIPE) as cards:
            try:
                _measure(virtual, options.repeat, options.delay_ms)
            finally:
                cards.kill()
    return 0


def _measure(virtual: VirtualReaders, repeat: int, delay_ms: float) -> None:
    service = PcscService(virtual.sockets[0])
    readers = [slot.reader for slot in virtual.slots]
    scard = service.api()

    def seen() -> bool:
        with service.context() as context:
            states = scard.SCardGetStatusChange(context, 0, [(name, 0) for name in readers])[1]
            return all(state & scard.SCARD_STATE_PRESENT for _, state, _ in states)

    until(seen)
    apdus, clear = record(readers[0], service)
    ours, bare = [], []
    for _ in range(repeat):
        ours.append(by_driver(readers[0], service))
        bare.append(by_bare_loop(readers[0], service, apdus, clear))
    each = delay_ms / 1000
    print(f"card: {delay_ms:g} ms; a month: {len(apdus)} APDUs, its clear: {len(clear)}")
    for name, mine, theirs, count in (
        ("month", [t.month for t in ours], [t.month for t in bare], len(apdus)),
        ("clear", [t.clear for t in ours], [t.clear for t in bare], len(clear)),
    ):
        mine_s, theirs_s = statistics.median(mine), statistics.median(theirs)
        per_apdu = 1000 * (mine_s - theirs_s) / count
        print(
            f"{name}: driver/bare = {mine_s / theirs_s:.3f} (aim 1.10), {per_apdu:+.3f} ms per"
            f" APDU; bare/card alone = {theirs_s / (count * each or 1):.3f}"
        )
    months = max(1, repeat // 5)
    alone = in_parallel(readers[:1], virtual.sockets[0], months)
    together = in_parallel(readers, virtual.sockets[0], months)
    gain = len(readers) * alone / together
    print(f"{len(readers)} readers at once against one: {gain:.1f} times (aim 14 of 16)")


if __name__ == "__main__":
    sys.exit(main())
