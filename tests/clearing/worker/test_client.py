"""The machine API from the worker's side: refusals, repetition, clocks, and no word of a secret."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from clearing.stages import Denied
from clearing.wire import Denial, Limits, Order
from clearing.worker.client import Refused, ServerClient, Unreachable
from devices.protocol.failures import Code, Failure
from devices.protocol.month import Month
from tests.clearing.worker.fake_server import TOKEN

Answer = tuple[int, Any]


class Script:
    """Answers one after another; the last one again and again."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)
        self.paths: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.paths.append(request.url.path)
        self.bodies.append(json.loads(request.content))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, body = answer
        if isinstance(body, dict):
            return httpx.Response(status, json={"time": now(), "api": 1} | body)
        return httpx.Response(status, text=body)


SCALED = [(1.0, False, True), (1.0, True, True), (0.1, True, True), (0.1, False, False)]


def now(offset: float = 0.0) -> str:
    return (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=offset)).isoformat()


Made = Callable[[Script], ServerClient]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    """Clients whose pauses take no time, over a scripted transport."""
    monkeypatch.setattr("clearing.worker.client.time.sleep", lambda seconds: None)
    clients: list[ServerClient] = []

    def make(script: Script) -> ServerClient:
        transport = httpx.MockTransport(script)
        clients.append(ServerClient("https://server.example", TOKEN, transport=transport))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def intend(client: ServerClient, within: float = 5.0) -> float:
    return client.intend(
        7,
        "a",
        stage="clear",
        unit="025",
        period=Month(2026, 2),
        rolls_pin=True,
        facts=(),
        within=within,
    )


def test_a_call_is_repeated_until_it_is_answered(made: Made) -> None:
    script = Script(
        httpx.ConnectError("refused"),
        (503, {}),
        (200, "<html>the hotel's portal</html>"),
        (200, {"accepted": 1}),
    )
    made(script).record(7, "a", [{"number": 1}])
    assert script.paths == ["/machine/v1/runs/7/record"] * 4
    assert all(body == script.bodies[0] for body in script.bodies)


def test_a_call_is_not_repeated_for_ever(made: Made) -> None:
    script = Script(httpx.ReadTimeout("slow"))
    with pytest.raises(Unreachable):
        made(script).record(7, "a", (), within=0.5)
    assert script.paths


@pytest.mark.parametrize("status", [400, 401, 403, 404, 426])
def test_a_refusal_is_not_asked_again(made: Made, status: int) -> None:
    script = Script((status, {"reason": "no"}))
    with pytest.raises(Refused) as caught:
        made(script).claim("a")
    assert caught.value.status == status
    assert len(script.paths) == 1


def test_no_error_holds_the_token_or_a_body(made: Made) -> None:
    for answer in (httpx.ConnectError(TOKEN), (401, {"detail": TOKEN}), (500, TOKEN)):
        with pytest.raises((Refused, Unreachable)) as caught:
            made(Script(answer)).record(7, "a", [{"pin": "marker"}], within=0.1)
        assert TOKEN not in str(caught.value)
        assert "marker" not in str(caught.value)


@pytest.mark.parametrize("denial", list(Denial))
def test_a_denial_says_why(made: Made, denial: Denial) -> None:
    script = Script((200, {"accepted": 0}), (409, {"granted": False, "reason": denial.value}))
    with pytest.raises(Denied) as caught:
        intend(made(script))
    assert caught.value.denial == denial


def test_a_denial_of_a_newer_server_stops_the_run(made: Made) -> None:
    script = Script((200, {}), (409, {"granted": False, "reason": "moon phase"}))
    with pytest.raises(Denied) as caught:
        intend(made(script))
    assert caught.value.denial == Denial.LEASE_LOST


def test_an_answer_that_does_not_grant_lasts_no_time(made: Made) -> None:
    assert intend(made(Script((200, {}), (200, {"duration": 90})))) == 0.0
    assert intend(made(Script((200, {}), (200, {"granted": True, "duration": 90})))) == 90.0


@pytest.mark.parametrize("offset", [-121.0, 121.0])
def test_with_a_wrong_clock_no_permission_is_asked_for(made: Made, offset: float) -> None:
    script = Script((200, {"time": now(offset)}))
    with pytest.raises(Failure) as caught:
        intend(made(script))
    assert caught.value.code == Code.CLOCK_WRONG
    assert script.paths == ["/machine/v1/runs/7/record"]  # only to learn the time


def test_a_clock_that_is_a_little_wrong_is_good_enough(made: Made) -> None:
    script = Script((200, {"time": now(100.0), "granted": True, "duration": 90}))
    assert intend(made(script)) == 90.0


def test_a_backup_counts_only_if_the_server_kept_the_same_bytes(made: Made) -> None:
    for answer in ((200, {"kept": True, "sha256": "0" * 64}), (422, {"error": "backup_failed"})):
        with pytest.raises(Failure) as caught:
            made(Script(answer)).keep(7, "a", period=Month(2026, 2), backup=b"x", facts=())
        assert caught.value.code == Code.BACKUP_FAILED


def test_an_order_that_cannot_be_read_is_given_back(made: Made) -> None:
    script = Script((200, {"order": {"run_id": 9, "attempt": "a"}}), (200, {"state": "queued"}))
    with pytest.raises(Failure):
        made(script).claim("a")
    assert script.paths[-1] == "/machine/v1/runs/9/release"


@pytest.mark.parametrize(("factor", "simulated", "taken"), SCALED)
def test_limits_that_were_scaled_are_taken_for_simulated_work_only(
    made: Made, factor: float, simulated: bool, taken: bool
) -> None:
    """Somebody's real disk has the whole time, whatever a practice server says."""
    order = Order(
        run_id=7,
        attempt="a",
        intent="read",
        period="2026-02",
        now=now(),
        slot="A-01",
        device_no="661900000001",
        tax_id="914201000000000000",
        terminal_no=0,
        kind="ic_card",
        bureau_url="http://bureau.test/",
        limits=Limits().scaled(factor),
        time_factor=factor,
        simulated=simulated,
    ).to_json()
    script = Script((200, {"order": order}), (200, {"state": "queued"}))
    client = made(script)
    if taken:
        got = client.claim("a")
        assert got is not None
        assert (got.time_factor, got.limits) == (factor, Limits().scaled(factor))
        assert script.paths == ["/machine/v1/claim"]
        return
    with pytest.raises(Failure) as refused:
        client.claim("a")
    assert refused.value.code == Code.MACHINE_FAULT
    assert script.paths == ["/machine/v1/claim", "/machine/v1/runs/7/release"]


def test_nothing_to_do_is_no_order(made: Made) -> None:
    assert made(Script((200, {"order": None}))).claim("a") is None


def test_the_whole_call_has_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    pauses: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr("clearing.worker.client.steady", lambda: clock[0])

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("clearing.worker.client.time.sleep", sleep)

    def hang(request: httpx.Request) -> httpx.Response:
        timeout = request.extensions["timeout"]["read"]
        asked.append(timeout)
        clock[0] += timeout
        raise httpx.ReadTimeout("slow")

    transport = httpx.MockTransport(hang)
    with (
        ServerClient("https://s.example", TOKEN, transport=transport) as client,
        pytest.raises(Unreachable),
    ):
        client.record(7, "a", (), within=40.0)
    assert sum(asked) + sum(pauses) <= 40.0 + 0.05
    assert max(asked) <= 15.0
