-- For compose.yaml: a table, and one with partitions.
CREATE TABLE orders (id bigint PRIMARY KEY, note text);
CREATE TABLE events (id bigint, at timestamptz NOT NULL DEFAULT now(), body jsonb, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_default PARTITION OF events DEFAULT;
