-- Narrow rows, 123 bytes a tuple: what events or orders look like. Columns, and rows as a function of their number, for scripts that \ir this.
\set narrow_columns 'id bigint NOT NULL, tenant_id int NOT NULL, created_at timestamptz NOT NULL, amount numeric(12,2), status text, note text'

CREATE FUNCTION narrow_rows(first bigint, last bigint, tenants int)
RETURNS TABLE (id bigint, tenant_id int, created_at timestamptz, amount numeric, status text, note text)
LANGUAGE sql IMMUTABLE AS $$
    SELECT n,
        -- A prime, so that the tenants of neighbours lie far apart.
        ((n * 7919) % tenants)::int,
        timestamptz '2026-01-01 00:00:00+00' + n * interval '137 milliseconds',
        ((n * 7919) % 1000000)::numeric / 100,
        (ARRAY['new', 'paid', 'packed', 'shipped', 'delivered', 'returned'])[1 + n % 6],
        -- 60 characters that do not repeat within what a compressor looks back at.
        'note ' || md5(n::text) || ' ' || substr(md5((-n)::text), 1, 22)
    FROM generate_series(first, last) n
$$;
