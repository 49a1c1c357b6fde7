#!/usr/bin/env python3
"""Shows that verify.py finds what it must find: selftest.py --dsn 'host=… port=… user=postgres dbname=postgres'

Makes a table and a small lake in the daemon's layout by hand, which must be equal; then breaks the lake in one way after
the other, each of which must be found by name.
"""

import argparse
import datetime
import decimal
import os
import subprocess
import sys
import tempfile

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

VERIFY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "verify.py")
UTC = datetime.timezone.utc
NOON = datetime.datetime(2026, 8, 1, 12, 30, tzinfo=UTC)

SQL = """
drop schema if exists oracle cascade;
create schema oracle;
create type oracle.mood as enum ('low', 'high');
create table oracle.orders (
  id bigint, bucket int, note text, doc text, amount numeric(12, 2), ratio float4, exact numeric, day date,
  at timestamptz, wall timestamp, clock time, paid bool, raw bytea, tags text[], moods oracle.mood[], padded char(5),
  primary key (id, bucket)) partition by list (bucket);
create table oracle.orders_1 partition of oracle.orders for values in (1);
create table oracle.orders_2 partition of oracle.orders for values in (2);
insert into oracle.orders values
  (1, 1, 'changed', 'a long document', 10.50, 0.1, 'NaN', '2026-08-01', '2026-08-01 12:00:00.25+00', '2026-08-01 12:00', '24:00', true, '\\x00ff', '{a,NULL,"b,c"}', '{low,high}', 'ab'),
  (20, 2, null, 'moved document', -0.01, 'NaN', 1.500, 'infinity', '-infinity', '0044-03-15 10:00 BC', '01:02:03.4', false, '', '{}', null, null);
create table oracle.ledger (account int, entry text);
alter table oracle.ledger replica identity full;
insert into oracle.ledger values (1, 'x'), (1, 'x'), (2, null);
create table oracle.empty (id int primary key);
create table oracle.read (id int, part int, note text, doc text, primary key (id, part)) partition by list (part);
create table oracle.read_1 partition of oracle.read for values in (1);
create table oracle.read_2 partition of oracle.read for values in (2);
insert into oracle.read values (1, 1, null, 'old'), (2, 1, 'set', 'long'), (3, 2, 'set', 'later');
create table oracle.heap (entry text);
alter table oracle.heap replica identity full;
insert into oracle.heap values ('a'), ('a'), ('b');
"""


def field(name, kind, number):
    return pa.field(name, kind, metadata={"PARQUET:field_id": str(number)})


METADATA = [
    field("_cdc_op", pa.string(), 1), field("_cdc_lsn", pa.int64(), 2), field("_cdc_seq", pa.int64(), 3),
    field("_cdc_commit_ts", pa.timestamp("us", "UTC"), 4), field("_cdc_xid", pa.int64(), 5), field("_cdc_relation", pa.string(), 6),
    field("_cdc_unchanged", pa.list_(field("element", pa.string(), 9)), 7),
    field("_cdc_raw", pa.map_(field("key", pa.string(), 10).with_nullable(False), field("value", pa.string(), 11)), 8),
]
# Not in every file.
BEFORE = field("_cdc_before", pa.map_(field("key", pa.string(), 13).with_nullable(False), field("value", pa.string(), 14)), 12)
ORDERS = [
    ("id", pa.int64()), ("bucket", pa.int32()), ("note", pa.string()), ("doc", pa.string()), ("amount", pa.decimal128(12, 2)),
    ("ratio", pa.float32()), ("exact", pa.string()), ("day", pa.date32()), ("at", pa.timestamp("us", "UTC")), ("wall", pa.timestamp("us")),
    ("clock", pa.string()), ("paid", pa.bool_()), ("raw", pa.binary()), ("tags", pa.list_(pa.field("element", pa.string()))),
    ("moods", pa.list_(pa.field("element", pa.string()))), ("padded", pa.string()),
]
LEDGER = [("account", pa.int32()), ("entry", pa.string())]
READ = [("id", pa.int32()), ("part", pa.int32()), ("note", pa.string()), ("doc", pa.string())]
COLUMNS = {"orders": ORDERS, "ledger": LEDGER, "read": READ, "heap": [("entry", pa.string())]}


def stamp(op, lsn, seq, relation, unchanged=None, raw=None):
    return {"_cdc_op": op, "_cdc_lsn": lsn, "_cdc_seq": seq, "_cdc_commit_ts": NOON, "_cdc_xid": lsn, "_cdc_relation": relation,
            "_cdc_unchanged": unchanged, "_cdc_raw": raw}


def read(lsn, relation):
    return stamp("R", lsn, -1, relation) | {"_cdc_xid": 0}


def marker(lsn, relation):
    return stamp("T", lsn, -2, relation) | {"_cdc_xid": 0}


ONE = {"id": 1, "bucket": 1, "note": "first", "doc": "a long document", "amount": decimal.Decimal("10.50"), "ratio": 0.1, "exact": "NaN",
       "day": datetime.date(2026, 8, 1), "at": datetime.datetime(2026, 8, 1, 12, 0, 0, 250000, tzinfo=UTC),
       "wall": datetime.datetime(2026, 8, 1, 12), "clock": "24:00:00.000000", "paid": True, "raw": b"\x00\xff", "tags": ["a", None, "b,c"],
       "moods": ["low", "high"], "padded": "ab   "}
TWO = {"id": 2, "bucket": 2, "note": None, "doc": "moved document", "amount": decimal.Decimal("-0.01"), "ratio": float("nan"), "exact": "1.500",
       "day": datetime.date(9999, 12, 31), "at": datetime.datetime(1, 1, 1, tzinfo=UTC), "wall": datetime.datetime(1, 1, 1),
       "clock": "01:02:03.400000", "paid": False, "raw": b"", "tags": [], "moods": None, "padded": None}
ONE_TEXT = [("id", "1"), ("note", "first"), ("doc", "a long document"), ("ratio", "0.1"), ("day", "2026-08-01"),
            ("at", "2026-08-01 12:00:00.25+00"), ("clock", "24:00:00"), ("paid", "t"), ("raw", "\\x00ff"), ("tags", '{a,NULL,"b,c"}')]
TWO_RAW = [("day", "infinity"), ("at", "-infinity"), ("wall", "0044-03-15 10:00:00 BC")]


def lake():
    """{file name: (table, rows)}: an equal lake. 2 becomes 20 by a change of key beside an unchanged document.

    `read` was read at two points, and changed before, between and after them; `heap` has no key, and was read twice as a whole.
    """
    leaf1, leaf2, ledger = "oracle.orders_1", "oracle.orders_2", "oracle.ledger"
    return {
        "1-a": ("orders", [
            stamp("I", 100, 1, leaf1) | {**ONE, "id": 9},
            stamp("T", 200, 1, leaf1),
            stamp("I", 300, 1, leaf1) | ONE,
            stamp("I", 300, 2, leaf2, raw=TWO_RAW) | TWO,
            stamp("I", 300, 3, leaf2) | {**ONE, "id": 3, "bucket": 2},
        ]),
        "2-a": ("orders", [
            stamp("U", 400, 1, leaf1, ["doc"]) | {**ONE, "note": "changed", "doc": None, "_cdc_before": ONE_TEXT},
            stamp("D", 400, 2, leaf2) | {"id": 3, "bucket": 2, "_cdc_before": [("id", "3"), ("bucket", "2")]},
            stamp("D", 400, 3, leaf2) | {"id": 2, "bucket": 2},
            stamp("I", 400, 4, leaf2, ["doc"], TWO_RAW) | {**TWO, "id": 20, "doc": None},
        ]),
        "2-b": ("ledger", [
            stamp("I", 500, 1, ledger) | {"account": 1, "entry": "x"},
            stamp("I", 500, 2, ledger) | {"account": 1, "entry": "x"},
            stamp("I", 500, 3, ledger) | {"account": 2, "entry": "y"},
            stamp("D", 500, 4, ledger) | {"account": 2, "entry": "y", "_cdc_before": [("account", "2"), ("entry", "y")]},
            stamp("I", 500, 5, ledger) | {"account": 2, "entry": None},
        ]),
        "3-r": ("read", [
            read(600, "oracle.read_1") | {"id": 1, "part": 1, "doc": "old"},
            read(600, "oracle.read_1") | {"id": 4, "part": 1, "doc": "to be deleted"},
        ]),
        "4-r": ("read", [
            stamp("D", 550, 1, "oracle.read_2") | {"id": 9, "part": 2},
            stamp("U", 610, 1, "oracle.read_2", ["doc"]) | {"id": 3, "part": 2, "note": "set"},
            stamp("D", 610, 2, "oracle.read_1") | {"id": 4, "part": 1},
        ]),
        "5-r": ("read", [
            read(650, "oracle.read_1") | {"id": 2, "part": 1, "doc": "long"},
            read(650, "oracle.read_2") | {"id": 3, "part": 2, "note": "set", "doc": "later"},
            stamp("U", 660, 1, "oracle.read_1", ["doc"]) | {"id": 2, "part": 1, "note": "set"},
        ]),
        "3-h": ("heap", [read(600, "oracle.heap") | {"entry": "a"}]),
        "4-h": ("heap", [stamp("D", 620, 1, "oracle.heap") | {"entry": "z"}, stamp("I", 620, 2, "oracle.heap") | {"entry": "a"}]),
        "5-h": ("heap", [
            read(650, "oracle.heap") | {"entry": "a"},
            read(650, "oracle.heap") | {"entry": "a"},
            read(650, "oracle.heap") | {"entry": "c"},
            stamp("D", 670, 1, "oracle.heap") | {"entry": "c"},
            stamp("I", 670, 2, "oracle.heap") | {"entry": "b"},
        ]),
        "6-h": ("heap", [marker(650, "oracle.heap")]),
    }


def write(folder, files, partition="cdc_date=2026-08-01/cdc_hour=12"):
    for name, (table, rows) in files.items():
        before = [BEFORE] if any("_cdc_before" in row for row in rows) else []
        fields = METADATA + before + [field(n, kind, 100 + i) for i, (n, kind) in enumerate(COLUMNS[table])]
        path = os.path.join(folder, "oracle", table, "data", partition)
        os.makedirs(path, exist_ok=True)
        complete = [{f.name: row.get(f.name) for f in fields} for row in rows]
        pq.write_table(pa.Table.from_pylist(complete, schema=pa.schema(fields)), os.path.join(path, name + ".parquet"))


def edited(name, index, **cells):
    files = lake()
    files[name][1][index] |= cells
    return files


def without(name, *indexes):
    files = lake()
    for index in sorted(indexes, reverse=True):
        del files[name][1][index]
    return files


def twice(name, index):
    files = lake()
    files["9-again"] = (files[name][0], [dict(files[name][1][index])])
    return files


BROKEN = {
    "a lost row": (without("2-b", 1), "missing position"),
    "a lost last row": (without("2-b", 4), "missing row"),
    "a lost file": ({k: v for k, v in lake().items() if k != "2-b"}, "missing table"),
    "a doubled row": (twice("1-a", 3), "duplicate position"),
    "a doubled row of a table without key": (twice("2-b", 0), "duplicate position"),
    "a lost delete": (without("2-a", 1), "extra row"),
    "a lost truncate": (without("1-a", 1), "extra row"),
    "a wrong value": (edited("2-a", 0, note="other"), "different value"),
    "NULL for a value": (edited("2-a", 0, amount=None), "different value"),
    "a value for NULL": (edited("2-a", 3, note="-"), "different value"),
    "a wrong unchanged value": (edited("1-a", 2, doc="another document"), "different value"),
    "NULL instead of unchanged": (edited("2-a", 0, _cdc_unchanged=None), "different value"),
    "an unchanged value behind a change of key, lost": (edited("2-a", 3, _cdc_unchanged=None), "different value"),
    "a clamped value without its text": (edited("2-a", 3, _cdc_raw=None), "different value"),
    # Not as such: the lake has rows that a snapshot read later, and this table none of them, so that the row might have been there before.
    "a change of nothing": (edited("2-a", 1, id=4), "extra row"),
    "a wrong cell in a table without key": (edited("2-b", 0, entry="z"), "missing row"),
    "a wrong old value": (edited("2-a", 0, _cdc_before=[("note", "changed")]), "wrong old row"),
    "NULL for an old value": (edited("2-a", 1, _cdc_before=[("id", "3"), ("amount", None)]), "wrong old row"),
    "an old row of nothing": (edited("2-a", 1, _cdc_before=[]), "wrong old row"),
    "an old row of an insertion": (edited("2-a", 3, _cdc_before=[("id", "2")]), "wrong old row"),
    "a wrong old value in a table without key": (edited("2-b", 3, _cdc_before=[("entry", None)]), "wrong old row"),
    "a row read twice": (twice("3-r", 0), "read twice"),
    "a row of a table without key read twice": (twice("5-h", 1), "extra row"),
    "a row that was not read": (without("3-r", 0), "missing row"),
    "a row of a table without key that was not read": (without("5-h", 1), "missing row"),
    "a lost marker": (without("6-h", 0), "extra row"),
    "a marker at another point": (edited("6-h", 0, _cdc_lsn=600), "extra row"),
    "a marker behind the rows": (edited("6-h", 0, _cdc_lsn=660), "missing row"),
    "a read row in a transaction": (edited("3-r", 0, _cdc_xid=7), "wrong transaction"),
    "a marker in a transaction": (edited("6-h", 0, _cdc_xid=7), "wrong transaction"),
    "a read row with another number": (edited("5-r", 1, _cdc_seq=0), "wrong number"),
    "a marker with the number of a row": (edited("6-h", 0, _cdc_seq=-1), "wrong number"),
    "a change with the number of a read row": (edited("4-r", 0, _cdc_seq=-1), "wrong number"),
    "a read row with an unchanged value": (edited("3-r", 0, _cdc_unchanged=["note"]), "unchanged in a read row"),
    "a read row of another time": (edited("3-r", 0, _cdc_commit_ts=NOON + datetime.timedelta(seconds=1)), "wrong time"),
    "a read row of the root": (edited("3-r", 0, _cdc_relation="oracle.read"), "wrong relation"),
    "a read row of another leaf": (edited("3-r", 0, _cdc_relation="oracle.read_2"), "wrong relation"),
    "an unchanged value that no row carries": (without("5-r", 1), "unknown value"),
    "a lost value of a read row": (edited("5-r", 1, doc=None), "different value"),
    "a change of nothing behind the last point": (edited("5-r", 2, id=5), "unknown row"),
    "a deletion of nothing behind the last point": (edited("5-h", 3, entry="q"), "unknown row"),
    "a wrong order": (edited("1-a", 0, _cdc_lsn=350), "order in file"),
}


def verify(dsn, folder):
    command = [sys.executable, VERIFY, "--dsn", dsn, "--lake", "file://" + folder]
    for table in ("orders", "ledger", "empty", "read", "heap"):
        command += ["--table", f"oracle.{table}"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    return outcome.returncode, outcome.stdout + outcome.stderr


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", required=True)
    dsn = parser.parse_args().dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL)
    failures = 0

    def expect(what, files, code, word, **options):
        nonlocal failures
        with tempfile.TemporaryDirectory() as folder:
            write(folder, files, **options)
            have, output = verify(dsn, folder)
        if have != code or word not in output:
            failures += 1
            print(f"FAILED {what}: exit code {have}, expected {code} and {word!r}\n{output}")
        else:
            print(f"ok {what}")

    expect("an equal lake", lake(), 0, "equal: 5 tables, 31 change rows in 10 files")
    for what, (files, word) in BROKEN.items():
        expect(what, files, 1, word)
    expect("a wrong partition", lake(), 1, "wrong partition", partition="cdc_date=2026-08-01/cdc_hour=11")
    expect("a misplaced file", lake(), 1, "misplaced file", partition="somewhere")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
