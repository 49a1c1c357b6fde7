-- Narrow rows, 1,000 a transaction: an application that writes events. :rows in all.
\ir parts/narrow_rows.sql

CREATE TABLE narrow (:narrow_columns, PRIMARY KEY (id));
CREATE PUBLICATION bench FOR TABLE narrow;
SELECT pg_create_logical_replication_slot('template', 'pgoutput');

CREATE PROCEDURE load(transactions bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        INSERT INTO narrow SELECT * FROM narrow_rows(t * 1000 + 1, (t + 1) * 1000, 2000);
        COMMIT;
    END LOOP;
END $$;
CALL load(:rows / 1000);
