"""What makes a table a tenant's table: the model base and the migration step that builds the wall.

Every tenant table carries ``agency_id``; a foreign key from one tenant table to another is
composite ``(agency_id, x_id) → (agency_id, id)`` in the database, because foreign keys do not see
row-level policies. Django's own single-column constraint is therefore switched off
(:class:`TenantForeignKey`) and :class:`SecureTenantTables` adds the composite one, the forced
policy and the key. ``tests/completeness`` introspects that no tenant table was forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django_scopes import ScopedManager

CURRENT_AGENCY_SQL = """
CREATE FUNCTION current_agency() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE value text := current_setting('qingka.agency', true);
BEGIN
  IF value IS NULL OR value = '' THEN
    -- An unset agency must never look like an empty table.
    RAISE EXCEPTION 'no agency scope is active' USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN value::bigint;
END $$;
REVOKE ALL ON FUNCTION current_agency() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION current_agency() TO qingka_app;
"""


# What the reading role sees: the tenants' tables, by the policy that binds the application too, and
# the names that stand beside them. No account, no session, no second factor.
READER_SQL = """
GRANT EXECUTE ON FUNCTION current_agency() TO qingka_reader;
GRANT SELECT ON agency_agency, agency_bureau, django_content_type TO qingka_reader;
DO $$
DECLARE walled text;
BEGIN
  FOR walled IN
    SELECT tablename FROM pg_policies WHERE schemaname = 'public' AND policyname = 'tenant'
  LOOP
    EXECUTE format('ALTER POLICY tenant ON %I TO qingka_app, qingka_reader', walled);
    EXECUTE format('GRANT SELECT ON %I TO qingka_reader', walled);
  END LOOP;
END $$;
"""


def lookup_function(signature: str, body: str) -> str:
    """SQL for a SECURITY DEFINER function of the role ``qingka_lookup``, for the application only.

    ``body``: the statement ``CREATE FUNCTION …``. Handing a function over needs CREATE on the
    schema for its new owner at that moment: lent and taken back in the migration's transaction."""
    return f"""
{body.strip()}
REVOKE ALL ON FUNCTION {signature} FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {signature} TO qingka_app;
GRANT CREATE ON SCHEMA public TO qingka_lookup;
ALTER FUNCTION {signature} OWNER TO qingka_lookup;
REVOKE CREATE ON SCHEMA public FROM qingka_lookup;
"""


class TenantForeignKey(models.ForeignKey[Any, Any]):
    """A foreign key to another tenant table; the database constraint is the composite one."""

    def __init__(self, to: Any, on_delete: Any, **kwargs: Any) -> None:
        kwargs["db_constraint"] = False
        super().__init__(to, on_delete, **kwargs)


_Model = TypeVar("_Model", bound=models.Model)

if TYPE_CHECKING:

    class TenantManager(models.Manager[_Model]):
        """The manager of tenant tables: raises ScopeError without a scope."""

else:

    class TenantManager(type(ScopedManager(agency="agency"))):
        """The manager of tenant tables: raises ScopeError without a scope."""


class TenantModel(models.Model):
    """Base of every table that belongs to one agency; its manager raises without a scope."""

    agency = models.ForeignKey("agency.Agency", on_delete=models.PROTECT, related_name="+")

    objects = TenantManager()

    class Meta:
        abstract = True


class SecureTenantTables(Operation):
    """Row-level security for tenant tables, and their composite keys.

    ``lookup`` names those that the owner of the definer look-ups may read (who am I, who is due).
    Several at once, because two tables may point at each other.
    """

    reversible = True

    def __init__(self, model_names: Sequence[str], *, lookup: Sequence[str] = ()) -> None:
        self.model_names = list(model_names)
        self.lookup = list(lookup)

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """The state of the models is not touched."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        models_ = [to_state.apps.get_model(app_label, name) for name in self.model_names]
        run = schema_editor.execute
        for model in models_:
            table = model._meta.db_table
            run(f"ALTER TABLE {table} ADD CONSTRAINT {table}_key UNIQUE (agency_id, id)")
        for model in models_:
            self._composite_keys(run, model)
        for name, model in zip(self.model_names, models_, strict=True):
            self._policies(run, model._meta.db_table, lookup=name in self.lookup)

    @staticmethod
    def _composite_keys(run: Callable[[str], None], model: type[models.Model]) -> None:
        table = model._meta.db_table
        for field in model._meta.local_fields:
            if isinstance(field, TenantForeignKey):
                parent = field.related_model._meta.db_table
                run(
                    f"ALTER TABLE {table} ADD CONSTRAINT {table}_{field.column}_tenant"
                    f" FOREIGN KEY (agency_id, {field.column}) REFERENCES {parent} (agency_id, id)"
                )

    @staticmethod
    def _policies(run: Callable[[str], None], table: str, *, lookup: bool) -> None:
        run(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        run(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        # The sub-select is evaluated once per statement, not once per row.
        run(
            f"CREATE POLICY tenant ON {table} TO qingka_app, qingka_reader"
            " USING (agency_id = (SELECT current_agency()))"
            " WITH CHECK (agency_id = (SELECT current_agency()))"
        )
        run(f"GRANT SELECT ON {table} TO qingka_reader")
        if lookup:
            run(f"CREATE POLICY lookup ON {table} FOR SELECT TO qingka_lookup USING (true)")
            run(f"GRANT SELECT ON {table} TO qingka_lookup")

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Dropping the tables drops policies and keys with them."""

    def describe(self) -> str:
        return f"Secure tenant tables {', '.join(self.model_names)}"

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return (type(self).__name__, [self.model_names], {"lookup": self.lookup})
