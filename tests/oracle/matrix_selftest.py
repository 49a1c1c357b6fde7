#!/usr/bin/env python3
"""Shows that the matrix finds what it must: an exact lake is accepted, and every way of being inexact is found by name."""

import collections
import datetime
import decimal
import json
import os
import pickle
import sys
import tempfile

import pyarrow as pa
import pyarrow.parquet as pq

import cells
import journal
from cells import Kind
from journal import Change, Table
from selftest import METADATA, field
from verify import Differences

UTC = datetime.timezone.utc
KINDS = {"id": Kind("int8"), "t": Kind("text"), "n": Kind("numeric"), "at": Kind("timestamptz"), "f": Kind("float4"), "a": Kind("_text", element=Kind("text")), "c": Kind("time"), "b": Kind("bytea")}
TABLE = Table("m", "t", list(KINDS), KINDS)
TYPES = {"id": pa.int64(), "t": pa.string(), "n": pa.decimal128(10, 2), "at": pa.timestamp("us", "UTC"), "f": pa.float32(), "a": pa.list_(pa.field("element", pa.string())), "c": pa.string(), "b": pa.binary()}
LONG = b"x" * 100


def source(**changed):
    row = {"id": b"1", "t": b"NULL", "n": b"1.50", "at": b"2026-08-01 12:00:00.25+00", "f": b"-0", "a": b'{a,NULL,"NULL","b \\"c\\\\"}', "c": b"24:00:00", "b": b"\\x00ff"}
    return {**row, **changed}


def lake(op, seq, unchanged=None, raw=None, **changed):
    row = {"id": 1, "t": "NULL", "n": decimal.Decimal("1.50"), "at": datetime.datetime(2026, 8, 1, 12, 0, 0, 250000, UTC), "f": -0.0, "a": ["a", None, "NULL", 'b "c\\'], "c": "24:00:00.000000", "b": b"\0\xff"}
    return {"_cdc_op": op, "_cdc_lsn": 100 + seq, "_cdc_seq": 1, "_cdc_commit_ts": datetime.datetime(2026, 8, 1, 12, tzinfo=UTC), "_cdc_xid": 1, "_cdc_relation": "m.t",
            "_cdc_unchanged": unchanged, "_cdc_raw": raw, **row, **changed}


CHANGES = [
    Change("I", "m.t", "m.t", None, source(t=LONG)),
    Change("U", "m.t", "m.t", source(t=LONG), source(t=LONG, n=b"NaN")),
    Change("U", "m.t", "m.t", source(t=LONG, n=b"NaN"), source(at=b"infinity", a=b"{{1},{2}}")),
    Change("U", "m.t", "m.t", source(), source(id=b"2")),
    Change("D", "m.t", "m.t", source(id=b"2"), None),
]
BLANK = {name: None for name in KINDS if name != "id"}
INFINITY = datetime.datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)
EXACT = [
    lake("I", 1, t=LONG.decode()),
    lake("U", 2, ["t"], [("n", "NaN")], t=None, n=None),
    lake("U", 3, None, [("at", "infinity"), ("a", "{{1},{2}}")], at=INFINITY, a=None),
    lake("D", 4, **BLANK),
    lake("I", 5, id=2),
    lake("D", 6, id=2, **BLANK),
]


def change(row, **changed):
    def apply(rows):
        rows[row].update(changed)
    return apply


BREAKS = {
    "a row is lost": ("changes", lambda rows: rows.pop(2)),
    "a row is doubled": ("changes", lambda rows: rows.append(dict(rows[-1], _cdc_seq=2))),
    "another leaf": ("changes", change(2, _cdc_relation="m.other")),
    "a silent NULL": ("silent NULL", change(0, n=None)),
    "NULL without raw text": ("silent NULL", change(1, _cdc_raw=None)),
    "NULL for an empty list": ("silent NULL", change(0, a=None)),
    "a clamped value without raw text": ("different value", change(2, _cdc_raw=[("a", "{{1},{2}}")])),
    "another raw text": ("different raw text", change(1, _cdc_raw=[("n", "nan")])),
    "raw text of an unknown column": ("stray raw", change(1, _cdc_raw=[("n", "NaN"), ("zzz", "1")])),
    "another text": ("different value", change(2, t="null")),
    "a blank": ("different value", change(2, t="NULL ")),
    "another decimal": ("different value", change(0, n=decimal.Decimal("1.51"))),
    "zero for minus zero": ("different value", change(0, f=0.0)),
    "a microsecond": ("different value", change(0, at=datetime.datetime(2026, 8, 1, 12, 0, 0, 250001, UTC))),
    "the string NULL for NULL": ("different value", change(0, a=["a", "NULL", "NULL", 'b "c\\'])),
    "an element less": ("different value", change(0, a=["a", None, "NULL"])),
    "midnight for 24:00": ("different value", change(0, c="00:00:00.000000")),
    "other bytes": ("different value", change(0, b=b"\0\xfe")),
    "a value where Postgres has NULL": ("different value", change(0, b=b"")),
    "unchanged although it changed": ("unchanged", lambda rows: (rows[2].update(t=None, _cdc_unchanged=["t"]))),
    "the key of a deleted row": ("different value", change(5, id=3)),
    "a key that is not known": ("silent NULL", change(5, id=None)),
    "an update that leaves its key": ("changes", lambda rows: rows.pop(3) and rows[3].update(_cdc_op="U")),
    "a wrong old value": ("different value", change(5, t="x")),
}


def write(folder, rows):
    path = f"{folder}/m/t/data/cdc_date=2026-08-01/cdc_hour=12"
    os.makedirs(path)
    schema = pa.schema(METADATA + [field(name, kind, 100 + i) for i, (name, kind) in enumerate(TYPES.items())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), f"{path}/1.parquet")
    os.makedirs(f"{folder}/_tributary/log")
    columns = [{"source_name": name, "name": name, "dropped": False} for name in KINDS]
    event = {"schema_name": "m", "table_name": "t", "path": "m/t", "schema_id": 1, "document": {"columns": columns, "key": ["id"]}}
    with open(f"{folder}/_tributary/log/1.json", "w", encoding="utf-8") as file:
        json.dump({"events": [event], "tables": [{"schema_id": 1, "files": [{"key": "m/t/data/cdc_date=2026-08-01/cdc_hour=12/1.parquet"}]}]}, file)


def found(rows, changes=CHANGES):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, rows)
        with open(f"{folder}/journal", "wb") as file:
            pickle.dump((changes, {"m.t": TABLE}), file)
        wrong = Differences()
        journal.compare(f"{folder}/journal", f"file://{folder}", False, wrong, collections.Counter())
        return wrong


def main():
    failures = []
    exact = found([dict(row) for row in EXACT])
    if exact.count:
        failures.append(f"an exact lake is refused: {exact.lines}")
    for name, (kind, make) in BREAKS.items():
        rows, changes = [dict(row) for row in EXACT], CHANGES
        make(rows)
        if name == "a value where Postgres has NULL":
            changes = [Change("I", "m.t", "m.t", None, source(t=LONG, b=None)), *CHANGES[1:]]
        kinds = found(rows, changes).count
        if kind not in kinds:
            failures.append(f"{name}: not found as {kind!r}, but {dict(kinds)}")
    # Under replica identity full a deleted row must come whole.
    full = [Change(c.op, c.table, c.leaf, c.old, c.new, "f", "f") for c in CHANGES]
    if "silent NULL" not in found([dict(row) for row in EXACT], full).count:
        failures.append("an old row that is not whole is not found")
    double = Kind("float8")
    for value, arrow_type, kind, text in [
        (0.1, pa.float32(), double, "0.1"), (1, pa.uint32(), Kind("oid"), "1"), (1, pa.int32(), Kind("int4"), "01"), ([1, 2], pa.list_(pa.int32()), Kind("_int4", element=Kind("int4")), "[0:1]={1,2}"),
        (0, pa.timestamp("ms"), Kind("timestamp"), "1970-01-01 00:00:00"), (0, pa.timestamp("us"), Kind("timestamptz"), "1970-01-01 00:00:00+00"), ("é", pa.string(), Kind("text"), b"\xe9"),
    ]:
        if cells.says(value, arrow_type, kind, text):
            failures.append(f"{value!r} as {arrow_type} is taken for {text!r}")
    print("\n".join(failures) or f"all {len(BREAKS)} ways of being inexact are found")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
