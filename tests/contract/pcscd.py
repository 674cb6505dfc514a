"""The card in a reader of a real pcscd: the same rack, its slot plugged into a virtual reader.

One process talks to one daemon for life, so all subjects of a test share one with several readers;
it begins with the first and ends with the last, and stands where the PC/SC tests' daemons stand.
"""

from __future__ import annotations

from pathlib import Path

from devices.drivers.contract import CardChannel
from devices.drivers.pcsc_channel import PcscChannel
from devices.drivers.pcsc_service import PcscService
from devices.protocol.failures import Failure
from devices.simulator.pcscd import VirtualReaders, VirtualSlot
from tests.contract.subject import Situation
from tests.contract.subjects import RackCard
from tests.devices.pcsc.desk import daemon_folder, until
from tests.devices.simulator.racks import RackProcess

_READERS = 4


class Bench:
    """The daemon that the living subjects share, and its free readers."""

    def __init__(self) -> None:
        self._virtual: VirtualReaders | None = None
        self._free: list[VirtualSlot] = []

    def take(self) -> tuple[VirtualReaders, VirtualSlot]:
        if self._virtual is None:
            self._virtual = VirtualReaders(daemon_folder(), _READERS)
            self._free = list(self._virtual.slots)
        return self._virtual, self._free.pop()

    def give(self, slot: VirtualSlot) -> None:
        self._free.append(slot)
        if self._virtual is not None and len(self._free) == _READERS:
            self._virtual.close()
            self._virtual = None


BENCH = Bench()


class PcscCard(RackCard):
    """Every session is an exclusive connection at pcscd. A card that gave no answer was pulled out
    and put in again, as a loose one is; the next session waits for that."""

    def __init__(self, situation: Situation) -> None:
        self.virtual, self._reader = BENCH.take()
        self._service = PcscService(self.virtual.sockets[0])
        self._sessions: list[_Session] = []
        self._left_at = -1  # the insertion of the last session that came to a bad end
        try:
            super().__init__(situation)
        except BaseException:
            BENCH.give(self._reader)
            raise

    def start_rack(self, folder: Path) -> RackProcess:
        host, port = self._reader.address
        plug = ("--vpcd", f"{self.disk.slot}={host}:{port}")
        return RackProcess(folder, self.world, more=plug, inside=self.virtual.inside)

    def channel(self) -> CardChannel:
        self._let_go()
        until(lambda: self._is_in(other_than=self._left_at), seconds=20)
        session = _Session(PcscChannel(self._reader.reader, service=self._service), self._count())
        self._sessions.append(session)
        return session

    def swap(self) -> None:
        """Whoever has the disk open keeps a connection to what is gone."""
        until(lambda: self._look()[0], seconds=20)  # or the first would be taken for the second
        before = self._count()
        self.rack.control.swap(self.disk.slot, self.other.device_no)
        until(lambda: self._is_in(other_than=before), seconds=20)

    def revive(self) -> None:
        if self._doomed:
            self.rack.process.wait(timeout=90)
            until(lambda: not self._look()[0])  # or the daemon takes the next card for this one
        super().revive()

    def close(self) -> None:
        super().close()
        BENCH.give(self._reader)

    def _let_go(self) -> None:
        while self._sessions:
            session = self._sessions.pop()
            session.close()
            if session.ended:
                self._left_at = session.insertion

    def _is_in(self, *, other_than: int) -> bool:
        present, count = self._look()
        return present and count != other_than

    def _count(self) -> int:
        """Rises with every insertion and removal; 0 before the first."""
        return self._look()[1]

    def _look(self) -> tuple[bool, int]:
        api = self._service.api()
        with self._service.context() as context:
            _, answers = api.SCardGetStatusChange(context, 0, [(self._reader.reader, 0)])
        state = answers[0][1]
        return bool(state & api.SCARD_STATE_PRESENT), state >> 16


class _Session:
    """A channel that remembers whether it came to a bad end, and at which insertion it began."""

    def __init__(self, channel: PcscChannel, insertion: int) -> None:
        self._channel = channel
        self.insertion = insertion
        self.ended = False

    def transmit(self, apdu: bytes) -> bytes:
        try:
            return self._channel.transmit(apdu)
        except Failure:
            self.ended = True
            raise

    def close(self) -> None:
        self._channel.close()
