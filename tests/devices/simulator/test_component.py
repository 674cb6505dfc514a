"""The stand-in component as a process: several disks behind one address, state that survives."""

from __future__ import annotations

import datetime as dt
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from devices.drivers.component import ComponentDisk
from devices.drivers.component_http import HttpTransport
from devices.drivers.dates import Kind
from devices.protocol import business_xml
from devices.protocol.business_xml import Operation
from devices.protocol.failures import Code, Failure
from devices.simulator import evidence
from devices.simulator.component_client import (
    ComponentControl,
    component_command,
    wait_for_address,
)
from devices.simulator.component_disk import SimulatedComponentDisk
from devices.simulator.component_faults import ComponentMode
from devices.simulator.component_state import ComponentState
from devices.simulator.store import StateStore
from devices.simulator.world import World
from tests.devices.cards import IN_WINDOW, KEY, PERIOD, world_disk
from tests.devices.components import (
    KINDS,
    NUMBERS,
    PASSWORD,
    TAX_ID,
    component_world_disk,
)


class Running:
    """One stand-in component over a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder / "disks"
        world = World(
            key=KEY.hex(),
            disks=[
                *(component_world_disk(kind, slot=f"C-{kind}") for kind in KINDS),
                component_world_disk(Kind.BAIWANG, device_no="661900000009", slot=""),
                world_disk(),  # an IC card of the same machine: not for components
            ],
        )
        world.save(folder / "world.json")
        self._command = component_command(
            folder / "world.json", "m1", self.folder, folder / "port", *options
        )
        self._port_file = folder / "port"
        self.start()

    def start(self) -> None:
        self._port_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        self.address = wait_for_address(self._port_file, self.process)
        self.control = ComponentControl(self.address)

    def disk(self, kind: Kind, device_no: str = "") -> ComponentDisk:
        return ComponentDisk(
            HttpTransport(self.address),
            kind=kind,
            device_no=device_no or NUMBERS[kind],
            tax_id=TAX_ID,
            password=lambda: PASSWORD,
        )

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(timeout=90)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    component = Running(tmp_path)
    yield component
    if component.process.poll() is None:
        component.end()


def failure_of(disk: ComponentDisk) -> Failure:
    with pytest.raises(Failure) as caught:
        disk.identify()
    return caught.value


def test_many_disks_stand_behind_one_address_and_are_told_apart(running: Running) -> None:
    for kind in KINDS:
        assert running.disk(kind).identify().device_no == NUMBERS[kind]
        assert running.disk(kind).read_control()
    slots = {entry["slot"]: entry["device_no"] for entry in running.control.slots()}
    assert slots == {f"C-{kind}": NUMBERS[kind] for kind in KINDS}
    assert evidence.devices_in(running.folder) == sorted(NUMBERS.values())


def test_a_question_without_a_number_among_several_disks_is_not_answered(
    running: Running,
) -> None:
    anyone = ComponentDisk(
        HttpTransport(running.address), kind=Kind.UKEY, device_no="", password=lambda: ""
    )
    assert failure_of(anyone).code is Code.SEVERAL_DISKS
    for kind in KINDS[1:]:
        running.control.pull(f"C-{kind}")
    assert anyone.identify().device_no == NUMBERS[KINDS[0]]


def test_a_disk_can_be_pulled_and_another_plugged_in(running: Running) -> None:
    running.control.swap(f"C-{Kind.BAIWANG}", "661900000009")
    failure = failure_of(running.disk(Kind.BAIWANG))
    assert (failure.code, failure.raw_code) == (Code.DISK_ABSENT, "4001")
    assert running.disk(Kind.BAIWANG, "661900000009").identify().device_no == "661900000009"
    running.control.pull(f"C-{Kind.AISINO}")
    assert failure_of(running.disk(Kind.AISINO)).raw_code == "163"
    with pytest.raises(ValueError, match="slot empty"):
        running.control.pull(f"C-{Kind.AISINO}")
    with pytest.raises(ValueError, match="unknown op"):
        running.control._do(op="nonsense")


def test_it_goes_on_where_it_was_killed(running: Running) -> None:
    disk = running.disk(Kind.BAIWANG)
    disk.report(disk.units(["004"])[0], PERIOD)
    running.control.pull(f"C-{Kind.UKEY}")
    running.end(signal.SIGKILL)
    running.start()
    assert NUMBERS[Kind.UKEY] not in [e["device_no"] for e in running.control.slots()]
    state = evidence.read_state(running.folder, NUMBERS[Kind.BAIWANG])
    assert (state.declares, state.clears, state.tax_id) == (1, 0, TAX_ID)
    (write,) = evidence.read_log(running.folder, NUMBERS[Kind.BAIWANG])
    assert (write.command, write.period, write.facts["types"]) == ("SJCB", "2026-02", "004")
    (same,) = evidence.read_log(running.folder, NUMBERS[Kind.BAIWANG], clock_offset=3600)
    assert write.at - same.at == dt.timedelta(hours=1)
    assert evidence.holds_pin(running.folder, NUMBERS[Kind.BAIWANG], PASSWORD.encode())
    assert running.end() == 0


def test_a_log_line_that_a_kill_kept_out_is_added(running: Running) -> None:
    number = NUMBERS[Kind.AISINO]
    running.control.fault(number, ComponentMode.DIE_BEFORE_LOG, command="SJCB")
    disk = running.disk(Kind.AISINO)
    with pytest.raises(Failure) as caught:
        disk.report(disk.units(["004", "007"])[0], PERIOD)
    assert caught.value.outcome_unknown
    running.process.wait(timeout=90)
    assert not (running.folder / f"{number}.log").exists()
    assert [write.command for write in evidence.read_log(running.folder, number)] == ["SJCB"]
    running.start()
    assert (running.folder / f"{number}.log").read_text().count("SJCB") == 1


def test_a_hang_is_longer_than_a_clients_patience(running: Running) -> None:
    number = NUMBERS[Kind.BAIWANG]
    running.control.fault(number, ComponentMode.HANG_BEFORE, command="SKSBBH", seconds=30)
    impatient = ComponentDisk(
        HttpTransport(running.address), kind=Kind.BAIWANG, device_no=number,
        password=lambda: PASSWORD, call_seconds=0.3,
    )  # fmt: skip
    failure = failure_of(impatient)
    assert (failure.code, failure.outcome_unknown) == (Code.NO_ANSWER, False)
    assert impatient.identify().device_no == number


def test_a_refusal_can_be_asked_for(running: Running) -> None:
    number = NUMBERS[Kind.BAIWANG]
    running.control.fault(
        number, ComponentMode.REFUSE, command="SKSBBH", code="3065", text="通讯失败"
    )
    assert failure_of(running.disk(Kind.BAIWANG)).raw_code == "3065"
    running.control.clear_faults(number)
    assert running.disk(Kind.BAIWANG).identify().device_no == number
    with pytest.raises(ValueError, match="nothing"):
        running.control.fault(number, ComponentMode.REFUSE, seconds="nothing")


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/SKServer/SKDo", b"garbage", 400),
        ("/SKServer/OperateNet", b"garbage", 400),
        ("/elsewhere", b"", 404),
        ("/_control", b"{}", 415),
    ],
)
def test_what_is_no_request_is_refused(
    running: Running, path: str, content: bytes, status: int
) -> None:
    response = httpx.post(running.address + path, content=content, trust_env=False)
    assert response.status_code == status


def test_the_servers_own_ids_are_answered(running: Running) -> None:
    number = NUMBERS[Kind.BAIWANG]
    transport = HttpTransport(running.address)
    for request, code in (
        (business_xml.server_control_request(number, "004"), "00000000"),
        (business_xml.server_parameters_request("127.0.0.1", 1, "x"), "4002"),
    ):
        reply = transport.operate(business_xml.build_request(request), seconds=5)
        assert business_xml.parse_answer(reply, request.operation).code == code
    transport.close()
    assert Operation.SERVER_CONTROL.id == "10002"


def test_what_cannot_be_a_world_is_said_at_the_start(tmp_path: Path) -> None:
    disks = [component_world_disk(Kind.UKEY), component_world_disk(Kind.BAIWANG)]
    World(key=KEY.hex(), disks=disks).save(tmp_path / "w.json")
    command = component_command(tmp_path / "w.json", "m1", tmp_path / "d", tmp_path / "port")
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert "slot taken" in ended.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_reads_back_and_shows_no_password(kind: Kind, tmp_path: Path) -> None:
    disk = component_world_disk(kind, certificate_password="Zertifikat")
    state = ComponentState.of_world(disk, IN_WINDOW)
    assert ComponentState.from_json(json.loads(json.dumps(state.to_json()))) == state
    assert PASSWORD not in repr(state)
    assert "Zertifikat" not in repr(state)
    store = StateStore(tmp_path, state.device_no, ComponentState.from_json)
    store.create(state)
    assert store.load() == state


@pytest.mark.parametrize(
    "changes", [{"device_no": "1"}, {"pin": ""}, {"tries": 16}, {"quirks": ["unknown"]}]
)
def test_a_disk_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    disk = component_world_disk(Kind.UKEY)
    for name, value in changes.items():
        setattr(disk, name, value)
    with pytest.raises(ValueError):
        ComponentState.of_world(disk, IN_WINDOW)


def test_a_world_with_types_reads_back(tmp_path: Path) -> None:
    world = World(key=KEY.hex(), disks=[component_world_disk(Kind.UKEY), world_disk()])
    world.save(tmp_path / "w.json")
    assert World.load(tmp_path / "w.json") == world


@pytest.mark.parametrize("kind", KINDS)
def test_a_bureau_call_through_the_component_writes_nothing_to_the_disk(kind: Kind) -> None:
    """A request's write is handed out once: the certificate's check must not find it again."""
    disk = component_world_disk(kind, certificate_password="Zertifikat")
    state = ComponentState.of_world(disk, IN_WINDOW)
    body = SimulatedComponentDisk(state, KEY, now=lambda: IN_WINDOW)
    wrong = business_xml.info_request(disk.device_no, "wrong-wrong")
    assert body.work(wrong).write is not None
    body.check_certificate("Zertifikat")
    assert body.take_write() is None
