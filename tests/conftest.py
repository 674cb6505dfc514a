"""What every test may use: a private PostgreSQL and Valkey, an agency of its own, its people.

Each pytest process (each xdist worker) starts its own servers. A test's data belong to an agency
made for it. By default a test runs in a transaction that is rolled back; a test marked
``committed`` uses real transactions and leaves its agency behind, which nobody else looks at.
"""

from __future__ import annotations

import datetime as dt
import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from allauth.mfa.totp.internal.auth import TOTP
from django.conf import settings
from django.core.management import call_command
from django.db import connections
from django.http import HttpRequest
from django.test import Client
from pytest_django.plugin import DjangoDbBlocker
from stdnum.cn import uscc

from agency.access import Viewer
from agency.choices import Role
from agency.models import Agency, Bureau, Company, Membership, User
from agency.scope import agency_scope
from agency.services import agency_create, company_assign, member_add
from agency.sessions import SessionStore, cookie_of, session_key_of
from deploy.embedded import EmbeddedPostgres, EmbeddedValkey, socket_folder
from deploy.roles import create_database, create_roles
from devices.choices import DiskKind
from devices.models import TaxDisk
from devices.services import disk_create

PASSWORD = "correct horse 7"
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
NOW = dt.datetime(2026, 11, 9, 10, 12, tzinfo=dt.timezone(dt.timedelta(hours=8)))
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Person:
    """A signed-up person of an agency."""

    user: User
    member: Membership
    viewer: Viewer


@dataclass(frozen=True)
class Operator:
    """The platform's operator: staff without an agency, with a second factor."""

    user: User

    def visit(self, client: Client, agency: Agency, *, reason: str = "客户来电求助") -> Any:
        """Open a support session in that browser, by the form."""
        asked = {"reason": reason, "minutes": "60"}
        return client.post(f"/operator/agencies/{agency.pk}/open", asked)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "committed: real transactions; nothing is rolled back")
    # A busy machine is no finding.
    hypothesis.settings.register_profile(
        "qingka", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("qingka")


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A private broker; its address is in the settings and in the environment of children."""
    folder = tmp_path_factory.mktemp("valkey")
    with EmbeddedValkey(folder, socket_folder(folder) / "v", durable=False) as server:
        os.environ["QINGKA_REDIS_URL"] = settings.REDIS_URL = server.url
        yield server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    folder = tmp_path_factory.mktemp("postgres")
    with EmbeddedPostgres(folder, socket_folder(folder), durable=False) as server:
        with psycopg.connect(server.superuser_url(), autocommit=True) as conn:
            create_roles(conn)
            create_database(conn, "qingka")
        yield server


@pytest.fixture(scope="session")
def django_db_setup(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """Migrate as the owner, work as the application; in place of pytest-django's own set-up."""
    for alias, role in (("default", "qingka_app"), ("owner", "qingka_owner")):
        url = postgres.url(role, "qingka")
        os.environ[f"QINGKA_{'OWNER_' if alias == 'owner' else ''}DATABASE_URL"] = url
        parts = dict(psycopg.conninfo.conninfo_to_dict(url))
        connections[alias].settings_dict.update(
            NAME=parts["dbname"], USER=parts["user"], HOST=parts["host"]
        )
    with django_db_blocker.unblock():
        call_command("migrate", database="owner", verbosity=0)
        connections["owner"].close()
    yield
    with django_db_blocker.unblock():
        connections.close_all()


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Iterator[None]:
    """The database: rolled back after the test, or with real transactions (marker committed)."""
    if request.node.get_closest_marker("committed") is None:
        request.getfixturevalue("db")
        yield
        return
    request.getfixturevalue("django_db_setup")
    with request.getfixturevalue("django_db_blocker").unblock():
        yield
        connections.close_all()


@pytest.fixture(autouse=True)
def _broker_in_settings() -> None:
    """The broker's address again: a test that changed settings before the broker was started takes
    it away with them when it ends."""
    settings.REDIS_URL = os.environ["QINGKA_REDIS_URL"]


@pytest.fixture(autouse=True)
def _storage(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = Path(os.environ["QINGKA_STORAGE_DIR"])
    folder.mkdir(parents=True, exist_ok=True)


@pytest.fixture
def agency(database: None) -> Agency:
    """The test's own agency, without people or companies."""
    return agency_create(name=f"练习代账 {next(_numbers)}", practice=True)


@pytest.fixture
def other_agency(database: None) -> Agency:
    """An agency that has nothing to do with the first."""
    return agency_create(name=f"另一家代账 {next(_numbers)}", practice=True)


def add_person(agency: Agency, role: Role, name: str) -> Person:
    username = f"{role}-{uuid.uuid4().hex[:8]}"
    with agency_scope(agency.pk):
        member = member_add(
            agency=agency, username=username, password=PASSWORD, name=name, role=role
        )
    viewer = Viewer(member.user_id, agency.pk, member.pk, role, name)
    return Person(member.user, member, viewer)


@pytest.fixture
def owner(agency: Agency) -> Person:
    return add_person(agency, Role.OWNER, "周负责")


@pytest.fixture
def supervisor(agency: Agency) -> Person:
    return add_person(agency, Role.SUPERVISOR, "吴主管")


@pytest.fixture
def bookkeeper(agency: Agency) -> Person:
    return add_person(agency, Role.BOOKKEEPER, "郑会计")


@pytest.fixture
def front_desk(agency: Agency) -> Person:
    return add_person(agency, Role.FRONT_DESK, "王前台")


@pytest.fixture
def client_person(agency: Agency) -> Person:
    return add_person(agency, Role.CLIENT, "李客户")


@pytest.fixture
def outsider(other_agency: Agency) -> Person:
    """The owner of the other agency: all rights, but not here."""
    return add_person(other_agency, Role.OWNER, "外人")


def sign_cookies() -> None:
    """Django's test browser puts a session's key into the cookie as it is; ours is signed there."""
    name = settings.SESSION_COOKIE_NAME

    def session(browser: Client) -> SessionStore:
        cookie = browser.cookies.get(name)
        found = SessionStore(session_key_of(cookie.value if cookie is not None else None))
        if found.session_key is None:
            found.save()
            browser.cookies[name] = cookie_of(str(found.session_key))
        return found

    def set_login_cookies(browser: Client, request: HttpRequest) -> None:
        browser.cookies[name] = cookie_of(str(request.session.session_key))

    Client.session = property(session)  # type: ignore[assignment,method-assign]
    Client._set_login_cookies = set_login_cookies  # type: ignore[attr-defined]


sign_cookies()


def add_operator() -> Operator:
    name = f"operator-{uuid.uuid4().hex[:8]}"
    user = User.objects.create_superuser(name, password=PASSWORD)
    TOTP.activate(user, TOTP_SECRET)
    return Operator(user)


@pytest.fixture
def operator(database: None) -> Operator:
    return add_operator()


def signed_in(person: Person | Operator) -> Client:
    """A browser in which the person has just given their password; the operator a code, too."""
    client = Client()
    client.force_login(person.user)
    session = client.session
    # An hour ahead: on a busy machine a long test would outlive the proof.
    methods = ("password", "mfa") if isinstance(person, Operator) else ("password",)
    proven = [{"method": method, "at": time.time() + 3600} for method in methods]
    session["account_authentication_methods"] = proven
    session["account_authentication_methods_user"] = str(person.user.pk)
    session["seen"], session["since"] = time.time() + 3600, time.time()
    session.save()
    return client


@pytest.fixture
def login() -> Callable[[Person], Client]:
    return signed_in


def fictional_tax_id() -> str:
    """A valid, plainly made-up unified social credit code, new at each call."""
    body = f"91420100MA{next(_numbers):07d}"
    return body + str(uscc.calc_check_digit(body))


def bureau() -> Bureau:
    """A tax bureau of Wuhan; without an address until a test gives it one."""
    row, _ = Bureau.objects.get_or_create(
        code="14201000000", defaults={"name": "国家税务总局武汉市税务局(模拟)", "simulated": True}
    )
    return row


MakeCompany = Callable[..., Company]
MakeDisk = Callable[..., TaxDisk]


@pytest.fixture
def make_company(agency: Agency) -> MakeCompany:
    """``make_company(assigned_to=person, **fields)``: a client company of the test's agency."""

    def make(
        *, assigned_to: Person | None = None, of: Agency | None = None, **fields: Any
    ) -> Company:
        home = of or agency
        number = next(_numbers)
        values: dict[str, Any] = {
            "short_name": f"虚构{number}",
            "name": f"武汉虚构{number}有限公司",
            "tax_id": fictional_tax_id(),
            "bureau": bureau(),
            **fields,
        }
        with agency_scope(home.pk):
            company = Company.objects.create(agency=home, **values)
            if assigned_to is not None:
                company_assign(companies=[company], member=assigned_to.member)
        return company

    return make


@pytest.fixture
def make_disk() -> MakeDisk:
    """``make_disk(company, **fields)``: an IC card with PIN 12345678 unless told otherwise."""

    def make(company: Company, **fields: Any) -> TaxDisk:
        values: dict[str, Any] = {
            "kind": DiskKind.IC_CARD,
            "device_no": f"66190000{next(_numbers):08d}",
            "device_password": "12345678",
            "now": NOW,
            **fields,
        }
        with agency_scope(company.agency_id):
            return disk_create(company=company, **values)

    return make
