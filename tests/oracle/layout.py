#!/usr/bin/env python3
"""Checks a table that is laid out by its own columns, against the source and what Iceberg makes of its values.

    layout.py --dsn 'host=… dbname=…' --lake /folder --table public.events --key id --by 'created_at_day=day(created_at)' …

  * DuckDB and PyArrow read all files by their Hive keys, and each row has the values of its folders: those that Iceberg's transforms
    give of the row's own columns, NULL where these are NULL. Where PyIceberg is installed, it has to agree;
  * no file holds rows of two partitions, and the log says what the folder says;
  * a filter on a key opens only the files of its folder;
  * the newest row of every key, if it is no deletion, is that of the source.

Exit code 0: right. 1: not, and what differs is printed.
"""

import argparse
import collections
import datetime
import decimal
import glob
import hashlib
import json
import os
import re
import sys

import duckdb
import psycopg
import pyarrow.dataset
import pyarrow.parquet as pq

try:
    from pyiceberg import types
    from pyiceberg.transforms import parse_transform
except ImportError:
    types = None

DEFAULT = "__HIVE_DEFAULT_PARTITION__"
SHOWN = 10
# date, timestamp, timestamptz
TIMES = [1082, 1114, 1184]


def main():
    parser = argparse.ArgumentParser()
    for name in ["--dsn", "--lake", "--table", "--key"]:
        parser.add_argument(name, required=True)
    parser.add_argument("--by", action="append", required=True)
    parser.add_argument("--files-max", type=int)
    arguments = parser.parse_args()
    fields = [field_of(text) for text in arguments.by]
    folder = os.path.join(arguments.lake, *arguments.table.split("."), "data")
    first = "/".join(f"{key}=*" for key, _, _ in fields)
    files = sorted(glob.glob(f"{folder}/{first}/*.parquet"))
    wrong = []
    rows = files_of(folder, files, fields, wrong)
    log(arguments.lake, folder, files, wrong)
    duck(files, fields, rows, wrong)
    arrow(folder, files, fields, rows, wrong)
    source(arguments, rows, wrong)
    if arguments.files_max and len(files) > arguments.files_max:
        wrong.append(f"{len(files)} files, and {arguments.files_max} would do")
    for line in wrong[:SHOWN]:
        print(line[:300])
    ops = collections.Counter(row["_cdc_op"] for row, _ in rows.values())
    partitions = {os.path.dirname(file) for file in files}
    print(f"{len(rows)} rows {dict(ops)}, {len(files)} files in {len(partitions)} partitions, {len(wrong)} differences")
    sys.exit(1 if wrong else 0)


def field_of(text):
    """created_at_day=day(created_at)"""
    key, word, inner = re.fullmatch(r"(\w+)=(\w+)\((.+)\)", text).groups()
    number, _, column = inner.rpartition(",")
    return key, f"{word}[{number.strip()}]" if number else word, column.strip()


def files_of(folder, files, fields, wrong):
    """Every row with the values of its folders, by position."""
    rows = {}
    for file in files:
        table = pq.ParquetFile(file).read()
        names = os.path.relpath(os.path.dirname(file), folder).split("/")
        found = {name.partition("=")[0]: name.partition("=")[2] for name in names}
        for row in table.to_pylist():
            position = (row["_cdc_lsn"], row["_cdc_seq"], row["_cdc_relation"], row["id"])
            if position in rows:
                wrong.append(f"{position} is there twice")
            expected = {}
            for key, transform, column in fields:
                expected[key] = bounded(value_of(transform, table.schema.field(column).type, row[column]))
                if found[key] != folder_name(expected[key]):
                    wrong.append(f"{position}: {column} = {repr(row[column])[:60]} lies in {key}={found[key]}")
            rows[position] = (row, expected)
    return rows


def value_of(transform, data_type, value):
    """What Iceberg makes of a value, as people read it."""
    if value is None:
        return None
    name, number = re.fullmatch(r"(\w+)(?:\[(\d+)\])?", transform).groups()
    ours = TRANSFORMS[name](value, int(number or 0))
    ours = str(ours).lower() if isinstance(ours, bool) else str(ours)
    if types and (theirs := of_pyiceberg(transform, iceberg_type(data_type), value)) != ours:
        raise SystemExit(f"PyIceberg makes {theirs!r} of {value!r} by {transform}, and not {ours!r}")
    return ours


def of_pyiceberg(transform, source, value):
    transform = parse_transform(transform)
    if isinstance(value, (datetime.datetime, datetime.date)):
        value = micros(value) if isinstance(value, datetime.datetime) else days(value)
    return transform.to_human_string(transform.result_type(source), transform.transform(source)(value))


def truncate(value, width):
    if isinstance(value, str):
        return value[:width]
    if isinstance(value, decimal.Decimal):
        unscaled = unscaled_of(value)
        return decimal.Decimal(unscaled - unscaled % width).scaleb(value.as_tuple().exponent)
    return value - value % width


def bucket(value, count):
    return (murmur3(serialised(value)) & 0x7FFFFFFF) % count


def serialised(value):
    """https://iceberg.apache.org/spec/#appendix-b-32-bit-hash-requirements"""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, decimal.Decimal):
        unscaled = unscaled_of(value)
        bits = (unscaled if unscaled >= 0 else ~unscaled).bit_length()
        return unscaled.to_bytes(bits // 8 + 1, "big", signed=True)
    if isinstance(value, datetime.datetime):
        value = micros(value)
    elif isinstance(value, datetime.date):
        value = days(value)
    return value.to_bytes(8, "little", signed=True)


def unscaled_of(value):
    return int(value.scaleb(-value.as_tuple().exponent))


def micros(value):
    return (value - datetime.datetime(1970, 1, 1, tzinfo=value.tzinfo)) // datetime.timedelta(microseconds=1)


def days(value):
    return (value - datetime.date(1970, 1, 1)).days


def murmur3(data):
    """MurmurHash3, x86 variant of 32 bits."""
    rotated = lambda word, by: (word << by | word >> 32 - by) & 0xFFFFFFFF
    mixed = lambda word: rotated(word * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF
    hashed, whole = 0, len(data) // 4 * 4
    for at in range(0, whole, 4):
        hashed = (rotated(hashed ^ mixed(int.from_bytes(data[at : at + 4], "little")), 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    hashed ^= mixed(int.from_bytes(data[whole:], "little")) ^ len(data)
    for by, times in [(16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)]:
        hashed = (hashed ^ hashed >> by) * times & 0xFFFFFFFF
    return hashed


TRANSFORMS = {
    "year": lambda value, _: f"{value.year:04}",
    "month": lambda value, _: f"{value.year:04}-{value.month:02}",
    "day": lambda value, _: f"{value.year:04}-{value.month:02}-{value.day:02}",
    "hour": lambda value, _: f"{value.year:04}-{value.month:02}-{value.day:02}-{value.hour:02}",
    "bucket": bucket,
    "truncate": truncate,
    "identity": lambda value, _: value,
}


def iceberg_type(data_type):
    text = str(data_type)
    if text.startswith("decimal"):
        return types.DecimalType(data_type.precision, data_type.scale)
    known = {
        "int32": types.IntegerType(),
        "int64": types.LongType(),
        "string": types.StringType(),
        "date32[day]": types.DateType(),
        "bool": types.BooleanType(),
        "timestamp[us]": types.TimestampType(),
        "timestamp[us, tz=UTC]": types.TimestamptzType(),
    }
    return known[text]


def escape(text):
    """As Hive writes values into paths."""
    return "".join(f"%{ord(c):02X}" if ord(c) < 32 or c in "\"#%'*/:=?\\{[]^\x7f" else c for c in text)


def bounded(value):
    """A value of more than 100 bytes in a path is cut, and has a hash."""
    if value is None or len(escape(value).encode()) <= 100:
        return value
    beginning = value[:100]
    while len(escape(beginning).encode()) > 83:
        beginning = beginning[:-1]
    return f"{beginning}-{hashlib.sha256(value.encode()).hexdigest()[:16]}"


def folder_name(value):
    if value is None or value == "":
        return DEFAULT
    escaped = escape(value)
    return escaped if value != DEFAULT else escaped.replace("_", "%5F", 1)


def log(lake, folder, files, wrong):
    logged = set()
    for name in glob.glob(f"{lake}/_tributary/log/*.json"):
        with open(name) as text:
            entry = json.load(text)
        for table in entry.get("tables", []):
            for file in table["files"]:
                path = os.path.join(lake, file["key"])
                if not path.startswith(folder):
                    continue
                logged.add(path)
                values = file["partition"]
                told = "/".join(f"{key}={folder_name(value)}" for key, value in values.items())
                if os.path.relpath(os.path.dirname(path), folder) != told:
                    wrong.append(f"the log says {values} of {path}")
    if logged != set(files):
        wrong.append(f"{len(logged ^ set(files))} files are in the log or in the folder, and not in both")


def same(value, expected):
    """Engines read numbers and dates where all values of a key are such."""
    expected = expected or None
    return value == expected or (value is not None and expected is not None and str(value) == expected) or (
        isinstance(value, int) and expected is not None and value == int(expected)
    )


def duck(files, fields, rows, wrong):
    keys = ", ".join(key for key, _, _ in fields)
    database = duckdb.connect()
    database.execute("set TimeZone = 'UTC'")
    table = "read_parquet(?, hive_partitioning = true, union_by_name = true)"
    found = database.execute(f"select _cdc_lsn, _cdc_seq, _cdc_relation, id, {keys} from {table}", [files]).fetchall()
    if len(found) != len(rows):
        wrong.append(f"DuckDB reads {len(found)} rows of {len(rows)}")
    for row in found:
        for value, (key, _, _) in zip(row[4:], fields):
            expected = rows[tuple(row[:4])][1][key]
            if not same(value, expected):
                wrong.append(f"DuckDB reads {key} = {value!r}, and not {expected!r}")
    # A filter on the first key reads its folders alone.
    key = fields[0][0]
    some = sorted({row[1][key] for row in rows.values() if row[1][key]})[len(rows) % 3]
    plan = f"explain (analyze, format json) select count(_cdc_lsn), max(_cdc_seq) from {table} where {key} = ?"
    text = database.execute(plan, [files, some]).fetchall()[0][1]
    scanned = [int(number) for number in re.findall(r'"Total Files Read": "(\d+)"', text)]
    of_folder = [file for file in files if f"/{key}={folder_name(some)}/" in file]
    if scanned != [len(of_folder)] or len(of_folder) == len(files):
        wrong.append(f"DuckDB reads {scanned} files for {key} = {some}, and not {len(of_folder)} of {len(files)}")


def arrow(folder, files, fields, rows, wrong):
    partitioning = pyarrow.dataset.partitioning(
        pyarrow.schema([(key, pyarrow.string()) for key, _, _ in fields]), flavor="hive"
    )
    dataset = pyarrow.dataset.dataset(files, partitioning=partitioning, partition_base_dir=folder)
    columns = ["_cdc_lsn", "_cdc_seq", "_cdc_relation", "id"] + [key for key, _, _ in fields]
    found = dataset.to_table(columns=columns).to_pylist()
    if len(found) != len(rows):
        wrong.append(f"PyArrow reads {len(found)} rows of {len(rows)}")
    for row in found:
        _, expected = rows[(row["_cdc_lsn"], row["_cdc_seq"], row["_cdc_relation"], row["id"])]
        for key, _, _ in fields:
            # PyArrow takes the text for NULL even where it is escaped.
            if row[key] != (expected[key] or None) and expected[key] != DEFAULT:
                wrong.append(f"PyArrow reads {key} = {row[key]!r}, and not {expected[key]!r}")
    key = fields[0][0]
    some = next(expected[key] for _, expected in rows.values() if expected[key])
    fragments = list(dataset.get_fragments(filter=pyarrow.dataset.field(key) == some))
    if not 0 < len(fragments) < len(files):
        wrong.append(f"PyArrow opens {len(fragments)} of {len(files)} files for {key} = {some}")


def source(arguments, rows, wrong):
    newest = {}
    for (lsn, seq, _, _), (row, _) in sorted(rows.items(), key=lambda pair: pair[0][:2]):
        if row["_cdc_op"] == "T":
            newest.clear()
        else:
            newest[row[arguments.key]] = row
    lake = {key: row for key, row in newest.items() if row["_cdc_op"] != "D"}
    with psycopg.connect(arguments.dsn, options="-c TimeZone=UTC") as connection:
        columns = connection.execute(f"select * from {arguments.table} limit 0").description
        names = [column.name for column in columns]
        # What Python has no value for is in `_cdc_raw`.
        read = "case when isfinite({0}) and {0} between '0001-01-01' and '9999-12-31 23:59:59.999999' then {0} end"
        read = [read.format(column.name) if column.type_code in TIMES else column.name for column in columns]
        cursor = connection.execute(f"select {', '.join(read)} from {arguments.table}")
        held = {dict(zip(names, row))[arguments.key]: dict(zip(names, row)) for row in cursor.fetchall()}
    if lake.keys() != held.keys():
        wrong.append(f"{len(lake.keys() ^ held.keys())} keys are in the lake or in the source, and not in both")
    for key in lake.keys() & held.keys():
        elsewhere = (lake[key]["_cdc_unchanged"] or []) + [name for name, _ in lake[key]["_cdc_raw"] or []]
        for name in names:
            if name not in elsewhere and plain(lake[key][name]) != plain(held[key][name]):
                wrong.append(f"{key}.{name}: {lake[key][name]!r} in the lake, {held[key][name]!r} in the source")


def plain(value):
    return str(value) if isinstance(value, decimal.Decimal) else value


main()
