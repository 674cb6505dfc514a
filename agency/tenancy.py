"""What makes a table a tenant's table: the model base and the migration step that builds the wall.

Every tenant table carries ``agency_id``; a foreign key from one tenant table to another is composite
``(agency_id, x_id) → (agency_id, id)`` in the database, because foreign keys do not see row-level
policies. Django's own single-column constraint is therefore switched off
(:class:`TenantForeignKey`) and :class:`SecureTenantTable` adds the composite one, the forced
policy and the key. ``tests/completeness`` introspects that no tenant table was forgotten.
"""

from __future__ import annotations

from typing import Any

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


class TenantForeignKey(models.ForeignKey[Any, Any]):
    """A foreign key to another tenant table; the database constraint is the composite one."""

    def __init__(self, to: Any, on_delete: Any, **kwargs: Any) -> None:
        kwargs["db_constraint"] = False
        super().__init__(to, on_delete, **kwargs)


class TenantModel(models.Model):
    """Base of every table that belongs to one agency; its manager raises without a scope."""

    agency = models.ForeignKey("agency.Agency", on_delete=models.PROTECT, related_name="+")

    objects = ScopedManager(agency="agency")

    class Meta:
        abstract = True


class SecureTenantTable(Operation):
    """Row-level security for one tenant table, and its composite keys.

    ``lookup``: the owner of the definer look-ups may read it (who am I, who is due).
    """

    reversible = True

    def __init__(self, model_name: str, *, lookup: bool = False) -> None:
        self.model_name = model_name
        self.lookup = lookup

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """The state of the models is not touched."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        table = model._meta.db_table
        run = schema_editor.execute
        run(f"ALTER TABLE {table} ADD CONSTRAINT {table}_key UNIQUE (agency_id, id)")
        for field in model._meta.local_fields:
            if isinstance(field, TenantForeignKey):
                parent = field.related_model._meta.db_table
                run(
                    f"ALTER TABLE {table} ADD CONSTRAINT {table}_{field.column}_tenant"
                    f" FOREIGN KEY (agency_id, {field.column}) REFERENCES {parent} (agency_id, id)"
                    " DEFERRABLE INITIALLY IMMEDIATE"
                )
        run(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        run(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        # The sub-select is evaluated once per statement, not once per row.
        run(
            f"CREATE POLICY tenant ON {table} TO qingka_app"
            " USING (agency_id = (SELECT current_agency()))"
            " WITH CHECK (agency_id = (SELECT current_agency()))"
        )
        if self.lookup:
            run(f"CREATE POLICY lookup ON {table} FOR SELECT TO qingka_lookup USING (true)")
            run(f"GRANT SELECT ON {table} TO qingka_lookup")

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Dropping the table drops policy and keys with it."""

    def describe(self) -> str:
        return f"Secure tenant table {self.model_name}"

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return (type(self).__name__, [self.model_name], {"lookup": self.lookup})
