-- An empty table of narrow rows, for whoever writes them at a rate.
\ir narrow_rows.sql

CREATE TABLE narrow (:narrow_columns, PRIMARY KEY (id));
CREATE PUBLICATION bench FOR TABLE narrow;
