"""The definer look-up of the clearing layer: which agencies have something due."""

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
