"""The definer look-ups of the device layer: whose token, whose code, whose broker
accounts have to go (see ``agency.access``)."""

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

REDEEM_SQL = lookup_function(
    "redeem(bytea)",
    """
CREATE FUNCTION redeem(wanted bytea)
RETURNS TABLE (agency_id bigint, code_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT c.agency_id, c.id FROM devices_enrolmentcode c WHERE c.code_hash = wanted
$$;
""",
)

OLD_ACCOUNTS_SQL = lookup_function(
    "agencies_with_old_accounts()",
    """
CREATE FUNCTION agencies_with_old_accounts() RETURNS TABLE (agency_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT DISTINCT m.agency_id FROM devices_machine m WHERE m.old_accounts <> '[]'
$$;
""",
)

CODE_INDEX_SQL = "CREATE INDEX devices_enrolmentcode_hash ON devices_enrolmentcode (code_hash);"
