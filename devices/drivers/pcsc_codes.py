"""What PC/SC's results mean: each to a code of the catalogue.

Owns the results that only the connection to a reader gives; what is a disk's own sign stands in
``catalogue/vendor_codes.py``, which is asked for the rest. Two of its entries are read otherwise
here: "no service" and "service stopped" are a broken connection (``no_answer``, tried again), for a
restarted daemon is back in a second; that it stays away is the watcher's and the doctor's matter.

Must never: take the data of a call that failed (pyscard 2.3.1 hands out 64 KB of whatever was in
memory), or call a lost outcome an outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from devices.protocol.catalogue import from_device_code
from devices.protocol.failures import Code, Failure

OK: Final = 0
INTERNAL_ERROR: Final = 0x80100001
CANCELLED: Final = 0x80100002
INVALID_HANDLE: Final = 0x80100003
INVALID_PARAMETER: Final = 0x80100004
NO_MEMORY: Final = 0x80100006
INSUFFICIENT_BUFFER: Final = 0x80100008
UNKNOWN_READER: Final = 0x80100009
TIMEOUT: Final = 0x8010000A
SHARING_VIOLATION: Final = 0x8010000B
NO_SMARTCARD: Final = 0x8010000C
PROTO_MISMATCH: Final = 0x8010000F
INVALID_VALUE: Final = 0x80100011
COMM_ERROR: Final = 0x80100013
UNKNOWN_ERROR: Final = 0x80100014
NOT_TRANSACTED: Final = 0x80100016
READER_UNAVAILABLE: Final = 0x80100017
NO_SERVICE: Final = 0x8010001D
SERVICE_STOPPED: Final = 0x8010001E
NO_READERS: Final = 0x8010002E
COMM_DATA_LOST: Final = 0x8010002F
SECURITY_VIOLATION: Final = 0x8010006A

_CONNECTION: Mapping[int, Code] = {
    INTERNAL_ERROR: Code.NO_ANSWER,
    CANCELLED: Code.NO_ANSWER,
    INVALID_HANDLE: Code.NO_ANSWER,  # the handle died with its daemon or its reader
    COMM_ERROR: Code.NO_ANSWER,  # the daemon was killed in the middle
    UNKNOWN_ERROR: Code.NO_ANSWER,
    NOT_TRANSACTED: Code.NO_ANSWER,
    NO_SERVICE: Code.NO_ANSWER,
    SERVICE_STOPPED: Code.NO_ANSWER,
    INSUFFICIENT_BUFFER: Code.DEVICE_GARBLED,  # an answer longer than any answer
    PROTO_MISMATCH: Code.FOREIGN_CARD,  # neither T=0 nor T=1
    INVALID_PARAMETER: Code.MACHINE_FAULT,
    INVALID_VALUE: Code.MACHINE_FAULT,
    NO_MEMORY: Code.MACHINE_FAULT,
    SECURITY_VIOLATION: Code.MACHINE_FAULT,  # polkit does not let this user at the readers
}

#: The daemon is gone, and every context and handle with it: only new ones work.
SERVICE_GONE: Final = frozenset({NO_SERVICE, SERVICE_STOPPED, COMM_ERROR, INVALID_HANDLE})

#: Opening may be tried again. A daemon that ends while it is greeted looks as if it denied access.
SERVICE_AWAY: Final = SERVICE_GONE | {SECURITY_VIOLATION}


def raw_code(result: int) -> str:
    """A result as it is shown: ``0x8010001D``."""
    return f"0x{result & 0xFFFFFFFF:08X}"


def failure_of(result: int, *, detail: str = "", outcome_unknown: bool = False) -> Failure:
    """The failure that a result other than :data:`OK` stands for."""
    raw = raw_code(result)
    code = _CONNECTION.get(result & 0xFFFFFFFF) or from_device_code(raw)
    return Failure(code, raw_code=raw, detail=detail, outcome_unknown=outcome_unknown)
