"""What a thief reaches with a machine's token, with a broker account, with a copy of the database.

Each test says in its first lines what the thief does get; the rest is what they do not.
"""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from allauth.mfa.totp.internal import auth
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test import Client

from agency.models import ClientLink, Invitation
from agency.scope import agency_scope
from agency.sessions import SessionStore
from clearing.bell import BELL_QUEUE, send_bells
from clearing.models import Evidence
from deploy.embedded import EmbeddedValkey
from devices.broker import grant_account, prefix_of
from devices.models import Machine, TaxDisk
from devices.services import disk_password_enter
from tests.conftest import NOW, PASSWORD
from tests.matrix.asking import Asker, Target
from tests.matrix.conftest import World
from tests.matrix.rights import ROWS, Row
from tests.matrix.test_matrix import asked
from tests.matrix.world import House
from tests.reliability.leaks import Searcher, Secret

MACHINE_API = [row for row in ROWS if row.route.startswith("machine-") and row.for_machines]
#: What no number of a factory contains.
DEVICE, CERTIFICATE = "Kq7xVm2Z", "Hs6pLd3Y"


@contextmanager
def undone() -> Iterator[None]:
    """The world is for all tests of this folder."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def with_passwords(house: House, disk_id: int) -> TaxDisk:
    with agency_scope(house.agency.pk):
        disk = TaxDisk.objects.select_related("company").get(pk=disk_id)
        disk_password_enter(
            disk=disk, device_password=DEVICE, certificate_password=CERTIFICATE, now=NOW
        )
    return disk


# -- a machine's token ---------------------------------------------------------------------------


def thief_with_the_token_of(house: House, name: str) -> Asker:
    """Not the machine: somebody elsewhere, with nothing but its token."""
    return Asker(name, house, Client(), house.machines[name].token)


def test_there_is_a_machine_api_to_try() -> None:
    assert {row.route for row in MACHINE_API} >= {"machine-presence", "machine-claim"}
    assert len(MACHINE_API) >= 8


@pytest.mark.parametrize("row", MACHINE_API, ids=str)
def test_a_stolen_token_gets_nothing_of_another_machine_or_agency(row: Row, world: World) -> None:
    """The thief reaches presence and claims as that machine, and the facts of its own runs. Runs of
    its neighbour and of the other agency are not there, even for who knows their numbers and the
    keys of their attempts."""
    thief = thief_with_the_token_of(world.home, "other_machine")
    for house in (world.home, world.away):
        answer = asked(row, thief, Target(house))
        if row.of == "run":
            assert answer.word == "404"
        told = [*world.home.secrets, *world.away.marks()]
        assert [mark for mark in told if mark in answer.body] == []


def test_a_stolen_token_has_no_page_of_people(world: World) -> None:
    """The thief reaches what is open to everybody, as without the token."""
    thief = thief_with_the_token_of(world.home, "other_machine")
    for row in ROWS:
        if row.method == "GET" and row.right not in {"everybody", "join by a link"}:
            assert asked(row, thief, Target(world.home)).word in {"login", "405"}, row.route


def test_a_stolen_token_gets_no_password_of_a_disk_in_another_machine(world: World) -> None:
    """The thief reaches nothing by the key of the neighbour's claim, and nothing by saying that
    the neighbour's disk is in the own slot."""
    home = world.home
    thief, neighbour = home.machines["other_machine"], home.machines["machine"]
    with undone():
        disk = with_passwords(home, home.ids["disk"])
        mine = neighbour.post("claim", {"attempt": neighbour.attempt})
        assert DEVICE in mine.content.decode()
        for _ in range(2):
            for attempt in (neighbour.attempt, str(uuid.uuid4())):
                answer = thief.post("claim", {"attempt": attempt})
                assert answer.json()["order"] is None
            thief.present(disk)


def test_a_stolen_token_gets_the_password_of_a_disk_that_waits_and_that_no_machine_has(
    world: World,
) -> None:
    """The thief reaches this: whoever knows the number and tax id of a disk of the same agency for
    which a run waits, and says that it is plugged in, is given its order, and the trail says which
    machine that was. No longer once another machine has the disk, and never in another agency."""
    home = world.home
    with undone():
        disk = with_passwords(home, home.ids["waiting_disk"])
        stranger = world.away.machines["other_machine"]
        stranger.present(disk)
        assert stranger.post("claim", {"attempt": str(uuid.uuid4())}).json()["order"] is None
        with undone():
            thief = home.machines["other_machine"]
            thief.present(disk)
            answer = thief.post("claim", {"attempt": str(uuid.uuid4())}).json()
            assert answer["order"]["device_password"] == DEVICE
        home.machines["machine"].present(disk)
        thief.present(disk)
        assert thief.post("claim", {"attempt": str(uuid.uuid4())}).json()["order"] is None


def test_a_stolen_token_says_nothing_more_once_it_is_revoked(world: World) -> None:
    """The thief reaches: facts of the machine's own runs are still taken for thirty days; they are
    evidence, and permit nothing."""
    thief = thief_with_the_token_of(world.home, "revoked_machine")
    words = {row.route: asked(row, thief, Target(world.home)).word for row in MACHINE_API}
    refused = {"machine-presence", "machine-claim", "machine-renew"}
    assert {words[route] for route in refused} == {"403"}
    assert words["machine-intend"] == "409"


# -- a broker account ----------------------------------------------------------------------------


def test_a_stolen_broker_account_takes_its_own_bells_and_nothing_else(
    world: World, valkey: EmbeddedValkey
) -> None:
    """The thief reaches: the machine's own bells, which say that there is work and not which; it
    can take them or ring itself, and the machine hears of its work by presence instead."""
    first, second = (world.home.machines[name].machine for name in ("machine", "other_machine"))
    url, _other = grant_account(first), grant_account(second)
    for machine in (first, second):
        send_bells(machine.broker_account, 1)
    user, _, password = url.partition("//")[2].partition("@")[0].partition(":")
    with redis.Redis.from_url(valkey.url, username=user, password=password) as thief:
        taken = thief.brpop([prefix_of(first.broker_account) + BELL_QUEUE], timeout=60)
        assert taken is not None
        message = json.loads(taken[1])
        assert message["headers"]["task"] == "qingka.bell"
        assert message["headers"]["argsrepr"] == "()"
        told = json.dumps(message, ensure_ascii=False)
        assert [mark for mark in world.home.marks() if mark in told] == []
        for key in (
            prefix_of(second.broker_account) + BELL_QUEUE,
            settings.SERVER_KEY_PREFIX + "celery",
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                thief.brpop([key], timeout=1)
            with pytest.raises(redis.exceptions.NoPermissionError):
                thief.lpush(key, b"{}")


# -- a copy of the database ----------------------------------------------------------------------


def copy_of(house: House) -> dict[str, bytes]:
    """Every row of every table, as text, as whoever reads the tables sees it."""
    found = {}
    with agency_scope(house.agency.pk), connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            table = connection.ops.quote_name(model._meta.db_table)
            cursor.execute(f"SELECT t::text FROM {table} t")  # noqa: S608
            found[model._meta.db_table] = "\n".join(row[0] for row in cursor.fetchall()).encode()
    return found


def secrets_of(house: House) -> dict[str, Secret]:
    """Puts one of each kind into the house, and says what they are."""
    with_passwords(house, house.ids["disk"])
    cookie = house.clients["owner"].cookies[settings.SESSION_COOKIE_NAME].value
    house.clients["supervisor"].get("/account/second-factor")
    setting_up = house.clients["supervisor"].session[auth.SECRET_SESSION_KEY]
    auth.TOTP.activate(house.people["owner"].user, second := auth.generate_totp_secret())
    return {
        "device password": DEVICE,
        "certificate password": CERTIFICATE,
        "login password": PASSWORD,
        "token of a machine": house.machines["machine"].token,
        "enrolment code": house.codes["code"],
        "invitation": house.codes["invitation"],
        "client link": house.codes["client-enter"],
        "cookie of a session": cookie,
        "second factor": second,
        "second factor that is being set up": setting_up,
        "report package": '"fphz"',
    }


def test_a_copy_of_the_database_holds_no_secret_that_could_be_used(world: World) -> None:
    """The thief reaches names, numbers, states, the trail and who was signed in from where; no
    password, token, link, cookie or second factor, in whatever form, in whatever table."""
    with undone():
        house, player = world.home, world.home.machines["machine"]
        secrets = secrets_of(house)
        player.number = 50
        assert player.on_run("record", player.packaged()).status_code == 200
        with agency_scope(house.agency.pk):
            assert Evidence.objects.filter(sealed__isnull=False).exists()
        searcher, tables = Searcher(secrets), copy_of(house)
        assert {name: each for name, rows in tables.items() if (each := searcher.found(rows))} == {}
        control = Searcher({"mark": house.mark, "stored": player.machine.broker_account})
        assert control.found(tables["devices_machine"]) == ["mark", "stored"]


def test_what_a_copy_of_the_database_holds_signs_nobody_in(world: World) -> None:
    """The thief reaches the keys of sessions and the hashes of tokens, links and invitations; none
    of them opens what the thing itself opens. What a session held does not open elsewhere."""
    house = world.home
    with undone():
        house.clients["owner"].get("/account")
        keys = set(Session.objects.values_list("session_key", flat=True))
        keys |= set(UserSession.objects.values_list("session_key", flat=True))
        assert keys
        assert house.clients["owner"].get("/account").status_code == 200
        for key in keys:
            thief = Client()
            thief.cookies[settings.SESSION_COOKIE_NAME] = key
            assert thief.get("/account").headers["Location"].startswith("/login")
        row = Session.objects.get(session_key=house.clients["owner"].session.session_key)
        moved = SessionStore("another-session-of-mine")
        assert moved.decode(row.session_data) == {}
        with agency_scope(house.agency.pk):
            tokens = list(Machine.objects.values_list("token_hash", flat=True))
            links = [
                *Invitation.objects.values_list("token_hash", flat=True),
                *ClientLink.objects.values_list("token_hash", flat=True),
            ]
        for spelled in spellings(tokens):
            headers = {"Authorization": f"Machine {spelled}"}
            body = {"attempt": str(uuid.uuid4())}
            answer = Client().post("/machine/v1/claim", body, "application/json", headers=headers)
            assert answer.status_code == 401
        for spelled in spellings(links):
            for path in (f"/c/{spelled}", f"/join/{spelled}"):
                assert Client().get(path).status_code == 404


def spellings(hashes: list[Any]) -> Iterator[str]:
    """A hash as somebody might send it in place of what it was made of."""
    for each in hashes:
        yield bytes(each).hex()
        yield base64.urlsafe_b64encode(bytes(each)).decode().rstrip("=")


def test_login_passwords_are_kept_by_a_slow_hash() -> None:
    """The tests' own settings have a fast one; the product's are Django's."""
    import deploy.settings

    assert not hasattr(deploy.settings, "PASSWORD_HASHERS")
