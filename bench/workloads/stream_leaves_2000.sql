-- Narrow rows that hop over 2000 partitions of one table.
\set leaves 2000
\ir parts/leaves.sql
