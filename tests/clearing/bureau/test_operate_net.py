"""Bureau calls through the component: the whole way, and what may break on it."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clearing.bureau.operate_net import operate_net_client
from clearing.bureau.port import DiskAddress, Filing
from clearing.bureau.session import BureauSession
from clearing.bureau.standin.server import Server
from clearing.bureau.standin.service import Service
from devices.drivers.contract import ReportPackage, Unit
from devices.drivers.dates import Kind
from devices.protocol import operate_net
from devices.protocol.failures import Code, Failure
from devices.protocol.operate_net import NetCall, NetReply
from devices.simulator.component import ComponentServer
from devices.simulator.component_rack import ComponentRack
from devices.simulator.world import World, WorldTaxpayer
from tests.devices.cards import IN_WINDOW, KEY, PERIOD
from tests.devices.components import NUMBERS, TAX_ID, component_world_disk

CERTIFICATE = "Zertifikat"
DISK = DiskAddress(NUMBERS[Kind.BAIWANG], TAX_ID, 0)
UNIT = Unit(("004",))
PACKAGE = ReportPackage(UNIT, PERIOD, {"sq": "202602", "fphz": "0A", "qtxx": "x"})


class House:
    """The stand-in bureau and a component that carries to it, both in this process."""

    def __init__(self, folder: Path, **disk: object) -> None:
        offset = (IN_WINDOW - dt.datetime.now(dt.UTC)).total_seconds()
        held = component_world_disk(Kind.BAIWANG, **{"certificate_password": CERTIFICATE, **disk})
        payer = WorldTaxpayer(TAX_ID, "甲", "1", "模拟税务局", {"2026-02": "filed"})
        world = World(key=KEY.hex(), taxpayers=[payer], disks=[held])
        (folder / "disks").mkdir()
        self.bureau = Server(0, Service(world, folder / "bureau", clock_offset=offset))
        self.component = ComponentServer(
            0, ComponentRack(world, "m1", folder / "disks", clock_offset=offset)
        )
        for server in (self.bureau, self.component):
            run = {"poll_interval": 0.02}
            threading.Thread(target=server.serve_forever, kwargs=run, daemon=True).start()

    @property
    def bureau_url(self) -> str:
        return f"http://127.0.0.1:{self.bureau.server_port}/"

    def session(self, *, password: str = CERTIFICATE, url: str = "") -> BureauSession:
        client = operate_net_client(
            self.component.address, disk=DISK, certificate_password=password
        )
        self.client = client
        return BureauSession(url or self.bureau_url, DISK, timeout_seconds=10, client=client)

    def close(self) -> None:
        for server in (self.bureau, self.component):
            server.shutdown()
            server.server_close()
        self.component.rack.stop()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.client.close()
    house.close()


def failure_of(session: BureauSession) -> Failure:
    with pytest.raises(Failure) as caught:
        session.report(PACKAGE)
    return caught.value


def test_the_session_is_the_same_through_the_component(house: House) -> None:
    session = house.session()
    assert session.report(PACKAGE)["serial"]
    status = session.status(PERIOD)
    assert (status.filing, status.reported) == (Filing.FILED, False)  # two types are left


def test_the_bureaus_refusal_comes_through_as_it_is(house: House) -> None:
    wrong = ReportPackage(Unit(("099",)), PERIOD, {"sq": "x"})
    with pytest.raises(Failure) as caught:
        house.session().report(wrong)
    assert caught.value.code in (Code.BUREAU_UNREACHABLE, Code.BUREAU_REFUSED, Code.BUREAU_GARBLED)


def test_a_wrong_certificate_password_costs_one_try_per_session(house: House) -> None:
    session = house.session(password="falsch")
    first, second = failure_of(session), failure_of(session)
    assert (first.code, first.tries_left) == (Code.CERTIFICATE_PASSWORD_WRONG, 2)
    assert (second.code, second.tries_left) == (Code.CERTIFICATE_PASSWORD_WRONG, 2)
    assert not first.outcome_unknown
    assert "falsch" not in repr(vars(first))
    for _ in range(2):
        house.client.close()
        last = failure_of(house.session(password="falsch"))
    assert last.code is Code.CERTIFICATE_PASSWORD_LOCKED
    house.client.close()
    assert failure_of(house.session()).code is Code.CERTIFICATE_PASSWORD_LOCKED


def test_a_bureau_that_is_not_there_is_unreachable(house: House) -> None:
    failure = failure_of(house.session(url="http://127.0.0.1:1/"))
    assert (failure.code, failure.raw_code) == (Code.BUREAU_UNREACHABLE, "-960011101")
    assert failure.outcome_unknown  # the component cannot say how far it came
    house.client.close()
    away = failure_of(house.session(url="http://192.0.2.1/"))
    assert away.code is Code.BUREAU_UNREACHABLE


def test_a_component_that_is_not_there_is_unreachable(house: House) -> None:
    house.session()
    client = operate_net_client("http://127.0.0.1:1", disk=DISK, certificate_password="x")
    session = BureauSession(house.bureau_url, DISK, timeout_seconds=5, client=client)
    failure = failure_of(session)
    assert (failure.code, failure.outcome_unknown) == (Code.BUREAU_UNREACHABLE, False)
    client.close()


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"garbage", 200, Code.DEVICE_GARBLED),
        (b"", 500, Code.NO_ANSWER),
        (b"x" * 1_000_001, 200, Code.DEVICE_GARBLED),
        (operate_net.build_reply(NetReply("987", "?")), 200, Code.DEVICE_REFUSED),
        (operate_net.build_reply(NetReply("0", "", b"garbage")), 200, Code.BUREAU_GARBLED),
    ],
)
def test_what_a_component_answers_is_judged_and_in_doubt(
    content: bytes, status: int, code: Code
) -> None:
    inner = httpx.MockTransport(
        lambda request: httpx.Response(status, stream=httpx.ByteStream(content))
    )
    client = operate_net_client(
        "http://127.0.0.1:1", disk=DISK, certificate_password="x", inner=inner
    )
    session = BureauSession("http://127.0.0.1:2/", DISK, timeout_seconds=5, client=client)
    failure = failure_of(session)
    assert (failure.code, failure.outcome_unknown) == (code, True)
    client.close()


def test_without_a_password_or_an_address_there_is_no_client() -> None:
    for component, password, code in (
        ("http://127.0.0.1:1", "", Code.PASSWORD_MISSING),
        ("https://127.0.0.1:1", "x", Code.MACHINE_FAULT),
        ("nowhere", "x", Code.MACHINE_FAULT),
    ):
        with pytest.raises(Failure) as caught:
            operate_net_client(component, disk=DISK, certificate_password=password)
        assert caught.value.code is code


def test_a_call_reads_back_and_shows_no_secret() -> None:
    call = NetCall("661900000001", TAX_ID, CERTIFICATE, "127.0.0.1", 8001, "/p", "s", b"\x00\xff")
    assert operate_net.read_call(operate_net.build_call(call)) == call
    assert CERTIFICATE not in repr(call)
    reply = NetReply("0", "好", b"\x00\xff")
    assert operate_net.read_reply(operate_net.build_reply(reply)) == reply


@given(st.binary(max_size=300))
def test_no_bytes_make_it_crash(data: bytes) -> None:
    for read in (operate_net.read_call, operate_net.read_reply):
        with pytest.raises(Failure):
            read(b'<?xml version="1.0" encoding="gbk"?>' + data)
