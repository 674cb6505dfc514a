"""The definer look-up of the device layer: whose token is this (see ``agency.access``)."""

from agency.tenancy import lookup_function

PRINCIPAL_SQL = lookup_function(
    "principal_of(bytea)",
    """
CREATE FUNCTION principal_of(wanted bytea)
RETURNS TABLE (agency_id bigint, machine_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT m.agency_id, m.id FROM devices_machine m WHERE m.token_hash = wanted
$$;
""",
)

TOKEN_INDEX_SQL = "CREATE INDEX devices_machine_token ON devices_machine (token_hash);"
