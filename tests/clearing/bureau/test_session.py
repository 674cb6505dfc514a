"""The session against a bureau that answers, and against the many ways of not answering."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from clearing.bureau import messages
from clearing.bureau.messages import SIZE_LIMIT, Operation, Reply, Request
from clearing.bureau.port import Bureau, DiskAddress
from clearing.bureau.refusals import Refusal
from clearing.bureau.session import BureauSession
from devices.drivers.contract import ClearRequest, ReportPackage, Unit
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month

DISK = DiskAddress("A1B2C3D4E5F60718", "91420106MA05AMP1XY", 0)
FEBRUARY = Month(2026, 2)
ROLLS = Unit(("025",))

CALLS: dict[Operation, Callable[[Bureau], object]] = {
    Operation.REPORT: lambda b: b.report(ReportPackage(ROLLS, FEBRUARY, {"fphz": "00"})),
    Operation.CLEAR_DATA: lambda b: b.clear_data(ClearRequest(ROLLS, {"qtxx": "1"}), FEBRUARY),
    Operation.CONFIRM: lambda b: b.confirm(ROLLS, FEBRUARY),
    Operation.STATUS: lambda b: b.status(FEBRUARY),
}
ACTING = (Operation.REPORT, Operation.CONFIRM)

StartPeer = Callable[[Callable[[socket.socket], object]], str]

each_call = pytest.mark.parametrize("operation", Operation, ids=lambda op: op.id)


def session_with(
    answer: Callable[[httpx.Request], httpx.Response], requests: list[Request] | None = None
) -> BureauSession:
    def handle(request: httpx.Request) -> httpx.Response:
        if requests is not None:
            requests.append(messages.parse_request(request.read()))
        return answer(request)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    return BureauSession("http://bureau.test/", DISK, timeout_seconds=5, client=client)


def answering(body: bytes) -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(body))


def saying(reply: Reply) -> BureauSession:
    return session_with(lambda _: answering(messages.build_reply(reply)))


def failure_of(session: Bureau, operation: Operation) -> Failure:
    with pytest.raises(Failure) as caught:
        CALLS[operation](session)
    return caught.value


class TestAnswers:
    def test_a_report_brings_back_code_text_and_serial_as_evidence(self) -> None:
        asked: list[Request] = []
        group = {"fplxdm": "025", "lsh": "MN1", "returncode": "0"}
        reply = messages.build_reply(Reply(Operation.REPORT, "0000", "已接收", groups=(group,)))
        session = session_with(lambda _: answering(reply), asked)
        package = ReportPackage(ROLLS, FEBRUARY, {"fphz": "0A"})
        assert session.report(package) == {"code": "0000", "text": "已接收", "serial": "MN1"}
        assert asked == [messages.report_request(DISK, package)]

    @pytest.mark.parametrize("known", [Refusal.ALREADY_CONFIRMED, Refusal.ALREADY_CLEARED])
    def test_already_confirmed_is_success_and_says_so(self, known: Refusal) -> None:
        session = saying(Reply(Operation.CONFIRM, known.raw_code, known.text))
        assert session.confirm(ROLLS, FEBRUARY) == {
            "code": known.raw_code,
            "text": known.text,
            "serial": "",
        }

    def test_already_cleared_is_no_success_for_a_report_or_for_clear_data(self) -> None:
        for operation in (Operation.REPORT, Operation.CLEAR_DATA):
            reply = Reply(operation, Refusal.ALREADY_CLEARED.raw_code, "")
            assert failure_of(saying(reply), operation).code is Code.ALREADY_CLEARED

    @each_call
    def test_a_refusal_is_an_answer_so_nothing_is_unknown(self, operation: Operation) -> None:
        failure = failure_of(saying(Reply(operation, "77", "不行")), operation)
        assert failure.code is Code.BUREAU_REFUSED
        assert (failure.raw_code, failure.raw_text) == ("77", "不行")
        assert not failure.outcome_unknown

    @each_call
    def test_maintenance_is_tried_again_later(self, operation: Operation) -> None:
        failure = failure_of(saying(Reply(operation, Refusal.MAINTENANCE.raw_code, "")), operation)
        assert failure.code is Code.BUREAU_UNREACHABLE
        assert not failure.outcome_unknown

    def test_a_client_that_was_lent_stays_open(self) -> None:
        with httpx.Client() as client:
            BureauSession("http://bureau.test/", DISK, timeout_seconds=1, client=client).close()
            assert not client.is_closed

    def test_the_session_closes_its_own_client_and_may_be_closed_twice(self) -> None:
        session = BureauSession("http://bureau.test/", DISK, timeout_seconds=1)
        session.close()
        session.close()
        assert session._client.is_closed


class TestNoAnswer:
    @each_call
    @pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429])
    def test_a_failing_server_is_unreachable(self, operation: Operation, status: int) -> None:
        failure = failure_of(session_with(lambda _: httpx.Response(status)), operation)
        assert failure.code is Code.BUREAU_UNREACHABLE
        assert failure.raw_code == f"HTTP {status}"
        assert failure.outcome_unknown is (operation in ACTING)

    @each_call
    @pytest.mark.parametrize("status", [201, 204, 302, 307, 400, 403, 404])
    def test_any_other_status_is_no_answer_of_a_bureau(
        self, operation: Operation, status: int
    ) -> None:
        asked: list[Request] = []
        elsewhere = {"Location": "http://elsewhere.test/"}
        session = session_with(lambda _: httpx.Response(status, headers=elsewhere), asked)
        failure = failure_of(session, operation)
        assert failure.code is Code.BUREAU_GARBLED
        assert failure.outcome_unknown is (operation in ACTING)
        assert len(asked) == 1, "a redirect was followed"

    @each_call
    @pytest.mark.parametrize("body", [b"", b"<html/>", b"\xff\xfe\x00", b"x" * (SIZE_LIMIT + 1)])
    def test_a_garbled_answer_may_hide_an_act(self, operation: Operation, body: bytes) -> None:
        failure = failure_of(session_with(lambda _: answering(body)), operation)
        assert failure.code is Code.BUREAU_GARBLED
        assert failure.outcome_unknown is (operation in ACTING)

    def test_a_success_for_another_unit_may_hide_an_act(self) -> None:
        reply = Reply(Operation.REPORT, "0", "", groups=({"fplxdm": "004"},))
        failure = failure_of(saying(reply), Operation.REPORT)
        assert failure.code is Code.BUREAU_GARBLED
        assert failure.outcome_unknown

    def test_an_endless_answer_is_not_read_to_its_end(self) -> None:
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            for _ in itertools.count():
                sent += 1
                yield b"x" * 65536

        session = session_with(lambda _: httpx.Response(200, content=endless()))
        assert failure_of(session, Operation.STATUS).code is Code.BUREAU_GARBLED
        assert sent < 2 * SIZE_LIMIT // 65536

    @each_call
    @pytest.mark.parametrize(
        ("error", "arrived"),
        [
            (httpx.ConnectError("refused"), False),
            (httpx.ConnectTimeout("slow"), False),
            (httpx.PoolTimeout("full"), False),
            (httpx.WriteError("broken pipe"), True),
            (httpx.WriteTimeout("slow"), True),
            (httpx.ReadTimeout("slow"), True),
            (httpx.ReadError("reset"), True),
            (httpx.RemoteProtocolError("gone"), True),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_only_what_may_have_arrived_leaves_a_doubt(
        self, operation: Operation, error: Exception, arrived: bool
    ) -> None:
        def broken(_: httpx.Request) -> httpx.Response:
            raise error

        failure = failure_of(session_with(broken), operation)
        assert failure.code is Code.BUREAU_UNREACHABLE
        name = type(error).__name__
        assert failure.raw_code == ("Timeout" if name == "ReadTimeout" else name)
        assert failure.outcome_unknown is (arrived and operation in ACTING)

    @pytest.mark.parametrize("address", ["", "bureau", "ftp://bureau.test/", "http://[", "http://"])
    def test_an_address_that_is_none_is_a_failure_like_any_other(self, address: str) -> None:
        session = BureauSession(address, DISK, timeout_seconds=1)
        with contextlib.closing(session):
            failure = failure_of(session, Operation.REPORT)
        assert failure.code is Code.BUREAU_UNREACHABLE
        assert not failure.outcome_unknown


class TestSockets:
    """A real connection, to a peer that misbehaves."""

    @pytest.fixture
    def peer(self) -> Iterator[StartPeer]:
        """Starts a server that hands its one connection to ``behave``; gives its address."""
        with contextlib.ExitStack() as stack:

            def start(behave: Callable[[socket.socket], object]) -> str:
                listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

                def serve() -> None:
                    with contextlib.suppress(OSError):
                        connection, _ = listener.accept()
                        with connection:
                            behave(connection)

                thread = threading.Thread(target=serve, daemon=True)
                thread.start()
                stack.callback(thread.join)
                return f"http://127.0.0.1:{listener.getsockname()[1]}/"

            yield start

    def ask(self, address: str, operation: Operation, seconds: float) -> Failure:
        session = BureauSession(address, DISK, timeout_seconds=seconds)
        with contextlib.closing(session):
            return failure_of(session, operation)

    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["head", "body"])
    def test_a_server_that_drips_does_not_stretch_the_limit(
        self, peer: StartPeer, start: bytes
    ) -> None:
        stop = threading.Event()

        def drip(connection: socket.socket) -> None:
            connection.sendall(start or b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while not stop.wait(0.02):
                connection.sendall(b"x")

        try:
            failure = self.ask(peer(drip), Operation.REPORT, 0.3)
        finally:
            stop.set()
        assert failure.code is Code.BUREAU_UNREACHABLE
        assert failure.raw_code == "Timeout"
        assert failure.outcome_unknown

    def test_a_server_that_never_finishes_its_handshake_is_given_up_before_anything_was_sent(
        self, peer: StartPeer
    ) -> None:
        stop = threading.Event()

        def drip(connection: socket.socket) -> None:
            # A TLS record that announces 16 kB and brings them one by one.
            connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xf0")
            while not stop.wait(0.02):
                connection.sendall(b"x")

        try:
            address = peer(drip).replace("http:", "https:")
            failure = self.ask(address, Operation.REPORT, 0.3)
        finally:
            stop.set()
        assert failure.code is Code.BUREAU_UNREACHABLE
        assert not failure.outcome_unknown

    def test_a_connection_closed_without_an_answer_leaves_a_doubt(self, peer: StartPeer) -> None:
        failure = self.ask(peer(lambda connection: connection.recv(100_000)), Operation.CONFIRM, 10)
        assert failure.code is Code.BUREAU_UNREACHABLE
        assert failure.outcome_unknown

    def test_nobody_listening_leaves_none(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        failure = self.ask(f"http://127.0.0.1:{port}/", Operation.REPORT, 10)
        assert failure.code is Code.BUREAU_UNREACHABLE
        assert not failure.outcome_unknown

    def test_a_proxy_of_the_environment_is_not_used(
        self,
        peer: StartPeer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9/")
        body = messages.build_reply(
            Reply(Operation.STATUS, "0", "", {"reported": "1", "filed": "filed", "cleared": "1"})
        )

        def answer(connection: socket.socket) -> None:
            connection.recv(100_000)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)

        session = BureauSession(peer(answer), DISK, timeout_seconds=10)
        with contextlib.closing(session):
            assert session.status(FEBRUARY).cleared
