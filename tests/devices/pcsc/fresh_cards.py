"""Simulated cards in virtual readers that begin anew whenever they are reset.

    python -m tests.devices.pcsc.fresh_cards PORT… [--delay-ms N] [--t0]

Nothing of them is kept. ``--delay-ms``: every APDU takes that long, as on a real card. ``--t0``: an
ATR that offers T=0 only, and answers announced with 61xx as such cards do. Ends with its input.
"""

from __future__ import annotations

import argparse
import functools
import sys
import threading
import time
from collections.abc import Callable

from devices.simulator.card import SimulatedCard
from devices.simulator.pcscd import HOST
from devices.simulator.vpcd import FISCAL_ATR, VirtualCard, keep_in
from tests.devices.cards import card_of, world_disk

#: TS, T0 (five historical bytes), and nothing more: T=0, and no check byte.
T0_ATR = b"\x3b\x05QK-T0"


class FreshCard:
    """One reader's card."""

    def __init__(self, atr: bytes, delay: float, announces: bool) -> None:
        self.atr = atr
        self._delay = delay
        self._announces = announces
        self._card: SimulatedCard | None = None

    def present(self) -> bool:
        return True

    def power(self, on: bool, gone: Callable[[], bool]) -> None:
        if on:
            self._card = card_of(world_disk(), announces=self._announces)

    def transmit(self, apdu: bytes) -> bytes:
        end = time.perf_counter() + self._delay
        assert self._card is not None
        if self._announces and len(apdu) > 5 and len(apdu) != 5 + apdu[4]:
            return b"\x67\x00"  # T=0 has no Le beside data
        response = self._card.transmit(apdu).response
        time.sleep(max(0.0, end - time.perf_counter()))
        return response


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--delay-ms", type=float, default=0.0)
    parser.add_argument("--t0", action="store_true")
    options = parser.parse_args()
    stop = threading.Event()
    for port in options.ports:
        atr = T0_ATR if options.t0 else FISCAL_ATR
        card = FreshCard(atr, options.delay_ms / 1000, options.t0)
        find: Callable[[], VirtualCard] = functools.partial(_same, card)
        threading.Thread(target=keep_in, args=(find, (HOST, port), stop), daemon=True).start()
    sys.stdin.read()
    return 0


def _same(card: VirtualCard) -> VirtualCard:
    return card


if __name__ == "__main__":
    sys.exit(main())
