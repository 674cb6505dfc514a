"""A card in a PC/SC reader as a card channel.

Owns one exclusive connection: getting it within a bound, sending APDUs, and giving the card back as
it is. No transaction is begun: an exclusive connection has no one to be protected from.

What is known of pcscd (1.9.9, 2.x) and pyscard (2.3.1), and handled here:

- While somebody holds a **transaction**, SCardConnect blocks without limit, an exclusive one, too.
  The reader's state says so beforehand (INUSE, EXCLUSIVE), so it is looked at first:
  ``disk_in_use`` after the bound. Between look and connect a gap stays; who is caught in it is
  ended by its parent.
- Somebody's **exclusive** connection answers 0x8010000B at once (PCSC#215).
- A card that **hangs** has no time limit and SCardCancel does nothing: the process is killed by its
  parent. Until the card answers, the reader stays EXCLUSIVE, so it is never opened meanwhile.
- A card **pulled in mid-exchange** is a success (result 0) with an empty answer, then 0x80100016,
  then 0x80100069. A **daemon killed** in mid-exchange is 0x80100013, later 0x8010001D; contexts and
  handles never recover (pyscard#27, #82). Whatever fails once a changing command was handed over is
  ``outcome_unknown``: which errors come before the card saw it differs by system and version.
- pyscard's disconnect **resets** the card by default, even under a newer connection: here the card
  is left as it is, unless asked otherwise.
- T=0 has no Le beside data (ISO 7816-3 case 4): it is cut off, the driver fetches the answer.

Must never: send a command twice, reconnect by itself, or touch a connection of another process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection

from devices.drivers import pcsc_codes
from devices.drivers.pcsc_service import PcscService
from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import changes_card

#: How long a disk that is in use, or a daemon that is away, is waited for.
OPEN_SECONDS = 3.0
_RETRY_SECONDS = 0.1
#: A card cannot answer more (256 bytes and the status word), nor less than the status word.
_MAX_ANSWER = 258


class PcscChannel:
    """A :class:`~devices.drivers.contract.CardChannel` to what is in ``reader``, opened on
    construction, for the process that opened it.

    ``only_atrs``: cards with another ATR are ``foreign_card`` and are not even powered; empty means
    that the application tells (the ATRs of real fiscal cards are not public). ``wait``: seconds for
    a disk in use or a daemon away. Raises Failure: disk_absent, disk_in_use, foreign_card,
    no_answer, machine_fault.
    """

    def __init__(
        self,
        reader: str,
        *,
        service: PcscService | None = None,
        only_atrs: Collection[bytes] = (),
        wait: float = OPEN_SECONDS,
    ) -> None:
        self._reader = reader
        self._service = service or PcscService()
        self._only_atrs = frozenset(only_atrs)
        self._api = self._service.api()
        self._owner = os.getpid()
        self._context: int | None = None
        self._card: int | None = None
        self._protocol = 0
        self._ended_by = Code.NO_ANSWER
        self._open(time.monotonic() + wait)

    def transmit(self, apdu: bytes) -> bytes:
        if os.getpid() != self._owner:
            raise Failure(Code.NO_ANSWER, detail="connection of another process")
        if self._card is None:
            raise Failure(self._ended_by, detail="closed")
        api, sent = self._api, list(self._as_sent(apdu))
        pci = api.SCARD_PCI_T0 if self._protocol == api.SCARD_PROTOCOL_T0 else api.SCARD_PCI_T1
        result, answer = api.SCardTransmit(self._card, pci, sent)
        if result == pcsc_codes.OK and 2 <= len(answer) <= _MAX_ANSWER:
            return bytes(answer)
        in_doubt = changes_card(apdu)
        if result != pcsc_codes.OK:
            failure = pcsc_codes.failure_of(result, outcome_unknown=in_doubt)
        else:
            failure = Failure(
                Code.NO_ANSWER if len(answer) < 2 else Code.DEVICE_GARBLED,
                raw_code=pcsc_codes.raw_code(result),
                detail=f"{len(answer)} bytes",
                outcome_unknown=in_doubt,
            )
        self._ended_by = failure.code
        self.close()
        raise failure

    def close(self, *, reset: bool = False) -> None:
        """Give the card back, as it is or, on purpose, reset. Safe to call twice, raises nothing.

        In a forked process the connection is only forgotten: it is the parent's.
        """
        card, context = self._card, self._context
        self._card = self._context = None
        if os.getpid() != self._owner:
            return
        if card is not None:
            api = self._api
            api.SCardDisconnect(card, api.SCARD_RESET_CARD if reset else api.SCARD_LEAVE_CARD)
        if context is not None:
            self._api.SCardReleaseContext(context)

    # --- opening ---------------------------------------------------------------------------------

    def _open(self, end: float) -> None:
        """Try until ``end`` what may pass; the rest is raised at once."""
        service_was_away = False
        while True:
            try:
                self._context = self._service.establish()
                self._connect(self._context)
                return
            except Failure as failure:
                self.close()
                lost = int(failure.raw_code or "0", 16) in pcsc_codes.SERVICE_AWAY
                service_was_away = service_was_away or lost
                # A daemon that just came back does not see its cards yet.
                early = service_was_away and failure.code is Code.DISK_ABSENT
                if not (lost or early or failure.code is Code.DISK_IN_USE):
                    raise
                if time.monotonic() + _RETRY_SECONDS > end:
                    raise
                time.sleep(_RETRY_SECONDS)

    def _connect(self, context: int) -> None:
        api = self._api
        self._look(context)
        result, card, protocol = api.SCardConnect(
            context,
            self._reader,
            api.SCARD_SHARE_EXCLUSIVE,
            api.SCARD_PROTOCOL_T0 | api.SCARD_PROTOCOL_T1,
        )
        if result != pcsc_codes.OK:
            raise pcsc_codes.failure_of(result, detail=self._reader)
        self._card, self._protocol = card, protocol

    def _look(self, context: int) -> None:
        """What the reader's state says; asking it disturbs nobody and never waits."""
        api = self._api
        result, states = api.SCardGetStatusChange(context, 0, [(self._reader, 0)])
        if result != pcsc_codes.OK:
            raise pcsc_codes.failure_of(result, detail=self._reader)
        _, state, atr = states[0]
        if not state & api.SCARD_STATE_PRESENT:
            raise pcsc_codes.failure_of(pcsc_codes.NO_SMARTCARD, detail=self._reader)
        if state & (api.SCARD_STATE_EXCLUSIVE | api.SCARD_STATE_INUSE):
            raise pcsc_codes.failure_of(pcsc_codes.SHARING_VIOLATION, detail=self._reader)
        if self._only_atrs and bytes(atr) not in self._only_atrs:
            raise Failure(Code.FOREIGN_CARD, detail=f"ATR {bytes(atr).hex().upper()}")

    def _as_sent(self, apdu: bytes) -> bytes:
        case_4 = len(apdu) > 5 and len(apdu) == 6 + apdu[4]
        return apdu[:-1] if case_4 and self._protocol == self._api.SCARD_PROTOCOL_T0 else apdu
