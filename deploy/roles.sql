-- The database roles of Qingka, for a whole PostgreSQL server (16 or newer). Safe to repeat; to be
-- repeated before the migrations of an update, together with database.sql.
--
--   psql --single-transaction --file=deploy/roles.sql postgres        as a superuser, then
--   createdb --owner=qingka_owner --encoding=UTF8 --template=template0 qingka
--   psql --single-transaction --file=deploy/database.sql qingka
--   psql postgres   →   \password qingka_owner   \password qingka_app
--
-- qingka_owner    owns the database and its tables: migrations, nothing else
-- qingka_app      the server: owns nothing, is bound by every policy
-- qingka_reader   nobody logs in as it: the server becomes it while the platform's operator looks into
--                 an agency; reads, and is bound by every policy
-- qingka_lookup   nobody logs in as it: owns the few functions that answer "who is this?" across
--                 agencies, and has a policy of its own on the tables they read

SELECT pg_advisory_xact_lock(hashtext('qingka roles'));

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['qingka_owner', 'qingka_app', 'qingka_reader', 'qingka_lookup']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I', wanted);
        END IF;
    END LOOP;
END
$$;

ALTER ROLE qingka_owner
    WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE qingka_app
    WITH LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE qingka_reader
    WITH NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE qingka_lookup
    WITH NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

-- A migration hands functions over: ALTER FUNCTION … OWNER TO qingka_lookup. For that the owner
-- must be able to become qingka_lookup (SET); its rights in daily work (INHERIT) it does not need.
GRANT qingka_lookup TO qingka_owner WITH INHERIT FALSE, SET TRUE, ADMIN FALSE;

-- SET LOCAL ROLE for the length of a look; what the server may otherwise do is not touched by it.
GRANT qingka_reader TO qingka_app WITH INHERIT FALSE, SET TRUE, ADMIN FALSE;

-- No question of the server waits for ever: neither for its answer, nor for a lock, nor does a
-- transaction that nobody goes on with keep its locks. They belong to the role, so that connections
-- of a pool have them too.
ALTER ROLE qingka_app SET statement_timeout = '60s';
ALTER ROLE qingka_app SET lock_timeout = '30s';
ALTER ROLE qingka_app SET idle_in_transaction_session_timeout = '5min';
