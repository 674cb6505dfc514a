"""A code becomes a machine's credentials, once; rolling and revoking end them at once."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.db import OperationalError, connections
from django.test import Client

from agency import throttle
from agency.choices import Action
from agency.clock import real_now
from agency.errors import ServiceError
from agency.models import Agency, AuditEntry
from agency.scope import agency_scope
from deploy.embedded import EmbeddedValkey
from devices import broker
from devices.models import EnrolmentCode, Machine
from devices.services import (
    CodeCreated,
    broker_grant,
    enrolment_code_create,
    machine_create,
    machine_enrol,
    machine_revoke,
    machine_roll,
)
from devices.services.accounts import agencies_with_old_accounts
from devices.services.machines import CODE_ALPHABET, CODE_LIFE
from devices.tasks import drop_accounts
from tests.conftest import Person

PATH = "/machine/v1/enrol"


@pytest.fixture(autouse=True)
def _fresh_counts(valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        for key in client.keys(f"{settings.SERVER_KEY_PREFIX}throttle:*"):
            client.delete(key)


def make_code(agency: Agency, name: str = "前台", **fields: Any) -> CodeCreated:
    with agency_scope(agency.pk):
        return enrolment_code_create(
            agency=agency, name=name, by="吴主管", **{"now": real_now(), **fields}
        )


def enrol(code: str, client: Client | None = None, **fields: Any) -> Any:
    body = {"code": code, "name": "pc-07", "version": "1.2", "api": 1, **fields}
    return (client or Client()).post(PATH, body, content_type="application/json")


def call(token: str) -> int:
    answer = Client().post(
        "/machine/v1/presence",
        {"version": "1", "api": 1, "slots": []},
        content_type="application/json",
        headers={"Authorization": f"Machine {token}"},
    )
    return int(answer.status_code)


def broker_client(url: str, valkey: EmbeddedValkey) -> redis.Redis:
    user, _, password = url.partition("//")[2].partition("@")[0].partition(":")
    return redis.Redis.from_url(valkey.url, username=user, password=password)


def test_a_code_becomes_credentials_that_work(agency: Agency, valkey: EmbeddedValkey) -> None:
    code = make_code(agency, parallel=3).code

    answer = enrol(code)

    assert answer.status_code == 200, answer.content
    said = answer.json()
    assert {name: said[name] for name in ("agency", "machine", "parallel", "api")} == {
        "agency": agency.name,
        "machine": "前台",
        "parallel": 3,
        "api": 1,
    }
    assert dt.datetime.fromisoformat(said["time"]).tzinfo is not None
    assert answer["Cache-Control"] == "no-store"
    assert call(said["token"]) == 200
    assert broker_client(said["broker"], valkey).llen(said["prefix"] + "bell") == 0


def test_a_code_is_long_easy_to_read_and_kept_as_a_hash(agency: Agency) -> None:
    made = make_code(agency)

    letters = made.code.replace("-", "")
    assert len(CODE_ALPHABET) ** len(letters) > 2**60
    assert not set(letters) & set("01258BILOSUVZ")
    with agency_scope(agency.pk):
        row = EnrolmentCode.objects.get()
        assert bytes(row.code_hash) == hashlib.sha256(letters.encode()).digest()
        assert letters not in repr(list(AuditEntry.objects.values()))
    assert made.code not in repr(made)


@pytest.mark.parametrize("typed", ["{}", " {} ", "{lower}", "{plain}", "{spaced}"])
def test_a_code_may_be_typed_as_people_type(agency: Agency, typed: str) -> None:
    code = make_code(agency).code
    plain = code.replace("-", "")
    text = typed.format(code, lower=code.lower(), plain=plain, spaced=code.replace("-", " "))
    assert enrol(text).status_code == 200


def test_wrong_used_expired_and_void_codes_look_the_same(
    agency: Agency, other_agency: Agency
) -> None:
    used = make_code(agency, "一").code
    assert enrol(used).status_code == 200
    over = make_code(agency, "二", now=real_now() - CODE_LIFE).code
    with agency_scope(agency.pk):
        machine = Machine.objects.get(name="一")
        void = machine_roll(machine=machine, by="x", now=real_now()).code
        machine_revoke(machine=machine, now=real_now())

    answers = [enrol(code) for code in ("3467-9ACD-EFGH-JKMN", "x", used, over, void)]

    assert {answer.status_code for answer in answers} == {404}
    bodies = [{**answer.json(), "time": ""} for answer in answers]
    assert all(body == {"api": 1, "time": "", "error": "not_found"} for body in bodies)


@pytest.mark.committed
def test_of_many_machines_with_one_code_one_is_enrolled(agency: Agency) -> None:
    code, barrier, answers = make_code(agency).code, threading.Barrier(6), []

    def try_it() -> None:
        barrier.wait()
        answers.append(enrol(code).status_code)
        connections.close_all()

    threads = [threading.Thread(target=try_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [200, 404, 404, 404, 404, 404]
    with agency_scope(agency.pk):
        assert Machine.objects.count() == 1
        assert AuditEntry.objects.filter(action=Action.MACHINE_ENROLLED).count() == 1


@pytest.mark.committed
def test_two_codes_of_one_name_make_one_machine_and_the_other_stays_good(agency: Agency) -> None:
    codes = [make_code(agency).code for _ in range(2)]
    barrier, answers = threading.Barrier(2), []

    def try_it(code: str) -> None:
        barrier.wait()
        answers.append(enrol(code).status_code)
        connections.close_all()

    threads = [threading.Thread(target=try_it, args=(code,)) for code in codes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == [200, 409]
    with agency_scope(agency.pk):
        machine_revoke(machine=Machine.objects.get(), now=real_now())
        assert EnrolmentCode.objects.filter(used_at__isnull=True).count() == 1
    assert sorted(enrol(code).status_code for code in codes) == [200, 404]


def test_enrolling_stands_in_the_trail_with_who_made_the_code(agency: Agency) -> None:
    enrol(make_code(agency).code)
    with agency_scope(agency.pk):
        entry = AuditEntry.objects.get(action=Action.MACHINE_ENROLLED)
    assert (entry.actor_kind, entry.actor_name) == ("machine", "前台")
    assert entry.data == {"host": "pc-07", "version": "1.2", "code_by": "吴主管"}


def test_a_code_belongs_to_its_agency_whoever_is_signed_in(
    agency: Agency, other_agency: Agency, outsider: Person
) -> None:
    client = Client()
    client.force_login(outsider.user)
    assert enrol(make_code(agency).code, client).json()["agency"] == agency.name
    with agency_scope(other_agency.pk):
        assert not Machine.objects.exists()
        assert not AuditEntry.objects.filter(action=Action.MACHINE_ENROLLED).exists()


def test_https_only_and_an_absent_broker_give_none(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    wished = enrol(make_code(agency, "外网", https_only=True).code).json()
    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nowhere/at/all")
    away = enrol(make_code(agency, "断线").code).json()

    for said in (wished, away):
        assert (said["broker"], said["prefix"]) == ("none", "")
        assert call(said["token"]) == 200
    with agency_scope(agency.pk):  # no bell is rung for either
        assert set(Machine.objects.values_list("broker_account", flat=True)) == {""}


def test_machines_are_given_the_brokers_address_as_they_see_it(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "MACHINE_BROKER_URL", "rediss://broker.example:6380/0")
    assert enrol(make_code(agency).code).json()["broker"].endswith("@broker.example:6380/0")


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"api": 9}, 426), ({"version": ""}, 400), ({"code": ""}, 400), ({"name": "x" * 61}, 400)],
)
def test_an_odd_request_uses_nothing_up(
    agency: Agency, fields: dict[str, Any], status: int
) -> None:
    code = make_code(agency).code
    assert enrol(**{"code": code, **fields}).status_code == status
    assert enrol(code).status_code == 200


def test_guessing_is_bounded_per_address_and_altogether(
    agency: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    def guess(address: str) -> int:
        return int(enrol("3467-9ACD-EFGH-JKMN", Client(REMOTE_ADDR=address)).status_code)

    assert [guess("203.0.113.1") for _ in range(21)] == [404] * 20 + [429]
    assert guess("203.0.113.2") == 404
    code = make_code(agency).code
    assert enrol(code, Client(REMOTE_ADDR="203.0.113.1")).status_code == 429
    monkeypatch.setattr(throttle, "ENROL_ALTOGETHER", throttle.Limit("enrol_all", 1, 600))
    assert guess("203.0.113.3") == 429


def test_a_taken_or_empty_name_gets_no_code(agency: Agency) -> None:
    with agency_scope(agency.pk):
        machine_create(agency=agency, name="前台")
    with pytest.raises(ServiceError, match="已有名为“前台”的读盘机"):
        make_code(agency)
    with pytest.raises(ServiceError, match="请填写"):
        make_code(agency, "  ")
    with pytest.raises(ServiceError, match="同时办理数"):
        make_code(agency, "别的", parallel=0)


@pytest.mark.committed
def test_a_rolled_machine_stops_at_once_and_goes_on_with_its_new_credentials(
    agency: Agency, valkey: EmbeddedValkey
) -> None:
    old = enrol(make_code(agency).code).json()
    with agency_scope(agency.pk):
        machine = Machine.objects.get()
        code = machine_roll(machine=machine, by="吴主管", now=real_now()).code

    assert call(old["token"]) == 401
    with pytest.raises(redis.exceptions.AuthenticationError):
        broker_client(old["broker"], valkey).ping()
    new = enrol(code).json()

    assert new["machine"] == old["machine"]
    assert call(new["token"]) == 200
    assert call(old["token"]) == 401
    assert broker_client(new["broker"], valkey).ping()
    with pytest.raises(redis.exceptions.AuthenticationError):
        broker_client(old["broker"], valkey).ping()
    with agency_scope(agency.pk):
        assert Machine.objects.get().pk == machine.pk


@pytest.mark.committed
def test_a_revoked_machine_loses_its_broker_account_and_its_name_is_free(
    agency: Agency, valkey: EmbeddedValkey
) -> None:
    old = enrol(make_code(agency).code).json()
    with agency_scope(agency.pk):
        machine = Machine.objects.get()
        machine_revoke(machine=machine, now=real_now())
        machine.refresh_from_db()
        with pytest.raises(ServiceError, match="已停用"):
            machine_roll(machine=machine, by="x", now=real_now())

    assert call(old["token"]) == 403
    with pytest.raises(redis.exceptions.AuthenticationError):
        broker_client(old["broker"], valkey).ping()
    assert enrol(make_code(agency).code).status_code == 200


def accounts_of(agency: Agency, valkey: EmbeddedValkey) -> set[str]:
    """The agency's accounts that the broker has."""
    with redis.Redis.from_url(valkey.url) as client:
        names = {name.decode() if isinstance(name, bytes) else name for name in client.acl_users()}
    return {name for name in names if name.startswith(f"m{agency.pk}-")}


@pytest.mark.committed
@pytest.mark.parametrize("end", ["revoke", "roll"])
def test_credentials_that_ended_before_the_broker_was_asked_get_no_account(
    agency: Agency, valkey: EmbeddedValkey, end: str
) -> None:
    code = make_code(agency)
    with agency_scope(agency.pk):
        enrolled = machine_enrol(code_id=code.row.pk, host="pc", version="1", now=real_now())
    with agency_scope(agency.pk):
        machine = Machine.objects.get()
        if end == "roll":
            machine_roll(machine=machine, by="吴主管", now=real_now())
        else:
            machine_revoke(machine=machine, now=real_now())

    with agency_scope(agency.pk):
        assert broker_grant(enrolled.machine) == ""

    assert accounts_of(agency, valkey) == set()


@pytest.mark.committed
def test_nobody_ends_credentials_while_their_account_is_being_made(
    agency: Agency, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever revokes meanwhile waits, and then removes the account."""
    held: list[bool] = []
    grant = broker.grant_account

    def look() -> None:
        try:
            with agency_scope(agency.pk):
                Machine.objects.select_for_update(nowait=True).get()
            held.append(False)
        except OperationalError:
            held.append(True)
        finally:
            connections.close_all()

    def granting(machine: Machine) -> str:
        url = grant(machine)
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        return url

    monkeypatch.setattr(broker, "grant_account", granting)
    assert enrol(make_code(agency).code).status_code == 200
    assert held == [True]
    assert len(accounts_of(agency, valkey)) == 1


@pytest.mark.committed
def test_a_revoke_that_knew_the_machine_from_before_removes_the_account_of_now(
    agency: Agency, valkey: EmbeddedValkey
) -> None:
    enrol(make_code(agency).code)
    with agency_scope(agency.pk):
        known = Machine.objects.get()
        code = machine_roll(machine=known, by="吴主管", now=real_now()).code
    enrol(code)
    assert len(accounts_of(agency, valkey)) == 1

    with agency_scope(agency.pk):
        machine_revoke(machine=known, now=real_now())

    assert accounts_of(agency, valkey) == set()


@pytest.mark.committed
def test_an_account_whose_making_got_no_answer_goes_too(
    agency: Agency, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = broker.grant_account

    def unanswered(machine: Machine) -> str:
        grant(machine)
        raise redis.TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(broker, "grant_account", unanswered)
        assert enrol(make_code(agency).code).json()["broker"] == "none"

    assert accounts_of(agency, valkey) == set()


@pytest.mark.committed
@pytest.mark.parametrize("end", ["revoke", "roll"])
def test_an_account_that_outlives_its_machine_because_the_broker_is_away_goes_when_it_is_back(
    agency: Agency,
    valkey: EmbeddedValkey,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    end: str,
) -> None:
    old = enrol(make_code(agency).code).json()
    with monkeypatch.context() as away:
        away.setattr(settings, "REDIS_URL", f"unix://{tmp_path}/nobody")
        with agency_scope(agency.pk):
            machine = Machine.objects.get()
            if end == "roll":
                machine_roll(machine=machine, by="吴主管", now=real_now())
            else:
                machine_revoke(machine=machine, now=real_now())
        drop_accounts()
        assert agency.pk in agencies_with_old_accounts()
    assert broker_client(old["broker"], valkey).ping()

    drop_accounts()

    with pytest.raises(redis.exceptions.AuthenticationError):
        broker_client(old["broker"], valkey).ping()
    assert agency.pk not in agencies_with_old_accounts()
