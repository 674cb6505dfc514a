"""The database's wall alone: over every tenant table, with the application's scope switched off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, transaction
from django_scopes import scopes_disabled

from agency.scope import agency_scope
from agency.tenancy import TenantModel
from tests.matrix.conftest import World

TENANT_MODELS = [model for model in apps.get_models() if issubclass(model, TenantModel)]


@pytest.mark.parametrize("model", TENANT_MODELS, ids=lambda model: model.__name__)
def test_with_the_applications_scope_off_the_policy_alone_shows_nothing_foreign(
    model: type[TenantModel], world: World
) -> None:
    for house in (world.home, world.away):
        with agency_scope(house.agency.pk), scopes_disabled():
            seen = set(model.objects.values_list("agency_id", flat=True))
        assert seen <= {house.agency.pk}


@pytest.mark.parametrize("model", TENANT_MODELS, ids=lambda model: model.__name__)
def test_with_the_applications_scope_off_and_no_agency_set_the_database_raises(
    model: type[TenantModel], world: World
) -> None:
    """Reading, where this world has a row to judge; writing everywhere."""
    table = connection.ops.quote_name(model._meta.db_table)
    with agency_scope(world.home.agency.pk):
        has_rows = model.objects.exists()
    with scopes_disabled():
        if has_rows:
            with refused():
                model.objects.count()
        with refused(), connection.cursor() as cursor:
            cursor.execute(f"INSERT INTO {table} DEFAULT VALUES")


@contextlib.contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(DatabaseError, match="no agency scope"), transaction.atomic():
        yield
