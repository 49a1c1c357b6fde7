#!/usr/bin/env python3
"""Whether the views of `tributary sql` are the source: current.py duckdb|spark --dsn … --statements FILE [--exclude TABLE …]

Runs the statements, which make a table over the files and a view for each table, and compares every view with `SELECT *` of its table,
row by row. Exit code 0: equal. 1: not. 2: it could not be checked.
"""

import argparse
import collections
import json
import sys
import tempfile

import pyarrow as pa

from verify import Differences, Source, canonical_column, postgres_text, quote_table, shown


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("engine", choices=["duckdb", "spark"])
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--statements", required=True, help="the answer of `tributary sql --json`")
    parser.add_argument("--exclude", action="append", default=[])
    arguments = parser.parse_args()
    with open(arguments.statements, encoding="utf-8") as file:
        document = json.load(file)
    wrong, rows, source = Differences(), 0, Source(arguments.dsn)
    with tempfile.TemporaryDirectory() as folder:
        engine = {"duckdb": DuckDb, "spark": Spark}[arguments.engine](folder)
        for table in document["tables"]:
            for statement in table["statements"]:
                engine.run(statement["sql"])
            if table["table"] not in arguments.exclude:
                rows += compare(source, engine, table["table"], table["view"], wrong)
    wrong.print()
    if wrong.count:
        sys.exit(1)
    print(f"equal: {len(document['tables'])} views, {rows} rows")


def compare(source, engine, table, view, wrong):
    name = quote_table(table)
    columns = source.columns(name)
    wanted = collections.Counter(tuple(postgres_text(cell, c.kind, c.element) for cell, c in zip(row, columns)) for row in source.read(name, columns))
    found = engine.read(view)
    if "_cdc_unresolved" in found.column_names:
        for row in found.filter(pa.compute.is_valid(found["_cdc_unresolved"])).to_pylist():
            wrong.add("unresolved", f"{table}: {row['_cdc_unresolved']}at {row['_cdc_lsn']} seq {row['_cdc_seq']}")
    cells = [canonical_column(found, column) for column in columns]
    have = collections.Counter(zip(*cells))
    for row, count in (wanted - have).items():
        wrong.add("missing row", f"{table}: {count} × {shown(row)}")
    for row, count in (have - wanted).items():
        wrong.add("extra row", f"{table}: {count} × {shown(row)}")
    return found.num_rows


class DuckDb:
    def __init__(self, folder):
        import duckdb

        self.database = duckdb.connect()
        self.database.execute("set TimeZone = 'UTC'")

    def run(self, sql):
        self.database.execute(sql)

    def read(self, view):
        return self.database.sql(f"select * from {view}").to_arrow_table()


class Spark:
    def __init__(self, folder):
        from engines import Spark as Session

        self.session = Session(folder).session

    def run(self, sql):
        self.session.sql(sql)

    def read(self, view):
        return self.session.sql(f"select * from {view}").toArrow()


if __name__ == "__main__":
    main()
