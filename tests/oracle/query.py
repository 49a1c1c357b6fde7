#!/usr/bin/env python3
"""Asks DuckDB about all files of one table: query.py file:///lake/schema/table 'select … from lake'. Cells joined by |."""

import sys
import urllib.parse

import duckdb

folder = urllib.parse.unquote(urllib.parse.urlparse(sys.argv[1]).path)
database = duckdb.connect()
database.execute(f"create view lake as select * from read_parquet('{folder}/**/*.parquet', union_by_name = true, hive_partitioning = true)")
for row in database.execute(sys.argv[2]).fetchall():
    print("|".join("" if cell is None else str(cell) for cell in row))
