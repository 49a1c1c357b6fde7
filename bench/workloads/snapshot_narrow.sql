-- One table of narrow rows, 123 bytes a tuple: what events or orders look like. :rows says how many.
CREATE TABLE narrow (
    id bigint PRIMARY KEY,
    tenant_id int NOT NULL,
    created_at timestamptz NOT NULL,
    amount numeric(12,2),
    status text,
    note text
);

INSERT INTO narrow
SELECT n,
       (n % 2000)::int,
       timestamptz '2026-01-01 00:00:00+00' + n * interval '137 milliseconds',
       ((n * 7919) % 1000000)::numeric / 100,
       (ARRAY['new', 'paid', 'packed', 'shipped', 'delivered', 'returned'])[1 + n % 6],
       -- 60 characters that do not repeat within what a compressor looks back at.
       'note ' || md5(n::text) || ' ' || substr(md5((-n)::text), 1, 22)
FROM generate_series(1::bigint, :rows) n;

CREATE PUBLICATION bench FOR TABLE narrow;
