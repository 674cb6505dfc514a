"""The rolling PINs as this machine last knew them: one sealed file per disk.

Owns what must survive a crash around VERIFY_FISCAL_PIN. The file is replaced as a whole (temporary
file, fsync, rename, fsync of the folder), so that after SIGKILL or power loss at any point it says
one of three things of the disk's last PIN command:

``open``     an intent was made durable and nothing came back: the card may have rolled. The PIN of
             ``generation`` is kept; nobody sends it before a person has decided.
``rolled``   the card answered: the PIN in the file is the new one, of ``generation``.
``refused``  the card did not take the PIN of ``generation``; it is unchanged.

The new PIN and the end of the window are one and the same write, so no crash can lose a PIN that
was answered, nor show a window that is closed. Must never: replace a newer generation by an older
one, or hand out a PIN to a log.
"""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from agency.sealing import KeyRing, SealError
from clearing.worker import durable
from devices.protocol.failures import Code, Failure

_DEVICE_NO = re.compile(r"[0-9A-Za-z]{1,32}")


class PinState(enum.StrEnum):
    """How the disk's last PIN command ended, as far as this machine knows."""

    OPEN = "open"
    ROLLED = "rolled"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class PinEntry:
    """What is known of one disk's PIN, and which attempt brought it about."""

    state: PinState
    generation: int
    value: bytes = field(repr=False)
    run_id: int
    attempt: str


class PinBook:
    """The folder of PIN files. Written only by who holds the disk's file lock."""

    def __init__(self, folder: Path, ring: KeyRing) -> None:
        self._folder = durable.private_dir(folder)
        self._ring = ring

    def get(self, device_no: str) -> PinEntry | None:
        """The entry of a disk. Raises Failure(machine_fault) when the file cannot be opened: a PIN
        may stand in it, so the server's older one must not be used instead."""
        try:
            sealed = self._path(device_no).read_bytes()
        except FileNotFoundError:
            return None
        try:
            raw = json.loads(self._ring.open(sealed, context=f"pin:{device_no}"))
            return PinEntry(
                PinState(raw["state"]),
                int(raw["generation"]),
                bytes.fromhex(raw["pin"]),
                int(raw["run"]),
                str(raw["attempt"]),
            )
        except (SealError, KeyError, TypeError, ValueError):
            raise Failure(Code.MACHINE_FAULT, detail="PIN journal unreadable") from None

    def put(self, device_no: str, entry: PinEntry) -> None:
        """Returns after the entry is safe. Raises OSError."""
        raw = {
            "state": entry.state,
            "generation": entry.generation,
            "pin": entry.value.hex(),
            "run": entry.run_id,
            "attempt": entry.attempt,
        }
        plain = json.dumps(raw).encode()
        durable.replace(self._path(device_no), self._ring.seal(plain, context=f"pin:{device_no}"))

    def _path(self, device_no: str) -> Path:
        if not _DEVICE_NO.fullmatch(device_no):
            raise Failure(Code.MACHINE_FAULT, detail="device number")
        return self._folder / device_no
