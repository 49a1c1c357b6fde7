-- Wide rows, 100 a transaction: 100 columns of ten types, and a document of about 1 KB. :rows in all.
SELECT 'CREATE TABLE wide (id bigint PRIMARY KEY, ' || string_agg(format('c%s %s', n,
        (ARRAY['int', 'bigint', 'numeric(14,4)', 'text', 'timestamptz', 'date', 'boolean', 'uuid', 'double precision', 'smallint'])[1 + n % 10]),
    ', ' ORDER BY n) || ', doc jsonb)'
FROM generate_series(1, 99) n
\gexec
CREATE PUBLICATION bench FOR TABLE wide;
SELECT pg_create_logical_replication_slot('template', 'pgoutput');

SELECT string_agg(CASE n % 10
        WHEN 0 THEN format('(n * %s %% 1000000)::int', 31 + n)
        WHEN 1 THEN format('n * 1000003 * %s', n)
        WHEN 2 THEN format('((n * %s) %% 100000000)::numeric / 10000', 7919 + n)
        WHEN 3 THEN format($q$'text-' || substr(md5((n + %s)::text), 1, 8)$q$, n)
        WHEN 4 THEN format($q$timestamptz '2026-01-01 00:00:00+00' + (n + %s) * interval '137 milliseconds'$q$, n)
        WHEN 5 THEN format($q$date '2020-01-01' + ((n + %s) %% 2000)::int$q$, n)
        WHEN 6 THEN format('(n + %s) %% 3 = 0', n)
        WHEN 7 THEN format('md5((n + %s)::text)::uuid', n)
        WHEN 8 THEN format('(n + %s)::float8 / 7', n)
        ELSE format('((n + %s) %% 30000)::int2', n) END, ', ' ORDER BY n) AS cells
FROM generate_series(1, 99) n
\gset
SELECT format($q$
CREATE PROCEDURE load(transactions bigint) LANGUAGE plpgsql AS $p$
BEGIN
    FOR t IN 0 .. transactions - 1 LOOP
        INSERT INTO wide SELECT n, %s, jsonb_build_object('k', n,
            'user', jsonb_build_object('name', 'user ' || n, 'mail', 'user' || n || '@example.test'),
            'tags', jsonb_build_array('a', 'b', 'c', n %% 17),
            'body', (SELECT string_agg(md5((n * 31 + part)::text), ' ') FROM generate_series(1, 26) part))
        FROM generate_series(t::bigint * 100 + 1, t::bigint * 100 + 100) n;
        COMMIT;
    END LOOP;
END $p$$q$, :'cells')
\gexec
CALL load(:rows / 100);
