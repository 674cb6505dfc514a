"""The definer look-ups of the clearing layer: who has something due, how many see a bureau down."""

from agency.tenancy import lookup_function

DUE_SQL = lookup_function(
    "due_agencies(text)",
    """
CREATE FUNCTION due_agencies(kind text) RETURNS TABLE (agency_id bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF kind = 'sweep' THEN
    RETURN QUERY
      SELECT r.agency_id FROM clearing_run r
        WHERE r.state IN ('queued', 'waiting', 'claimed', 'unknown')
      UNION
      SELECT b.agency_id FROM clearing_batch b WHERE b.ended_at IS NULL;
  ELSE
    RAISE EXCEPTION 'unknown kind of job: %', kind;
  END IF;
END $$;
""",
)

# The same with the agencies whose own pause of a bureau is open: what others find out ends it, and
# nobody's work may be left that would.
DUE_WITH_PAUSES_SQL = lookup_function(
    "due_agencies(text)",
    """
CREATE FUNCTION due_agencies(kind text) RETURNS TABLE (agency_id bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF kind = 'sweep' THEN
    RETURN QUERY
      SELECT r.agency_id FROM clearing_run r
        WHERE r.state IN ('queued', 'waiting', 'claimed', 'unknown')
      UNION
      SELECT b.agency_id FROM clearing_batch b WHERE b.ended_at IS NULL
      UNION
      SELECT p.agency_id FROM clearing_bureaupause p
        WHERE p.opened_at IS NOT NULL AND p.cause <> 'by_hand';
  ELSE
    RAISE EXCEPTION 'unknown kind of job: %', kind;
  END IF;
END $$;
""",
)

# A number and nothing else: no agency learns which others see the same.
PAUSING_SQL = lookup_function(
    "agencies_pausing(text, timestamptz)",
    """
CREATE FUNCTION agencies_pausing(wanted text, since timestamptz) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$
  SELECT count(*) FROM clearing_bureaupause p
  WHERE p.address = wanted AND p.opened_at > since AND p.cause = 'own'
$$;
""",
)
