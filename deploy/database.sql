-- Who may do what in one database of Qingka. Run inside that database as a superuser, after
-- deploy/roles.sql and before the first migration; safe to repeat.
--
-- qingka_lookup gets no right to create anything. ALTER FUNCTION … OWNER TO asks that the new owner
-- may create in the schema *at that moment*, so the migration lends the right and takes it back in
-- its own transaction (qingka_owner may, because the owner of the database owns schema public):
--
--   GRANT CREATE ON SCHEMA public TO qingka_lookup;
--   ALTER FUNCTION memberships_of(bigint) OWNER TO qingka_lookup;
--   REVOKE CREATE ON SCHEMA public FROM qingka_lookup;
--
-- qingka_reader may read what a migration names, and nothing by default.
--
-- Default rights reach tables made from now on. What a migration takes away again (UPDATE on the
-- audit log, say) stays away when this file is run once more.

SELECT pg_advisory_xact_lock(hashtext('qingka database'));

DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I OWNER TO qingka_owner', current_database());
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO qingka_app', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO qingka_app, qingka_reader, qingka_lookup;

ALTER DEFAULT PRIVILEGES FOR ROLE qingka_owner IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO qingka_app;
ALTER DEFAULT PRIVILEGES FOR ROLE qingka_owner IN SCHEMA public
    GRANT USAGE, SELECT ON SEQUENCES TO qingka_app;
ALTER DEFAULT PRIVILEGES FOR ROLE qingka_owner IN SCHEMA public
    GRANT EXECUTE ON FUNCTIONS TO qingka_app;
-- Without IN SCHEMA: PUBLIC's built-in right to execute can only be taken away for all schemas.
ALTER DEFAULT PRIVILEGES FOR ROLE qingka_owner
    REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
