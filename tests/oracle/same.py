#!/usr/bin/env python3
"""Whether two lakes of one source hold the same rows: same.py file:///one file:///other. Files may be cut differently."""

import glob
import os
import sys
import urllib.parse

import duckdb

one, other = (urllib.parse.unquote(urllib.parse.urlparse(url).path) for url in sys.argv[1:3])
tables = lambda lake: {os.path.relpath(path, lake) for path in glob.glob(f"{lake}/*/*") if glob.glob(f"{path}/data/**/*.parquet", recursive=True)}
if tables(one) != tables(other):
    sys.exit(f"tables differ: {sorted(tables(one) ^ tables(other))}")
differ = False
for table in sorted(tables(one)):
    database = duckdb.connect()
    for name, lake in (("one", one), ("other", other)):
        database.execute(f"create view raw_{name} as select * from read_parquet('{lake}/{table}/data/**/*.parquet', union_by_name = true, hive_partitioning = true)")
    shapes = [database.execute(f"select * from raw_{name} limit 0").description for name in ("one", "other")]
    names = [[column[0] for column in shape] for shape in shapes]
    if sorted(names[0]) != sorted(names[1]):
        differ = True
        print(f"{table}: columns differ: {sorted(set(names[0]) ^ set(names[1]))}")
        continue
    columns = ", ".join(f'"{column[0]}"::varchar as "{column[0]}"' for column in shapes[0])
    (n_one,), (n_other,) = (database.execute(f"select count(*) from raw_{name}").fetchone() for name in ("one", "other"))
    for left, right in (("one", "other"), ("other", "one")):
        rows = database.execute(f"select {columns} from raw_{left} except all select {columns} from raw_{right} limit 3").fetchall()
        for row in rows:
            differ = True
            print(f"{table}: only in {left}: {row}"[:500])
    print(f"{table}: {n_one} and {n_other} rows")
sys.exit(1 if differ else 0)
