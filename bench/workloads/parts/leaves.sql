-- Narrow rows over :leaves partitions, 1,000 a transaction, each in another leaf than the one before. :rows in all. Two levels below the root,
-- since Postgres takes quadratic time to make very many partitions right below one parent.
\ir narrow_rows.sql

CREATE TABLE spread (:narrow_columns, PRIMARY KEY (id, tenant_id)) PARTITION BY RANGE (tenant_id);

CREATE PROCEDURE make_leaves(leaves int) LANGUAGE plpgsql AS $$
BEGIN
    FOR part IN 0 .. (leaves - 1) / 1000 LOOP
        EXECUTE format('CREATE TABLE spread_p%s PARTITION OF spread FOR VALUES FROM (%s) TO (%s) PARTITION BY LIST (tenant_id)',
            part, part * 1000, (part + 1) * 1000);
    END LOOP;
    FOR leaf IN 0 .. leaves - 1 LOOP
        EXECUTE format('CREATE TABLE spread_%s PARTITION OF spread_p%s FOR VALUES IN (%s)', leaf, leaf / 1000, leaf);
        -- A transaction that makes all of them would not fit the lock table.
        IF leaf % 250 = 249 THEN COMMIT; END IF;
    END LOOP;
END $$;
CALL make_leaves(:leaves);
VACUUM ANALYZE pg_class, pg_attribute, pg_inherits, pg_index, pg_constraint, pg_depend;

CREATE PUBLICATION bench FOR TABLE spread;
SELECT pg_create_logical_replication_slot('template', 'pgoutput');

CREATE PROCEDURE load(transactions bigint, leaves int) LANGUAGE plpgsql AS $$
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        INSERT INTO spread SELECT * FROM narrow_rows(t * 1000 + 1, (t + 1) * 1000, leaves);
        COMMIT;
    END LOOP;
END $$;
CALL load(:rows / 1000, :leaves);
