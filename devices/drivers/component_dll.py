"""The way to a component in a Windows DLL: ``OperateDisk(in, out)`` (``NISEC_SKPC.dll``).

Owns the helper process that loads the DLL, and the pipe to it. The DLL lives in a process of its
own for two reasons: the vendors' DLLs are 32-bit, so a 64-bit worker cannot load them; and a call
that hangs in a DLL can only be ended by ending its process. The helper is this module, run by a
32-bit Python where the DLL is 32-bit::

    C:\\qingka\\python32\\python.exe -m devices.drivers.component_dll C:\\vendor\\NISEC_SKPC.dll

Pipe: each document, both ways, as a 4-byte length (big-endian) and its bytes, GBK as everywhere.
No document is ever an argument, an environment variable or a line of a log: it holds a password.

**Never run against a vendor's DLL**: none was at hand, nor a Windows machine. Run on Linux are the
pipe, its limits and the killing of a helper that hangs, with a stand-in for the DLL. ◇ What public
descriptions leave open stands in :func:`_load`: calling convention (stdcall), result (ignored: the
answer's own code counts), reply buffer (100 KB, zero-terminated).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

from devices.protocol.envelope import SIZE_LIMIT
from devices.protocol.failures import Code, Failure

REPLY_BYTES = 100 * 1024

Operate = Callable[[bytes], bytes]


class DllTransport:
    """A component in a DLL. ``helper``: the command line of the helper, Python included; it is
    started with the first call and again after one that hung."""

    def __init__(self, helper: Sequence[str]) -> None:
        self._helper = list(helper)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return "\0".join(self._helper)

    def operate(self, document: bytes, *, seconds: float) -> bytes:
        """Raises Failure: no_answer (the helper hung or died, and is gone), device_garbled,
        machine_fault (no helper can be started)."""
        process = self._running()
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        try:
            stdin, stdout = process.stdin, process.stdout
            if stdin is None or stdout is None:  # never so: both are pipes
                raise OSError
            write_frame(stdin, document)
            reply = read_frame(stdout)
        except (OSError, ValueError) as error:
            self._end()
            code = Code.DEVICE_GARBLED if type(error) is ValueError else Code.NO_ANSWER
            raise Failure(code, raw_code=type(error).__name__, outcome_unknown=True) from None
        finally:
            timer.cancel()
        if reply is None:
            self._end()
            raise Failure(Code.NO_ANSWER, raw_code="helper", outcome_unknown=True)
        return reply

    def close(self) -> None:
        self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        try:
            self._process = subprocess.Popen(
                self._helper, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        except OSError as error:
            raise Failure(Code.MACHINE_FAULT, detail=f"helper: {error.strerror}") from None
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()


def helper_command(python: str, dll: str) -> list[str]:
    """The command line of a helper; ``python``: the interpreter of the DLL's bitness."""
    return [python, "-m", "devices.drivers.component_dll", dll]


def write_frame(stream: IO[bytes], data: bytes) -> None:
    """One document. Raises OSError."""
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """One document, None at the end. Raises OSError, and ValueError for one that is too long."""
    head = _exactly(stream, 4)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > SIZE_LIMIT:
        raise ValueError("frame")
    return _exactly(stream, length)


def _exactly(stream: IO[bytes], length: int) -> bytes | None:
    data = b""
    while len(data) < length:
        received = stream.read(length - len(data))
        if not received:
            return None
        data += received
    return data


def serve(operate: Operate, requests: IO[bytes], replies: IO[bytes]) -> None:
    """The helper's loop: one document in, one out, until the worker is gone."""
    while (document := read_frame(requests)) is not None:
        write_frame(replies, operate(document))


def _load(path: str) -> Operate:
    """``OperateDisk`` of the DLL. Raises OSError where it cannot be loaded."""
    loader: Any = getattr(ctypes, "WinDLL", None)
    if loader is None:
        raise OSError("a vendor's DLL needs Windows")
    function = loader(path).OperateDisk
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p]

    def operate(document: bytes) -> bytes:
        reply = ctypes.create_string_buffer(REPLY_BYTES)
        function(document, reply)
        return reply.value

    return operate


def main(arguments: Sequence[str]) -> int:
    # What a DLL prints must not get between the frames.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        operate = _load(arguments[0])
    except (OSError, AttributeError, IndexError) as error:
        print(f"component_dll: {error}", file=sys.stderr)
        return 2
    serve(operate, sys.stdin.buffer, replies)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
