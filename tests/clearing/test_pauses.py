"""The breaker of a bureau: opened by several clients in a row, one probe, one notice."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from agency.access import agencies_pausing, due_agencies
from agency.choices import Action, Role
from agency.errors import ServiceError
from agency.models import Agency, AuditEntry, Bureau, Company
from agency.scope import agency_scope
from agency.services import agency_create
from clearing.models import BureauOutage, BureauPause, Run
from clearing.services import bureau_pause, bureau_resume, run_cancel
from clearing.services.sweep import sweep
from clearing.stops import PauseCause
from devices.models import TaxDisk
from devices.protocol.catalogue.retries import BUREAU_DOWN_LIMIT
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import REPORTED, TO_REPORT, PlayedMachine
from tests.conftest import NOW, MakeCompany, MakeDisk, Person, add_person

Fresh = Callable[..., TaxDisk]

pytestmark = pytest.mark.usefixtures("unhurried")


@pytest.fixture
def address(database: None) -> Iterator[str]:
    """A bureau address of this test alone."""
    row = Bureau.objects.create(
        code=f"{Bureau.objects.count():011d}",
        name=f"某局 {Bureau.objects.count()}",
        address=f"http://bureau-{Bureau.objects.count()}.test/",
        simulated=True,
    )
    yield row.address
    BureauOutage.objects.filter(address=row.address).delete()


@pytest.fixture
def fresh(address: str, make_company: MakeCompany, make_disk: MakeDisk) -> Fresh:
    """``fresh()``: a disk of a new company at that bureau."""

    def make(of: Agency | None = None) -> TaxDisk:
        return make_disk(make_company(of=of, bureau=Bureau.objects.get(address=address)))

    return make


def later(seconds: float = 0.0) -> dt.datetime:
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


def swept(agency: Agency, seconds: float = 0.0) -> None:
    with agency_scope(agency.pk):
        sweep(now=NOW, real_now=later(seconds), leases=False)


def called(
    machine: PlayedMachine, code: str = "", stage: str = "filing", *, asked: bool = True
) -> dict[str, Any]:
    told = {"at": NOW.isoformat(), "period": "2026-10", "asked": asked}
    return machine.fact("stage", stage=stage, ok=not code, code=code, **told)


def down(machine: PlayedMachine, code: str = "bureau_unreachable") -> None:
    """The claimed run finds the bureau down and ends."""
    machine.settle("waiting", called(machine, code), reason="bureau", code=code, retry_after=60.0)


def pause_of(agency: Agency, address: str) -> BureauPause:
    with agency_scope(agency.pk):
        return BureauPause.objects.select_related("probe_run").get(address=address)


def states(agency: Agency) -> list[tuple[str, str]]:
    with agency_scope(agency.pk):
        return list(Run.objects.order_by("pk").values_list("state", "reason"))


def entries(agency: Agency, action: Action) -> int:
    with agency_scope(agency.pk):
        return AuditEntry.objects.filter(action=action).count()


@pytest.fixture
def paused(
    agency: Agency, machine: PlayedMachine, fresh: Fresh, start: StartBatch
) -> list[TaxDisk]:
    """Seven clients at one bureau, five of which found it down."""
    disks = [fresh() for _ in range(BUREAU_DOWN_LIMIT + 2)]
    machine.present(*disks)
    start(*disks)
    for _ in range(BUREAU_DOWN_LIMIT):
        assert machine.claim() is not None
        down(machine)
    return disks


def due(agency: Agency, address: str) -> None:
    with agency_scope(agency.pk):
        BureauPause.objects.filter(address=address).update(next_probe_at=later(-1))
    BureauOutage.objects.filter(address=address).update(next_probe_at=later(-1))


def test_different_clients_in_a_row_pause_the_bureau_with_one_notice(
    agency: Agency, machine: PlayedMachine, address: str, paused: list[TaxDisk]
) -> None:
    row = pause_of(agency, address)
    assert row.opened_at is not None
    assert row.cause == PauseCause.OWN
    assert machine.claim() is None
    swept(agency)
    assert states(agency) == [("waiting", "bureau")] * len(paused)
    with agency_scope(agency.pk):
        assert set(Run.objects.values_list("next_try_at", flat=True)) == {row.next_probe_at}
    swept(agency, 5)
    assert entries(agency, Action.BUREAU_PAUSED) == 1


@pytest.mark.parametrize("code", ["not_filed", "bureau_refused", "outside_window", ""])
def test_an_answer_of_the_bureau_breaks_the_row_of_failures(
    agency: Agency,
    machine: PlayedMachine,
    address: str,
    fresh: Fresh,
    start: StartBatch,
    code: str,
) -> None:
    disks = [fresh() for _ in range(BUREAU_DOWN_LIMIT + 1)]
    machine.present(*disks)
    start(*disks)
    for number in range(BUREAU_DOWN_LIMIT + 1):
        machine.claim()
        if number == 2:
            machine.settle("failed", called(machine, code), code="not_reported")
        else:
            down(machine)
    row = pause_of(agency, address)
    assert (row.opened_at, row.failures) == (None, BUREAU_DOWN_LIMIT - 2)


#: What a disk or a component says in a stage of the bureau, and whether the bureau was asked: a
#: component that carries the call to the bureau fails while it is.
_NOT_THE_BUREAU = [
    ("no_answer", False),
    ("disk_absent", False),
    ("past_deadline", False),  # a disk knows its deadline too
    ("no_answer", True),
    ("device_garbled", True),
    ("certificate_password_wrong", True),
    ("device_refused", True),
]


@pytest.mark.parametrize(("code", "asked"), _NOT_THE_BUREAU)
def test_a_fault_of_a_disk_or_a_component_breaks_no_row_of_failures(
    agency: Agency,
    machine: PlayedMachine,
    address: str,
    fresh: Fresh,
    start: StartBatch,
    code: str,
    asked: bool,
) -> None:
    disks = [fresh() for _ in range(BUREAU_DOWN_LIMIT + 1)]
    machine.present(*disks)
    start(*disks)
    for number in range(BUREAU_DOWN_LIMIT + 1):
        machine.claim()
        if number == 2:
            machine.settle("failed", called(machine, code, "fetch", asked=asked), code=code)
        else:
            down(machine)
    assert pause_of(agency, address).opened_at is not None


@pytest.mark.parametrize(("code", "asked"), _NOT_THE_BUREAU)
def test_a_probe_without_a_word_of_the_bureau_ends_no_pause_and_makes_room_for_another(
    agency: Agency,
    machine: PlayedMachine,
    address: str,
    paused: list[TaxDisk],
    code: str,
    asked: bool,
) -> None:
    BureauOutage.objects.create(address=address, opened_at=later())
    swept(agency)
    due(agency, address)
    swept(agency)
    first = pause_of(agency, address).probe_run
    assert first is not None
    assert machine.claim() is not None
    machine.settle("failed", called(machine, code, "fetch", asked=asked), code=code)
    row = pause_of(agency, address)
    assert (row.opened_at is not None, row.probes) == (True, 0)
    assert BureauOutage.objects.get(address=address).opened_at is not None
    assert entries(agency, Action.BUREAU_RESUMED) == 0
    swept(agency)
    second = pause_of(agency, address).probe_run
    assert second is not None
    assert second.pk != first.pk
    assert states(agency).count(("queued", "")) == 1


def test_one_clients_trouble_alone_never_pauses_the_others(
    agency: Agency, machine: PlayedMachine, address: str, fresh: Fresh, start: StartBatch
) -> None:
    disk = fresh()
    machine.present(disk)
    start(disk)
    for _ in range(BUREAU_DOWN_LIMIT + 1):
        assert machine.claim() is not None
        down(machine)
        with agency_scope(agency.pk):
            Run.objects.update(next_try_at=later(-1))
        swept(agency)
    row = pause_of(agency, address)
    assert (row.opened_at, row.failures) == (None, 1)


def test_exactly_one_run_probes_when_the_pause_is_due_and_failing_lengthens_it(
    agency: Agency, machine: PlayedMachine, address: str, paused: list[TaxDisk]
) -> None:
    swept(agency)
    due(agency, address)
    swept(agency)
    swept(agency, 1)
    assert states(agency).count(("queued", "")) == 1
    assert machine.claim() is not None
    assert PlayedMachine(machine.machine, machine.token).claim() is None
    down(machine)
    row = pause_of(agency, address)
    assert row.probes == 1
    assert row.opened_at is not None
    swept(agency)
    assert states(agency) == [("waiting", "bureau")] * len(paused)
    assert entries(agency, Action.BUREAU_PAUSED) == 1
    with agency_scope(agency.pk):  # a probe that fails is not the run's own trouble
        assert max(Run.objects.values_list("retries", flat=True)) == 1


def test_a_probe_that_is_answered_lets_everybody_go_on(
    agency: Agency, machine: PlayedMachine, address: str, paused: list[TaxDisk]
) -> None:
    swept(agency)
    due(agency, address)
    swept(agency)
    assert machine.claim() is not None
    machine.on_run("record", called(machine, "not_filed"))
    assert pause_of(agency, address).opened_at is None
    assert entries(agency, Action.BUREAU_RESUMED) == 1
    swept(agency)
    assert states(agency).count(("queued", "")) == len(paused) - 1


def test_a_probe_whose_disk_is_pulled_is_replaced_by_another(
    agency: Agency, machine: PlayedMachine, address: str, paused: list[TaxDisk]
) -> None:
    swept(agency)
    due(agency, address)
    swept(agency)
    first = pause_of(agency, address).probe_run
    assert first is not None
    machine.present(*[disk for disk in paused if disk.pk != first.disk_id])
    swept(agency)
    swept(agency)
    second = pause_of(agency, address).probe_run
    assert second is not None
    assert second.pk != first.pk
    assert states(agency).count(("queued", "")) == 1


def test_a_pause_for_which_nobody_is_left_to_ask_ends_by_itself(
    agency: Agency, machine: PlayedMachine, address: str, paused: list[TaxDisk], start: StartBatch
) -> None:
    swept(agency)
    with agency_scope(agency.pk):
        for run in Run.objects.all():
            run_cancel(run_id=run.pk, by="郑会计", now=NOW)
    assert agency.pk in due_agencies("sweep")  # though it has no work
    swept(agency)
    assert pause_of(agency, address).opened_at is not None  # it is not time to ask yet
    due(agency, address)
    swept(agency)
    assert pause_of(agency, address).opened_at is None
    with agency_scope(agency.pk):
        (entry,) = AuditEntry.objects.filter(action=Action.BUREAU_RESUMED)
    assert entry.data["idle"] is True
    swept(agency)
    assert agency.pk not in due_agencies("sweep")
    start(paused[0])
    assert machine.claim() is not None


def test_a_pause_by_hand_is_nobody_s_to_end_and_wakes_no_sweeper(
    agency: Agency, address: str
) -> None:
    with agency_scope(agency.pk):
        bureau_pause(address=address, note="维护", by="吴主管", now=later())
    assert agency.pk not in due_agencies("sweep")
    swept(agency, 10_000)
    assert pause_of(agency, address).opened_at is not None


def test_a_pause_whose_disks_are_all_away_says_that_it_waits_for_one(
    agency: Agency,
    machine: PlayedMachine,
    address: str,
    paused: list[TaxDisk],
    login: Callable[[Person], Client],
) -> None:
    client = login(add_person(agency, Role.SUPERVISOR, "吴主管"))
    pages = ("/", "/failures", "/bureaus")

    def said() -> list[bool]:
        return ["插上一只待办的" in client.get(page).content.decode() for page in pages]

    swept(agency)
    machine.present()
    assert said() == [False, False, False]  # it is not time to ask yet
    due(agency, address)
    swept(agency)
    assert said() == [True, True, True]
    assert pause_of(agency, address).opened_at is not None
    machine.present(paused[-1])
    swept(agency)
    assert said() == [False, False, False]
    assert machine.claim() is not None


def test_a_paused_bureau_permits_nothing_but_to_its_probe(
    agency: Agency, machine: PlayedMachine, address: str, fresh: Fresh, start: StartBatch
) -> None:
    disk = fresh()
    machine.present(disk)
    start(disk)
    machine.claim()
    with agency_scope(agency.pk):
        bureau_pause(address=address, note="税局通知维护", by="吴主管", now=later())
    denied = machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    assert denied.status_code == 409
    assert denied.json()["reason"] == "bureau_paused"
    machine.settle("waiting", reason="bureau", code="bureau_unreachable", retry_after=60.0)
    assert states(agency) == [("waiting", "bureau")]
    swept(agency, 10_000)  # by hand: nothing probes it
    assert states(agency) == [("waiting", "bureau")]
    with agency_scope(agency.pk):
        bureau_resume(address=address, note="已恢复", by="吴主管", now=later())
    swept(agency)
    assert states(agency) == [("queued", "")]


def test_a_pause_keeps_no_read_back_and_a_doubt_is_read_all_the_same(
    agency: Agency, machine: PlayedMachine, address: str, fresh: Fresh, start: StartBatch
) -> None:
    doubtful, reading = fresh(), fresh()
    machine.present(doubtful, reading)
    start(doubtful)
    machine.claim()
    machine.intend("report", machine.identified(doubtful), machine.read(TO_REPORT))
    machine.on_run("release")
    start(reading, intent="read")
    with agency_scope(agency.pk):
        bureau_pause(address=address, note="维护", by="吴主管", now=later())
    swept(agency)
    orders = [machine.claim(), machine.claim()]
    assert [order["intent"] for order in orders if order] == ["read", "read"]
    with agency_scope(agency.pk):
        run = Run.objects.select_related("attempt").get(disk=doubtful)
    assert run.attempt is not None
    machine.run_id, machine.attempt = run.pk, str(run.attempt.key)
    machine.settle("done", machine.read(REPORTED))
    swept(agency)
    assert states(agency)[0] == ("waiting", "bureau")


def test_pausing_by_hand_wants_a_reason_and_a_bureau(agency: Agency, address: str) -> None:
    with agency_scope(agency.pk):
        for where, note in ((address, " "), ("http://nowhere.test/", "x")):
            with pytest.raises(ServiceError):
                bureau_pause(address=where, note=note, by="吴主管", now=later())
        with pytest.raises(ServiceError):
            bureau_resume(address=address, note="x", by="吴主管", now=later())


# -- several agencies ---------------------------------------------------------------------------


@pytest.fixture
def four(address: str, make_company: MakeCompany, make_disk: MakeDisk) -> list[PlayedMachine]:
    """Four agencies with clients at one bureau, each with a machine that sees their disks."""
    machines = []
    for number in range(4):
        home = agency_create(name=f"某代账{number}", practice=True)
        machine = PlayedMachine.enrol(home)
        bureau = Bureau.objects.get(address=address)
        disks = [
            make_disk(make_company(of=home, bureau=bureau)) for _ in range(BUREAU_DOWN_LIMIT + 1)
        ]
        machine.present(*disks)
        _click(home, disks)
        machines.append(machine)
    return machines


def _click(home: Agency, disks: list[TaxDisk]) -> None:
    from clearing.services import batch_start

    with agency_scope(home.pk):
        batch_start(
            disk_ids=[disk.pk for disk in disks],
            intent="report_and_clear",
            key=f"{home.pk}",
            started_by="会计",
            now=NOW,
        )


def test_what_three_agencies_see_is_paused_for_all_and_one_probe_frees_all(
    four: list[PlayedMachine], address: str
) -> None:
    homes = [machine.machine.agency for machine in four]
    for machine, home in list(zip(four, homes, strict=True))[:3]:
        assert not BureauOutage.objects.filter(address=address).exists()
        for _ in range(BUREAU_DOWN_LIMIT):
            machine.claim()
            down(machine)
        swept(home)
    assert agencies_pausing(address, later(-1000)) == 3
    assert BureauOutage.objects.get(address=address).opened_at is not None
    assert four[3].claim() is None  # though it has seen nothing itself
    for home in homes:
        swept(home)
        swept(home)
        assert entries(home, Action.BUREAU_PAUSED) == 1
    for home in homes:
        due(home, address)
    for home in homes:
        swept(home)
    probing = [home for home in homes if ("queued", "") in states(home)]
    assert len(probing) == 1
    machine = four[homes.index(probing[0])]
    assert machine.claim() is not None
    machine.on_run("record", called(machine))
    for home in homes:
        swept(home)
        swept(home)
        assert pause_of(home, address).opened_at is None
        assert entries(home, Action.BUREAU_RESUMED) == 1
        assert ("waiting", "bureau") not in states(home)
    assert BureauOutage.objects.get(address=address).opened_at is None


# -- two at once --------------------------------------------------------------------------------


def _at_once(count: int, work: Callable[[int], None]) -> list[BaseException]:
    """``work`` in threads with connections of their own, all at the same moment."""
    barrier, failed = threading.Barrier(count), []

    def one(number: int) -> None:
        try:
            barrier.wait(60)
            work(number)
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return failed


@pytest.mark.committed
def test_two_sweepers_at_once_choose_one_probe_and_write_everything_once(
    agency: Agency, machine: PlayedMachine, address: str, paused: list[TaxDisk]
) -> None:
    swept(agency)
    due(agency, address)
    assert _at_once(4, lambda _number: swept(agency)) == []
    # One that found all runs in the others' hands lets none through; the next round does.
    assert states(agency).count(("queued", "")) <= 1
    swept(agency)
    assert states(agency).count(("queued", "")) == 1
    assert entries(agency, Action.BUREAU_PAUSED) == 1


@pytest.mark.committed
def test_claims_at_once_never_exceed_the_calls_one_bureau_may_have(
    agency: Agency, machine: PlayedMachine, fresh: Fresh, start: StartBatch
) -> None:
    disks = [fresh() for _ in range(12)]
    machine.present(*disks)
    start(*disks)
    machines = [PlayedMachine(machine.machine, machine.token) for _ in range(12)]
    orders: list[Any] = []
    assert _at_once(12, lambda number: orders.append(machines[number].claim())) == []
    assert sum(order is not None for order in orders) == 8
    assert states(agency).count(("claimed", "")) == 8


# -- pages --------------------------------------------------------------------------------------


def test_the_board_shows_one_banner_and_a_supervisor_ends_the_pause(
    agency: Agency,
    machine: PlayedMachine,
    address: str,
    paused: list[TaxDisk],
    login: Callable[[Person], Client],
) -> None:
    client = login(add_person(agency, Role.SUPERVISOR, "吴主管"))
    for page in ("/", "/failures"):
        assert client.get(page).content.decode().count("起暂停：") == 1
    assert address in client.get("/bureaus").content.decode()
    client.post("/bureaus", {"address": address, "note": "", "action": "resume"})
    assert pause_of(agency, address).opened_at is not None
    client.post("/bureaus", {"address": address, "note": "电话确认已恢复", "action": "resume"})
    assert pause_of(agency, address).opened_at is None
    client.post("/bureaus", {"address": address, "note": "维护", "action": "pause"})
    assert pause_of(agency, address).cause == PauseCause.BY_HAND
    assert "由主管恢复" in client.get("/").content.decode()


def test_who_may_not_pause_is_told_who_may(
    agency: Agency, supervisor: Person, bookkeeper: Person, login: Callable[[Person], Client]
) -> None:
    assert login(bookkeeper).get("/bureaus").status_code == 403
    assert login(supervisor).get("/bureaus").status_code == 200


def test_a_pause_elsewhere_is_no_banner_of_mine(
    agency: Agency, address: str, paused: list[TaxDisk], bookkeeper: Person, login: Any
) -> None:
    with agency_scope(agency.pk):
        assert Company.objects.filter(assignments__membership=bookkeeper.member).count() == 0
    assert "起暂停：" not in login(bookkeeper).get("/").content.decode()
