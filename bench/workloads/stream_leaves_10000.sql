-- Narrow rows that hop over 10000 partitions of one table.
\set leaves 10000
\ir parts/leaves.sql
