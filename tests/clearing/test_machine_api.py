"""The machine API: permission needs the living lease, facts never do, nothing is taken on trust."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.storage import default_storage
from pytest_django import Settings

from agency import audit
from agency.choices import Action
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from clearing.models import Attempt, Backup, DiskPeriod, Evidence, Run, StageResult
from clearing.services import mark_filed, run_cancel
from clearing.services.backups import look
from devices.models import Machine, Slot, TaxDisk
from devices.services import machine_revoke
from tests.clearing.conftest import StartBatch
from tests.clearing.machine import CLEARED, PERIOD, REPORTED, TO_REPORT, PlayedMachine, control
from tests.conftest import NOW, MakeCompany, MakeDisk

Again = Callable[[Any], Any]


@pytest.fixture
def disk(make_company: MakeCompany, make_disk: MakeDisk) -> TaxDisk:
    return make_disk(make_company())


def test_a_whole_run_ends_cleared_by_us_with_backup_evidence_and_trail(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    assert machine.claim() is not None
    assert machine.clear_all(disk).json()["state"] == "done"
    with agency_scope(agency.pk):
        row = DiskPeriod.objects.get(disk=disk)
        assert (row.state, row.reported_by, row.cleared_by) == ("cleared", "us", "us")
        assert not row.confirm_owed
        assert row.statistics == {"025": {"n": 3}}
        backup = Backup.objects.get(run=run)
        assert look(backup, disk).content == b"{}"
        actions = set(AuditEntry.objects.values_list("action", flat=True))
        assert actions >= {
            Action.BATCH_STARTED,
            Action.RUN_CLAIMED,
            Action.RUN_REPORT_ALLOWED,
            Action.RUN_BACKUP_KEPT,
            Action.RUN_CLEAR_ALLOWED,
            Action.PERIOD_REPORTED,
            Action.PERIOD_CLEARED,
            Action.RUN_SETTLED,
            Action.BATCH_ENDED,
        }
        assert audit.first_bad_sequence() is None
        assert again(run).batch.ended_at is not None


def test_a_token_nobody_has_is_401_and_every_answer_tells_the_time(
    machine: PlayedMachine, disk: TaxDisk
) -> None:
    answer = machine.present(disk).json()
    assert dt.datetime.fromisoformat(answer["time"]).tzinfo is not None
    machine.token = "someone else's"
    assert machine.present(disk).status_code == 401


def test_a_revoked_machine_may_deliver_facts_but_gets_no_work(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    with agency_scope(agency.pk):
        machine_revoke(machine=machine.machine, now=dt.datetime.now(dt.UTC))
    refused = machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    assert (refused.status_code, refused.json()["reason"]) == (409, "revoked")
    assert machine.on_run("record", machine.read(REPORTED)).status_code == 200
    assert machine.present(disk).status_code == 403
    assert machine.post("claim", {"attempt": machine.attempt}).status_code == 403


def test_another_machines_run_looks_like_no_run_at_all(
    agency: Agency, other_agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    for stranger in (PlayedMachine.enrol(agency, "读盘机二"), PlayedMachine.enrol(other_agency)):
        stranger.run_id, stranger.attempt = machine.run_id, machine.attempt
        missing = stranger.on_run("record", stranger.read(REPORTED))
        stranger.run_id = 10**9
        assert missing.status_code == 404
        nowhere = stranger.on_run("record", stranger.read(REPORTED))
        assert nowhere.json()["error"] == missing.json()["error"]


def test_a_claim_repeated_with_the_same_attempt_gets_the_same_order_and_no_second_attempt(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    order = machine.claim()
    assert machine.claim(machine.attempt) == order
    assert machine.claim() is None
    with agency_scope(agency.pk):
        assert Attempt.objects.count() == 1


def test_a_claim_repeated_after_its_lease_gets_no_order(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    assert machine.claim() is not None
    with agency_scope(agency.pk):
        Run.objects.update(lease_until=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1))
    assert machine.claim(machine.attempt) is None


def test_a_disk_that_leaves_while_it_is_claimed_is_not_claimed(
    agency: Agency,
    machine: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    again: Again,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A restarted machine reports its slots anew between the two looks of one claim."""
    machine.present(disk)
    (run,) = start(disk)
    with agency_scope(agency.pk):
        Slot.objects.all().delete()
    monkeypatch.setattr(
        "clearing.services.claims.runnable_of", lambda machine, now: Run.objects.all()
    )
    assert machine.claim() is None
    assert again(run).state == "queued"


def test_an_order_holds_the_passwords_and_nothing_else_of_the_server_does(
    agency: Agency,
    machine: PlayedMachine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    start: StartBatch,
    again: Again,
) -> None:
    disk = make_disk(make_company(), device_password="MARK0001", certificate_password="MARK0002")
    machine.present(disk)
    start(disk)
    order = machine.claim()
    assert order is not None
    assert (order["device_password"], order["certificate_password"]) == ("MARK0001", "MARK0002")
    with agency_scope(agency.pk):
        entries = list(AuditEntry.objects.values_list("data", "object_name"))
    assert "MARK000" not in repr(entries)
    assert b"MARK0001" not in bytes(again(disk).device_password)


def test_no_clear_without_a_backup_made_after_the_last_read(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    assert (
        machine.intend("clear", machine.identified(disk), machine.read(REPORTED)).json()["reason"]
        == "no_backup"
    )
    assert machine.keep(b"one").status_code == 200
    assert machine.intend("clear", machine.read(REPORTED)).json()["reason"] == "no_backup"
    assert machine.keep(b"two").status_code == 200
    assert machine.intend("clear").status_code == 200


@pytest.mark.parametrize(
    "said", [{"end": "failed", "code": "backup_failed"}, {"end": "done", "code": ""}]
)
def test_a_clear_that_the_bureau_was_not_told_of_waits_for_that_whatever_the_machine_says(
    machine: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    again: Again,
    said: dict[str, str],
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.keep(b"{}", machine.identified(disk), machine.read(REPORTED))
    assert machine.intend("clear").status_code == 200
    end, code = said["end"], said["code"]
    assert machine.settle(end, machine.read(CLEARED), code=code).json()["state"] == "waiting"
    assert (again(run).reason, again(run).next_try_at is None) == ("confirm", False)


def test_a_disk_that_is_proven_cleared_is_never_written_again(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.keep(b"{}", machine.identified(disk), machine.read(CLEARED))
    for stage in ("report", "clear"):
        assert machine.intend(stage).json()["reason"] == "already_cleared"


def test_a_backup_that_is_not_what_was_sent_is_refused(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    refused = machine.keep(
        b"one", machine.identified(disk), machine.read(REPORTED), sha256="0" * 64
    )
    assert (refused.status_code, refused.json()["error"]) == (422, "backup_failed")
    with agency_scope(agency.pk):
        assert not Backup.objects.exists()


def test_a_torn_backup_file_is_written_again(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.keep(b"whole", machine.identified(disk), machine.read(REPORTED))
    with agency_scope(agency.pk):
        backup = Backup.objects.get()
    with open(default_storage.path(backup.storage_name), "wb") as file:
        file.write(b"torn")
    assert machine.keep(b"whole").status_code == 200
    with agency_scope(agency.pk):
        assert look(backup, disk).content == b"whole"


def test_permission_needs_the_right_disk_identified_under_this_claim(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    assert machine.intend("report").json()["reason"] == "wrong_disk"
    foreign = machine.intend("report", machine.identified(disk, tax_id="91420100MA0000000X"))
    assert foreign.json()["reason"] == "wrong_disk"
    training = machine.intend("report", machine.identified(disk, training=True))
    assert training.json()["reason"] == "wrong_disk"
    assert machine.intend("report", machine.identified(disk)).status_code == 200


def test_a_held_package_is_permitted_and_refused_like_a_report(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk, intent="report")
    machine.claim()
    assert machine.intend("upload").json()["reason"] == "wrong_disk"
    assert machine.intend("upload", machine.identified(disk)).status_code == 200
    assert again(run).open_intent["stage"] == "upload"
    with agency_scope(agency.pk):
        allowed = AuditEntry.objects.get(action=Action.RUN_REPORT_ALLOWED)
        assert (allowed.data["stage"], allowed.data["unit"]) == ("upload", "025")
        run_cancel(run_id=run.pk, by="郑会计", now=NOW)
    assert machine.intend("upload").json()["reason"] == "cancelled"


def test_a_machine_that_vanishes_after_the_permission_to_send_leaves_the_run_unknown(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.intend("upload", machine.identified(disk), machine.read(REPORTED), machine.packaged())
    assert machine.on_run("release").json()["state"] == "unknown"
    order = machine.claim()
    assert order is not None
    # It is sent again as it is; nothing has to be made anew.
    assert ([held["unit"] for held in order["held"]], order["report_open"]) == (["025"], None)


def test_a_read_is_never_permitted_to_write(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk, intent="read")
    machine.claim()
    assert machine.intend("report", machine.identified(disk)).status_code == 409
    assert machine.settle("done", machine.read(TO_REPORT)).json()["state"] == "done"


def test_a_cancelled_run_ends_at_its_next_request_and_keeps_the_facts(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    with agency_scope(agency.pk):
        run_cancel(run_id=run.pk, by="郑会计", now=NOW)
    answer = machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    assert answer.json()["reason"] == "cancelled"
    assert again(disk).control_read_at is not None
    assert machine.settle("cancelled").json()["state"] == "cancelled"


def test_a_lost_lease_denies_permission_but_takes_the_facts(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    _expire(agency, run)
    answer = machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    assert answer.json()["reason"] == "lease_lost"
    assert machine.on_run("renew").status_code == 409
    with agency_scope(agency.pk):
        assert DiskPeriod.objects.get(disk=disk).state == "to_report"


def test_facts_of_an_older_attempt_are_kept_and_change_nothing(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    old = (machine.attempt, machine.number)
    machine.on_run("release")
    machine.claim()
    machine.on_run("record", machine.read(CLEARED))
    machine.attempt, machine.number = old
    assert machine.on_run("record", machine.read(TO_REPORT)).status_code == 200
    assert machine.settle("failed", code="no_answer").status_code == 409
    with agency_scope(agency.pk):
        assert DiskPeriod.objects.get(disk=disk).state == "cleared"
        assert list(Evidence.objects.order_by("pk").values_list("counted", flat=True)) == [
            True,
            False,
        ]


def test_a_fact_delivered_twice_counts_once(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    stage = machine.fact("stage", stage="read", ok=True, at=NOW.isoformat(), device_ms=200)
    read = machine.read(REPORTED)
    for _ in range(2):
        assert machine.on_run("record", stage, read).json()["accepted"] == read["number"]
    with agency_scope(agency.pk):
        assert (StageResult.objects.count(), Evidence.objects.count()) == (1, 1)


def test_done_without_a_proof_on_the_disk_is_not_done(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    assert machine.settle("done", machine.read(REPORTED)).json()["state"] == "failed"
    assert again(run).code == "clear_not_seen"


def test_an_open_intent_at_the_end_is_unknown_whatever_the_machine_says(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    (run,) = start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    assert machine.settle("failed", code="no_answer").json()["state"] == "unknown"
    order = machine.claim()
    assert order is not None
    assert order["report_open"] == {"period": "2026-10", "unit": "025"}
    assert machine.clear_all(disk).json()["state"] == "done"
    assert again(run).state == "done"


def test_an_unknown_end_after_a_counted_read_is_nothing_to_doubt(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    settled = machine.settle("unknown", machine.read(REPORTED), code="no_answer")
    assert settled.json()["state"] == "queued"


def test_a_released_run_goes_back_to_the_queue_or_to_unknown(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    assert machine.on_run("release", detail="child died").json()["state"] == "queued"
    machine.claim()
    machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    assert machine.on_run("release").json()["state"] == "unknown"


def test_a_package_without_an_answer_travels_with_the_next_order(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.intend("report", machine.identified(disk), machine.read(TO_REPORT))
    machine.settle(
        "waiting",
        machine.packaged(),
        machine.read(REPORTED),
        reason="bureau",
        retry_after=0,
        code="bureau_unreachable",
    )
    machine.present(disk)
    _wake(machine)
    order = machine.claim()
    assert order is not None
    assert order["held"] == [
        {"period": "2026-10", "unit": "025", "fields": {"fphz": "00"}, "statistics": {"n": 3}}
    ]
    machine.on_run("release", machine.answered("WLCB"))
    order = machine.claim()
    assert order is not None
    assert order["held"] == []
    assert order["reported"] == [{"period": "2026-10", "unit": "025"}]


def test_a_disk_cleared_by_the_vendors_client_is_cleared_elsewhere(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    assert (
        machine.settle("done", machine.identified(disk), machine.read(CLEARED)).status_code == 200
    )
    with agency_scope(agency.pk):
        row = DiskPeriod.objects.get(disk=disk)
        assert (row.state, row.reported_by, row.cleared_by) == ("cleared", "elsewhere", "elsewhere")


def test_an_unconfirmed_clear_is_owed_and_travels_with_the_next_order(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.keep(b"{}", machine.identified(disk), machine.read(REPORTED))
    machine.intend("clear")
    settled = machine.settle(
        "waiting",
        machine.read(CLEARED),
        reason="confirm",
        retry_after=0,
        code="bureau_unreachable",
    )
    assert settled.json()["state"] == "waiting"
    _wake(machine)
    order = machine.claim()
    assert order is not None
    assert order["confirm_owed"] == [{"period": "2026-10", "unit": "025"}]


def test_a_clear_that_was_permitted_and_not_read_back_travels_with_the_next_order(
    machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    """Killed right after the write: the next run finds the disk cleared and tells the bureau."""
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.keep(b"{}", machine.identified(disk), machine.read(REPORTED))
    machine.intend("clear")
    machine.on_run("release")
    order = machine.claim()
    assert order is not None
    assert order["confirm_owed"] == [{"period": "2026-10", "unit": "025"}]


def test_an_outcome_told_twice_does_not_undo_what_happened_since(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    """The answer was lost and the machine asks again, after somebody marked the return as filed."""
    machine.present(disk)
    start(disk)
    machine.claim()
    facts = (machine.identified(disk), machine.read(REPORTED))
    told = {"reason": "filing", "retry_after": 7200, "code": "not_filed"}
    assert machine.settle("waiting", *facts, **told).json()["state"] == "waiting"
    with agency_scope(agency.pk):
        mark_filed(company_ids=[disk.company_id], period="2026-10", by="吴主管", now=NOW)
    assert machine.settle("waiting", *facts, **told).json()["state"] == "queued"


def test_a_cleared_row_is_never_turned_back(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    machine.on_run("record", machine.read(CLEARED), machine.read(TO_REPORT))
    with agency_scope(agency.pk):
        assert DiskPeriod.objects.get(disk=disk).state == "cleared"


def test_a_disk_that_is_behind_gets_a_row_for_its_oldest_period(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    behind = control(reported=PERIOD.plus(-2), cleared=PERIOD.plus(-2))
    machine.on_run("record", machine.read(behind))
    with agency_scope(agency.pk):
        rows = DiskPeriod.objects.filter(disk=disk).order_by("period")
        assert [(row.period, row.state) for row in rows] == [
            ("2026-09", "to_report"),
            ("2026-10", "to_report"),
        ]


def test_a_disk_seen_on_two_machines_is_given_to_neither(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    second = PlayedMachine.enrol(agency, "读盘机二")
    machine.present(disk)
    start(disk)
    second.present(disk)
    assert machine.claim() is None
    assert second.claim() is None
    second.present()
    assert machine.claim() is not None


def test_a_disk_without_a_number_is_bound_when_its_tax_id_leaves_no_choice(
    agency: Agency,
    machine: PlayedMachine,
    make_company: MakeCompany,
    make_disk: MakeDisk,
    again: Again,
) -> None:
    unbound = make_disk(make_company(), device_no=None)
    seen = make_disk(make_company(), device_no=None)
    seen.device_no, seen.company = "6619AAAA00000001", unbound.company
    machine.present(seen)
    assert again(unbound).device_no == "6619AAAA00000001"
    with agency_scope(agency.pk):
        assert AuditEntry.objects.filter(action=Action.DISK_BOUND).count() == 1


def test_an_old_presence_report_makes_nothing_runnable(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    with agency_scope(agency.pk):
        Slot.objects.update(seen_at=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=46))
    assert machine.claim() is None


class TestPin:
    """The rolling PIN at the server: intents, generations, doubt."""

    def test_the_pin_rolls_with_a_grant_and_an_older_one_never_replaces_a_newer(
        self,
        agency: Agency,
        machine: PlayedMachine,
        disk: TaxDisk,
        start: StartBatch,
        again: Again,
    ) -> None:
        machine.present(disk)
        start(disk)
        order = machine.claim()
        assert order is not None
        first = order["pin_generation"]
        machine.intend("report", machine.identified(disk), rolls_pin=True)
        assert again(disk).pin_intent_machine_id == machine.machine.pk
        machine.on_run("record", machine.fact("pin", generation=first + 1, pin=b"ABCDEFGH".hex()))
        machine.on_run("record", machine.fact("pin", generation=first, pin=b"OLDOLDOL".hex()))
        fresh = again(disk)
        assert (fresh.pin_generation, fresh.pin_intent_machine_id) == (first + 1, None)
        machine.on_run("release", machine.read(TO_REPORT))
        order = machine.claim()
        assert order is not None
        assert order["device_password"] == "ABCDEFGH"

    def test_while_an_intent_is_open_no_other_machine_gets_the_run(
        self, agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
    ) -> None:
        second = PlayedMachine.enrol(agency, "读盘机二")
        machine.present(disk)
        start(disk)
        machine.claim()
        machine.intend("report", machine.identified(disk), rolls_pin=True)
        machine.on_run("release")
        machine.present()
        second.present(disk)
        assert second.claim() is None
        second.present()
        machine.present(disk)
        assert machine.claim() is not None

    def test_a_window_found_open_leaves_the_pin_in_doubt_for_a_person(
        self,
        agency: Agency,
        machine: PlayedMachine,
        disk: TaxDisk,
        start: StartBatch,
        again: Again,
    ) -> None:
        machine.present(disk)
        start(disk)
        order = machine.claim()
        assert order is not None
        machine.intend("report", machine.identified(disk), rolls_pin=True)
        machine.on_run(
            "release", machine.fact("pin", generation=order["pin_generation"], unknown=True)
        )
        assert again(disk).password_state == "pin_unknown"
        order = machine.claim()
        assert order is not None
        assert (order["device_password"], order["password_code"]) == ("", "pin_unknown")

    def test_a_refused_password_is_remembered_and_not_sent_again(
        self,
        agency: Agency,
        machine: PlayedMachine,
        disk: TaxDisk,
        start: StartBatch,
        again: Again,
    ) -> None:
        machine.present(disk)
        start(disk)
        machine.claim()
        machine.settle(
            "failed",
            machine.fact("password", code="password_wrong", tries_left=2),
            code="password_wrong",
        )
        assert (again(disk).password_state, again(disk).tries_left) == ("wrong", 2)
        start(disk)
        order = machine.claim()
        assert order is not None
        assert (order["device_password"], order["password_usable"]) == ("", False)


@pytest.mark.parametrize(
    "body",
    [
        {"number": 1, "kind": "control", "data": {"types": {"025": {}}, "read_at": "x"}},
        {"number": 1, "kind": "control", "data": {}},
        {"number": 1, "kind": "stage", "data": {"stage": "dance"}},
        {"number": 1, "kind": "bureau", "data": {"period": "2026-13", "unit": "025"}},
        {"number": 1, "kind": "pin", "data": {"generation": "x"}},
        {"number": 0, "kind": "stage", "data": {}},
        {"number": 1, "kind": "nonsense", "data": {}},
    ],
)
def test_a_fact_of_another_shape_is_refused_and_nothing_is_taken(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, body: dict[str, Any]
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    assert machine.on_run("record", body).status_code in {400, 422}
    with agency_scope(agency.pk):
        assert not Evidence.objects.exists()
        assert not StageResult.objects.exists()


def test_an_older_api_is_told_to_update(machine: PlayedMachine) -> None:
    answer = machine.post("presence", {"version": "t", "api": -1, "slots": []})
    assert (answer.status_code, answer.json()["error"]) == (426, "api_too_old")


def test_a_machine_is_known_by_name_in_the_trail(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch
) -> None:
    machine.present(disk)
    start(disk)
    machine.claim()
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action=Action.RUN_CLAIMED)
        assert (entry.actor_kind, entry.actor_name) == ("machine", "读盘机一")
        assert Machine.objects.get().seen_at is not None


def _expire(agency: Agency, run: Run) -> None:
    with agency_scope(agency.pk):
        Run.objects.filter(pk=run.pk).update(
            lease_until=dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        )


def _wake(machine: PlayedMachine) -> None:
    """Let the waits that are over end, as the sweeper does."""
    from clearing.services.sweep import sweep

    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    with agency_scope(machine.machine.agency_id):
        Run.objects.filter(next_try_at__isnull=False).update(next_try_at=moment)
        sweep(now=NOW, real_now=moment, leases=False)


def test_a_roll_that_was_permitted_and_never_begun_leaves_the_pin_as_good_as_it_was(
    agency: Agency, machine: PlayedMachine, disk: TaxDisk, start: StartBatch, again: Again
) -> None:
    machine.present(disk)
    start(disk)
    order = machine.claim()
    assert order is not None
    generation = order["pin_generation"]
    machine.intend("report", machine.identified(disk), rolls_pin=True)
    machine.on_run("release", machine.fact("pin", generation=generation, refused=True, sent=False))
    assert (again(disk).password_state, again(disk).pin_intent_machine_id) == ("untried", None)
    order = machine.claim()
    assert order is not None
    assert order["device_password"] == "12345678"


def test_an_order_says_by_how_much_its_limits_are_scaled_and_whether_it_is_simulated(
    agency: Agency,
    machine: PlayedMachine,
    disk: TaxDisk,
    start: StartBatch,
    settings: Settings,
) -> None:
    """A machine refuses the one without the other."""
    settings.LIMITS_SCALE = 0.1
    machine.present(disk)
    start(disk)
    order = machine.claim()
    assert order is not None
    assert order["time_factor"] == 0.1
    assert order["limits"]["call"] == pytest.approx(6.0)
    assert order["simulated"] is True
