"""Each wall alone, over every tenant table: the database's policies, the application's scope."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest
from django.apps import apps
from django.db import DatabaseError, connection, transaction
from django_scopes import scopes_disabled
from django_scopes.exceptions import ScopeError

from agency.scope import agency_scope
from agency.tenancy import TenantModel
from deploy.embedded import EmbeddedPostgres
from tests.matrix.conftest import World
from tests.matrix.rights import ROWS
from tests.matrix.test_matrix import check

TENANT_MODELS = [model for model in apps.get_models() if issubclass(model, TenantModel)]
#: Pages, forms and calls of the machine API that are asked for foreign objects by id.
FEW = (
    "act-start",
    "audit",
    "backup-download",
    "batch",
    "board-rows",
    "client-links",
    "company",
    "disk-password",
    "disk-pin",
    "home",
    "import-preview",
    "machine-claim",
    "machine-intend",
    "machine-revoke",
    "member-role",
    "unknown-disk-add",
)


@pytest.mark.parametrize("model", TENANT_MODELS, ids=lambda model: model.__name__)
def test_with_the_applications_scope_off_the_policy_alone_shows_nothing_foreign(
    model: type[TenantModel], world: World
) -> None:
    for house in (world.home, world.away):
        with agency_scope(house.agency.pk), scopes_disabled():
            seen = set(model.objects.values_list("agency_id", flat=True))
        assert seen == {house.agency.pk}


@pytest.mark.parametrize("model", TENANT_MODELS, ids=lambda model: model.__name__)
def test_with_the_applications_scope_off_and_no_agency_set_the_database_raises(
    model: type[TenantModel], world: World
) -> None:
    table = connection.ops.quote_name(model._meta.db_table)
    with scopes_disabled():
        with refused():
            model.objects.count()
        with refused(), connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} DEFAULT VALUES")


@contextlib.contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(DatabaseError, match="no agency scope"), transaction.atomic():
        yield


@pytest.fixture
def policies_off(world: World, postgres: EmbeddedPostgres) -> Iterator[None]:
    """No policy binds the application's role; its server is this process's own."""
    with psycopg.connect(postgres.superuser_url(), autocommit=True) as admin:
        try:
            admin.execute("ALTER ROLE qingka_app BYPASSRLS")
            _notice_the_role()
            yield
        finally:
            admin.execute("ALTER ROLE qingka_app NOBYPASSRLS")
            _notice_the_role()


def _notice_the_role() -> None:
    """A session learns of the change when it next takes a lock that it does not hold yet."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE agency_agency IN ROW EXCLUSIVE MODE")
            cursor.execute("LOCK TABLE django_migrations IN ACCESS SHARE MODE")
        transaction.set_rollback(True)


@pytest.mark.usefixtures("policies_off")
@pytest.mark.parametrize("model", TENANT_MODELS, ids=lambda model: model.__name__)
def test_with_the_policies_off_and_the_scope_off_everything_is_there(
    model: type[TenantModel], world: World
) -> None:
    """The control of the two tests below: they would find what a missing scope shows."""
    with agency_scope(world.home.agency.pk), scopes_disabled():
        seen = set(model.objects.values_list("agency_id", flat=True))
    assert {world.home.agency.pk, world.away.agency.pk} <= seen


@pytest.mark.usefixtures("policies_off")
@pytest.mark.parametrize("model", TENANT_MODELS, ids=lambda model: model.__name__)
def test_with_the_policies_off_the_applications_scope_alone_shows_nothing_foreign(
    model: type[TenantModel], world: World
) -> None:
    for house in (world.home, world.away):
        with agency_scope(house.agency.pk):
            seen = set(model.objects.values_list("agency_id", flat=True))
        assert seen == {house.agency.pk}
    with pytest.raises(ScopeError):
        model.objects.count()


@pytest.mark.usefixtures("policies_off")
@pytest.mark.parametrize("route", FEW)
def test_with_the_policies_off_the_pages_answer_as_the_matrix_says(
    route: str, world: World
) -> None:
    askers = [who for who in world.askers if who.name in {"owner", "assigned", "machine"}]
    wrong = [
        f"{row} {problem}"
        for row in ROWS
        if row.route == route
        for who in askers
        for problem in check(row, who, world)
    ]
    assert wrong == []
