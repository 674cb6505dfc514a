"""The client's side of the rack (模拟): a card channel, the list of slots, and the controls.

Owns turning what the socket says into failures of the catalogue. A rack that is not there is a
broken link (``no_answer``); whether a lost command may have taken effect follows from the command.

Must never: send a command again, or keep using a connection that lost an answer.
"""

from __future__ import annotations

import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.protocol.failures import Code, Failure
from devices.protocol.iccard import changes_card
from devices.simulator.rack_faults import DEFAULT_GARBAGE, Mode
from devices.simulator.rack_wire import Wire, WireError, socket_address

#: What ``Failure.raw_code`` says when it was the link to the rack that failed.
RAW_CODE = "rack"
_CONNECT_SECONDS = 5.0


class RackChannel:
    """A :class:`~devices.drivers.contract.CardChannel` to one disk of a rack.

    Opens on construction: by ``slot``, or by ``device_no`` wherever it is plugged in. ``timeout``:
    seconds until a command counts as lost. Raises Failure: disk_absent, disk_in_use, no_answer.
    """

    def __init__(
        self, socket_path: Path, slot: str = "", *, device_no: str = "", timeout: float = 30.0
    ) -> None:
        self._ended_by = Code.NO_ANSWER
        self._wire: Wire | None = _connect(socket_path, timeout)
        try:
            self._wire.send({"op": "open", "slot": slot, "device_no": device_no})
            answer = self._wire.receive()
        except (OSError, WireError) as error:
            self.close()
            raise _no_answer(error) from error
        if answer is None or not answer.get("ok"):
            self.close()
            raise _failure(answer, in_doubt=False)

    def transmit(self, apdu: bytes) -> bytes:
        if self._wire is None:
            raise Failure(self._ended_by, raw_code=RAW_CODE, detail="closed")
        in_doubt = changes_card(apdu)
        try:
            self._wire.send({"apdu": apdu.hex()})
            answer = self._wire.receive()
            if answer is not None and "response" in answer:
                return bytes.fromhex(answer["response"])
        except (OSError, WireError, ValueError, TypeError) as error:
            self.close()
            raise _no_answer(error, in_doubt=in_doubt) from error
        self.close()
        failure = _failure(answer, in_doubt=in_doubt)
        self._ended_by = failure.code
        raise failure

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot: who is in it (empty: nobody), whether somebody has it open, what it hangs in."""

    slot: str
    device_no: str
    in_use: bool
    hanging: str


def list_slots(socket_path: Path, *, timeout: float = 10.0) -> list[SlotView]:
    """Every slot of the rack by name. Raises Failure(no_answer) when the rack is not there."""
    return [SlotView(**entry) for entry in _ask(socket_path, timeout, op="slots")["slots"]]


class RackControl:
    """Hands at the rack: plug, pull, swap, and set faults. Each call is a connection of its own.

    Raises Failure(no_answer) without a rack, ValueError for what the rack will not do.
    """

    def __init__(self, socket_path: Path, *, timeout: float = 10.0) -> None:
        self._path = socket_path
        self._timeout = timeout

    def insert(self, slot: str, device_no: str) -> None:
        """Plug a disk from the drawer into an empty slot."""
        self._do(op="insert", slot=slot, device_no=device_no)

    def pull(self, slot: str) -> None:
        """Pull what is in the slot, whatever it is doing."""
        self._do(op="pull", slot=slot)

    def swap(self, slot: str, device_no: str) -> None:
        """Put another disk into the slot; two that are plugged in change places."""
        self._do(op="swap", slot=slot, device_no=device_no)

    def fault(
        self,
        device_no: str,
        mode: Mode,
        *,
        command: str = "",
        skip: int = 0,
        times: int = 1,
        seconds: float = 0.0,
        data: str = DEFAULT_GARBAGE,
    ) -> None:
        """Set a fault (:class:`~devices.simulator.rack_faults.Fault`) on a disk plugged in."""
        self._do(
            op="fault",
            device_no=device_no,
            mode=mode.value,
            command=command,
            skip=skip,
            times=times,
            seconds=seconds,
            data=data,
        )

    def clear_faults(self, device_no: str) -> None:
        self._do(op="clear_faults", device_no=device_no)

    def commands(self, device_no: str) -> list[str]:
        """Names of the commands the disk was sent since it was plugged in (no data)."""
        commands: list[str] = self._do(op="commands", device_no=device_no)["commands"]
        return commands

    def wait_until_hanging(self, device_no: str, *, timeout: float = 10.0) -> str:
        """Wait until the disk hangs in a command (faults ``hang_…``); its name. TimeoutError."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            for view in list_slots(self._path, timeout=self._timeout):
                if view.device_no == device_no and view.hanging:
                    return view.hanging
            time.sleep(0.01)
        raise TimeoutError(f"{device_no} does not hang")

    def wait_until_free(self, device_no: str, *, timeout: float = 10.0) -> None:
        """Wait until nobody has the disk open, e.g. after a client was killed. TimeoutError."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            views = list_slots(self._path, timeout=self._timeout)
            if not any(view.device_no == device_no and view.in_use for view in views):
                return
            time.sleep(0.01)
        raise TimeoutError(f"{device_no} is still in use")

    def _do(self, **question: Any) -> dict[str, Any]:
        answer = _ask(self._path, self._timeout, **question)
        if "error" in answer:
            raise ValueError(f"{answer['error']}: {answer.get('text', '')}")
        return answer


def rack_command(world: Path, machine: str, folder: Path, socket_path: Path) -> list[str]:
    """The command line that starts a rack, for whoever keeps processes."""
    return [
        *(sys.executable, "-m", "devices.simulator.rack"),
        *("--world", str(world), "--machine", machine),
        *("--dir", str(folder), "--socket", str(socket_path)),
    ]


def wait_ready(socket_path: Path, *, timeout: float = 10.0) -> None:
    """Wait until the rack answers. Raises the last Failure(no_answer) when it does not."""
    end = time.monotonic() + timeout
    while True:
        try:
            list_slots(socket_path)
            return
        except Failure:
            if time.monotonic() >= end:
                raise
            time.sleep(0.01)


def _ask(socket_path: Path, timeout: float, **question: Any) -> dict[str, Any]:
    wire = _connect(socket_path, timeout)
    try:
        wire.send(question)
        answer = wire.receive()
    except (OSError, WireError) as error:
        raise _no_answer(error) from error
    finally:
        wire.close()
    if answer is None:
        raise _failure(None, in_doubt=False)
    return answer


def _connect(socket_path: Path, timeout: float) -> Wire:
    address = socket_address(socket_path)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_CONNECT_SECONDS)
        connection.connect(address)
        connection.settimeout(timeout)
    except OSError as error:
        connection.close()
        raise _no_answer(error) from error
    return Wire(connection)


def _failure(answer: dict[str, Any] | None, *, in_doubt: bool) -> Failure:
    """The failure in the rack's answer; no answer at all is ``no_answer``."""
    if answer is None or answer.get("error") not in (Code.DISK_ABSENT, Code.DISK_IN_USE):
        raw_text = "" if answer is None else str(answer.get("text", ""))
        return Failure(
            Code.NO_ANSWER, raw_code=RAW_CODE, raw_text=raw_text, outcome_unknown=in_doubt
        )
    unknown = bool(answer.get("outcome_unknown"))
    return Failure(Code(answer["error"]), raw_code=RAW_CODE, outcome_unknown=unknown)


def _no_answer(error: Exception, *, in_doubt: bool = False) -> Failure:
    return Failure(
        Code.NO_ANSWER,
        raw_code=RAW_CODE,
        raw_text=type(error).__name__,
        outcome_unknown=in_doubt,
    )
