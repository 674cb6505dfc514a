"""The definer look-up of the device layer: whose token is this (see ``agency.access``)."""

PRINCIPAL_SQL = """
CREATE FUNCTION principal_of(wanted bytea)
RETURNS TABLE (agency_id bigint, machine_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT m.agency_id, m.id FROM devices_machine m WHERE m.token_hash = wanted
$$;
ALTER FUNCTION principal_of(bytea) OWNER TO qingka_lookup;
REVOKE ALL ON FUNCTION principal_of(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION principal_of(bytea) TO qingka_app;
CREATE INDEX devices_machine_token ON devices_machine (token_hash);
"""
