-- One transaction of narrow rows, far beyond what the server keeps in memory of it, written while the consumer reads. :rows in all.
\ir parts/narrow_rows.sql

CREATE TABLE narrow (:narrow_columns, PRIMARY KEY (id));
CREATE PUBLICATION bench FOR TABLE narrow;

CREATE PROCEDURE load(rows bigint) LANGUAGE sql AS $$
    INSERT INTO narrow SELECT * FROM narrow_rows(1, rows, 2000)
$$;
