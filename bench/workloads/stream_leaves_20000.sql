-- Narrow rows that hop over 20000 partitions of one table.
\set leaves 20000
\ir parts/leaves.sql
