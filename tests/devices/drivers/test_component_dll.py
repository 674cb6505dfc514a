"""The helper of a vendor's DLL, with a stand-in for the DLL; a real one was never at hand."""

from __future__ import annotations

import io
import sys
import time

import pytest

from devices.drivers import component_dll
from devices.drivers.component_dll import DllTransport, read_frame, serve, write_frame
from devices.protocol.envelope import SIZE_LIMIT
from devices.protocol.failures import Code, Failure

HELPER = """
import sys, time, os
from devices.drivers.component_dll import serve
def operate(document):
    if document == b"hang":
        time.sleep(60)
    if document == b"die":
        os._exit(3)
    if document == b"long":
        return b"x" * 1_000_001
    return b"<" + document + b">"
serve(operate, sys.stdin.buffer, sys.stdout.buffer)
"""


@pytest.fixture
def transport() -> DllTransport:
    return DllTransport([sys.executable, "-c", HELPER])


def refused(transport: DllTransport, document: bytes, seconds: float = 10.0) -> Failure:
    with pytest.raises(Failure) as caught:
        transport.operate(document, seconds=seconds)
    return caught.value


def test_documents_go_through_the_pipe_and_back(transport: DllTransport) -> None:
    for document in (b"a", b"\xc4\xe3\x00", b"y" * 70_000):
        assert transport.operate(document, seconds=10) == b"<" + document + b">"
    transport.close()
    transport.close()


def test_a_call_that_hangs_ends_its_process_and_the_next_gets_a_new_one(
    transport: DllTransport,
) -> None:
    assert transport.operate(b"a", seconds=10) == b"<a>"
    start = time.monotonic()
    failure = refused(transport, b"hang", seconds=0.3)
    assert time.monotonic() - start < 5
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)
    assert transport.operate(b"b", seconds=10) == b"<b>"
    transport.close()


def test_a_helper_that_dies_or_overflows_is_a_failure(transport: DllTransport) -> None:
    assert refused(transport, b"die").code is Code.NO_ANSWER
    assert refused(transport, b"long").code is Code.DEVICE_GARBLED
    transport.close()


def test_a_helper_that_cannot_be_started_is_the_machines_fault() -> None:
    assert refused(DllTransport(["/nowhere/python"]), b"a").code is Code.MACHINE_FAULT


def test_the_real_helper_says_that_it_needs_windows() -> None:
    helper = DllTransport(component_dll.helper_command(sys.executable, "NISEC_SKPC.dll"))
    assert refused(helper, b"a").code is Code.NO_ANSWER
    helper.close()


def test_frames_are_bounded() -> None:
    with pytest.raises(ValueError, match="frame"):
        read_frame(io.BytesIO((SIZE_LIMIT + 1).to_bytes(4, "big")))
    assert read_frame(io.BytesIO(b"\x00\x00\x00\x05abc")) is None
    out = io.BytesIO()
    frames = io.BytesIO()
    write_frame(frames, b"one")
    serve(lambda document: document * 2, io.BytesIO(frames.getvalue()), out)
    assert out.getvalue() == b"\x00\x00\x00\x06oneone"
