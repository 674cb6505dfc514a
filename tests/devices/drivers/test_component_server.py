"""The tax-control server: it is read and judged; what it cannot do is said with the reason."""

from __future__ import annotations

import json

import pytest

from devices.drivers.component_server import ServerDisk
from devices.drivers.contract import ClearData, Identity, Unit
from devices.drivers.dates import Kind
from devices.protocol.control import open_period
from devices.protocol.failures import Code, Failure
from tests.devices.cards import PERIOD
from tests.devices.components import KINDS, NUMBERS, TAX_ID, TYPES, component_bench


def server(kind: Kind, *, confirmed: bool = True) -> tuple[ServerDisk, list[str]]:
    loop = component_bench(kind).loop
    identity = Identity(NUMBERS[kind], TAX_ID, "虚构", kind.value)
    disk = ServerDisk(
        loop,
        kind=kind,
        terminal_mark=NUMBERS[kind],
        types=TYPES[kind],
        confirmed=identity if confirmed else None,
    )
    return disk, loop.sent


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read_by_its_own_id_without_a_password(kind: Kind) -> None:
    disk, sent = server(kind)
    controls = disk.read_control()
    assert open_period(controls) == PERIOD
    assert set(controls) == set(TYPES[kind])
    assert all(control.device_clock is None for control in controls.values())
    assert set(sent) == {"10002"}
    assert json.loads(disk.export())["types"]["004"]["10002"]["fplxdm"] == "004"
    assert [unit.key for unit in disk.units(TYPES[kind])]


def test_the_identity_is_a_persons_and_says_so() -> None:
    disk, _ = server(Kind.BAIWANG)
    identity = disk.identify()
    assert identity.device_no == NUMBERS[Kind.BAIWANG]
    assert identity.raw["identified_by"] == "slot"
    nobody, sent = server(Kind.BAIWANG, confirmed=False)
    with pytest.raises(Failure) as caught:
        nobody.identify()
    assert caught.value.code is Code.NOT_SUPPORTED
    assert sent == []


def test_what_it_cannot_do_is_said_with_the_reason() -> None:
    disk, sent = server(Kind.AISINO)
    assert (disk.capabilities.report, disk.capabilities.clear) == (False, False)
    assert not disk.capabilities.identify
    unit = Unit(("004",))
    for action in (
        lambda: disk.report(unit, PERIOD),
        lambda: disk.clear_request(unit),
        lambda: disk.clear(unit, ClearData(unit, {"fpjkmw": "00"})),
        disk.pending_uploads,
    ):
        with pytest.raises(Failure) as caught:
            action()
        assert caught.value.code is Code.NOT_SUPPORTED
        assert "税控服务器" in caught.value.detail
    assert sent == []
    disk.close()
