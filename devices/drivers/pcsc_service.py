"""One PC/SC daemon, and contexts at it.

Owns which daemon a process talks to, and how a context is made and given back. Everything goes
through pyscard's low level (``smartcard.scard``): its connections reset the card when they are
garbage collected, raise from ``__del__`` when the daemon is gone, and one of their exceptions
(``EstablishContextException``) is no ``SmartcardException``. Handles here are plain numbers:
nothing happens to a card that nobody asked for.

Facts: libpcsclite reads ``PCSCLITE_CSOCK_NAME`` once per process, at its first context, so a
process has one daemon for life. A context made before a fork is shared with the parent through one
socket: contexts are made when they are needed, and nobody touches one of another process.

Must never: set the environment of a process that talks to another daemon already.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from devices.drivers import pcsc_codes
from devices.protocol.failures import Code, Failure

SOCKET_VARIABLE = "PCSCLITE_CSOCK_NAME"

_bound: list[PcscService] = []  # the daemon of this process, at most one; forks inherit it


@dataclass(frozen=True, slots=True)
class PcscService:
    """A daemon, by its socket; None is the system's own (or what the environment says)."""

    socket: Path | None = None

    def environment(self) -> dict[str, str]:
        """What to add to the environment of a process that is to talk to this daemon."""
        return {} if self.socket is None else {SOCKET_VARIABLE: str(self.socket)}

    def establish(self) -> int:
        """A new context. Raises Failure: no_answer (no daemon), machine_fault (no pyscard, no
        right to use it, or a process that has another daemon)."""
        card_api = self.api()
        result, context = card_api.SCardEstablishContext(card_api.SCARD_SCOPE_USER)
        if result != pcsc_codes.OK:
            raise pcsc_codes.failure_of(result, detail="context")
        return int(context)

    @contextlib.contextmanager
    def context(self) -> Iterator[int]:
        """A context for the time of a block; raises as :meth:`establish`."""
        context, owner = self.establish(), os.getpid()
        try:
            yield context
        finally:
            if os.getpid() == owner:
                self.api().SCardReleaseContext(context)  # of a dead daemon: says so, frees all

    def api(self) -> ModuleType:
        """pyscard's low level, with this process bound to this daemon."""
        try:
            from smartcard import scard
        except ImportError:
            raise Failure(Code.MACHINE_FAULT, detail="pyscard") from None
        if not _bound:
            os.environ.update(self.environment())
            _bound.append(self)
        elif _bound[0] != self:
            raise Failure(Code.MACHINE_FAULT, detail="one process, two PC/SC daemons")
        module: ModuleType = scard
        return module
