"""The way over HTTP: its limits, and what it says when there is no answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from devices.drivers.component_http import HttpTransport
from devices.protocol.envelope import SIZE_LIMIT
from devices.protocol.failures import Code, Failure

DOCUMENT = b'<?xml version="1.0" encoding="gbk"?><business/>'
OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def peer(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that reads one request and then does as it likes."""
    server = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def serve() -> None:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        held.append(connection)
        try:
            connection.recv(65536)
            answer(connection)
        except OSError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.close()
        for connection in held:
            connection.close()
        thread.join()


def sending(*parts: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)

    return answer


def operate(address: str, seconds: float = 5.0) -> bytes:
    transport = HttpTransport(address)
    try:
        return transport.operate(DOCUMENT, seconds=seconds)
    finally:
        transport.close()
        transport.close()


def refused(address: str, seconds: float = 5.0) -> Failure:
    with pytest.raises(Failure) as caught:
        operate(address, seconds)
    return caught.value


def test_the_answer_of_a_component_comes_back_as_it_is() -> None:
    with peer(sending(OK + b"Content-Length: 3\r\n\r\n\xc4\xfax")) as address:
        assert operate(address) == b"\xc4\xfax"


def test_the_path_is_the_public_one_unless_written_out() -> None:
    assert HttpTransport("http://h:1").address == "http://h:1/SKServer/SKDo"
    assert HttpTransport("http://h:1/own/path").address == "http://h:1/own/path"


@pytest.mark.parametrize("address", ["", "h:1", "https://h:1", "http://u:p@h:1", "ftp://h"])
def test_what_is_no_address_is_said_at_once(address: str) -> None:
    with pytest.raises(Failure) as caught:
        HttpTransport(address)
    assert caught.value.code is Code.MACHINE_FAULT
    assert "u:p" not in str(caught.value)


def test_a_refused_connection_cannot_have_changed_anything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    failure = refused(f"http://127.0.0.1:{port}")
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, False)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",),
        (b"HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",),
        (OK + b"Content-Length: 100\r\n\r\nshort",),
        (b"not http at all",),
    ],
)
def test_anything_but_a_whole_answer_is_none_and_may_have_had_an_effect(
    parts: tuple[bytes, ...],
) -> None:
    with peer(sending(*parts)) as address:
        failure = refused(address)
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)


def test_an_answer_without_end_is_cut_off() -> None:
    def flood(connection: socket.socket) -> None:
        connection.sendall(OK + b"\r\n")
        for _ in range(SIZE_LIMIT // 65536 + 8):
            connection.sendall(b"x" * 65536)

    with peer(flood) as address:
        assert refused(address).code is Code.DEVICE_GARBLED


def drip(connection: socket.socket) -> None:
    for byte in OK + b"X-Slow: " + b"y" * 10_000:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def hang(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("answer", [drip, hang])
def test_one_limit_holds_over_the_whole_call(answer: Callable[[socket.socket], None]) -> None:
    with peer(answer) as address:
        start = time.monotonic()
        failure = refused(address, seconds=0.3)
        assert time.monotonic() - start < 2
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, True)
    assert failure.raw_code in ("Timeout", "ReadTimeout")


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with peer(sending(OK + b"Content-Length: 2\r\n\r\nok")) as address:
        assert operate(address) == b"ok"
