-- What Tributary needs of Postgres, and no more. Run it in the database that is exported, as its owner or an administrator:
--   psql -X -v ON_ERROR_STOP=1 -f role.sql "postgresql://postgres@db/shop"
-- Names to change: role `tributary`, schema `public`. Instead of the attribute REPLICATION, RDS and Aurora want
-- GRANT rds_replication TO tributary; the rest is the same everywhere. `tributary setup` prints it for your tables.

-- To stream. It reads rows through the slot, so whoever has this role sees what the publication sends.
CREATE ROLE tributary LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT CONNECTION LIMIT 20;
-- A password that no log sees: \password tributary. On the host of a replica none is needed: peer authentication.
-- Long reads of a snapshot are wanted, whatever the database's defaults say.
ALTER ROLE tributary SET statement_timeout = 0;
ALTER ROLE tributary SET idle_in_transaction_session_timeout = 0;

DO $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO tributary', current_database());
END $$;

-- To read the rows that are there already (snapshot.mode = "initial", resync). Partitions are read one by one, so each needs the grant.
-- With snapshot.mode = "never" only USAGE is needed.
GRANT USAGE ON SCHEMA public TO tributary;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO tributary;
-- Tables to come, of whoever runs this; repeat it FOR ROLE of others who make tables.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO tributary;
-- Tables with row security are refused rather than read in part, unless: ALTER ROLE tributary BYPASSRLS;

-- What is streamed. FOR ALL TABLES and TABLES IN SCHEMA take a superuser; a list of tables takes their owner.
CREATE PUBLICATION tributary FOR ALL TABLES WITH (publish_via_partition_root = false);

-- For a slot or a snapshot on a standby, so that an idle primary does not keep it waiting (Postgres 16 and newer):
-- GRANT EXECUTE ON FUNCTION pg_log_standby_snapshot() TO tributary;
