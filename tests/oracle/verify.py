#!/usr/bin/env python3
"""Compares a lake with its source, knowing nothing of Tributary but how its files are to be read.

    verify.py --dsn 'host=127.0.0.1 port=5432 user=postgres dbname=shop' --lake file:///path [--table public.orders …]
    verify.py --dsn … --lake s3://bucket/prefix --endpoint http://127.0.0.1:9000 [--access-key … --secret-key …]

Reads every *.parquet by a plain glob with PyArrow, and counts with DuckDB. Checks that

  * every file lies where Hive partitions are looked for, and its rows belong to its partition;
  * no (_cdc_lsn, _cdc_seq) occurs twice over all files, and no number is missing inside a transaction; of rows that a snapshot read,
    no key occurs twice at one position;
  * rows of a snapshot have its position, time and transaction id, and the relation that holds them;
  * the current state of every table, derived by the reading rules, equals SELECT * column by column, where columns are known by
    their field ids, so that renamed ones go on, and rows from before a column have its initial default;
  * what stands in `_cdc_before` is what the row was before, by the same rules;
  * PyArrow and DuckDB see the same rows.

Exit code 0: equal. 1: not, and the differences are printed. 2: it could not be checked.
"""

import argparse
import bisect
import collections
import datetime
import decimal
import json
import os
import re
import shutil
import struct
import sys
import tempfile
import urllib.parse

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq

METADATA = ["_cdc_op", "_cdc_lsn", "_cdc_seq", "_cdc_commit_ts", "_cdc_xid", "_cdc_relation", "_cdc_unchanged", "_cdc_raw"]
# Only in files of tables that were to have it.
BEFORE, BEFORE_ID = "_cdc_before", 12
SHAPE = re.compile(r"^(?P<schema>[^/]+)/(?P<table>[^/]+)/data/cdc_date=(?P<date>\d{4}-\d\d-\d\d)(/cdc_hour=(?P<hour>\d\d))?/[^/]+\.parquet$")
# What the server prints must not depend on how the database is set up.
SETTINGS = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=3 -c bytea_output=hex -c lc_monetary=C"
SHOWN = 12


class Differences:
    """What is wrong, at most a few lines of each kind."""

    def __init__(self):
        self.count = collections.Counter()
        self.lines = []

    def add(self, kind, line):
        self.count[kind] += 1
        if self.count[kind] <= SHOWN:
            self.lines.append(f"{kind}: {line}")

    def print(self):
        for line in self.lines:
            print(line)
        for kind, count in self.count.items():
            if count > SHOWN:
                print(f"{kind}: … {count} in all")


def main():
    arguments = parse()
    wrong = Differences()
    folder, is_copy = fetch(arguments)
    try:
        files, schemas = find(folder, wrong), Schemas(folder)
        source = Source(arguments.dsn)
        arguments.folded = folded_tables(source, arguments)
        tables = arguments.table or source.tables(arguments.exclude)
        if not arguments.table:
            leaves = {leaf for folded in arguments.folded.values() for leaf in folded.leaves}
            tables = sorted((set(tables) - leaves) | set(arguments.folded))
        check_adopted(files, arguments.adopted, wrong)
        arguments.read_until = check_positions(folder, {table: paths for table, paths in files.items() if table not in arguments.adopted}, wrong, arguments.gaps)
        total = 0
        for table in tables:
            total += check_table(source, schemas, files, table, wrong, arguments)
        known = {schemas.folder_of(source.oid(quote_table(table)), table) for table in tables} | set(arguments.exclude)
        for table in sorted(set(files) - known):
            if not arguments.table and schemas.relation.get(table) not in source.gone(schemas.relation.values()):
                wrong.add("unexpected table", f"{table} is in the lake and not in the source")
    finally:
        if is_copy:
            shutil.rmtree(folder)
    wrong.print()
    n_files = sum(len(paths) for paths in files.values())
    if wrong.count:
        print(f"NOT EQUAL: {sum(wrong.count.values())} differences over {len(tables)} tables and {n_files} files")
        sys.exit(1)
    old_rows = f", {CHECKED['old rows']} with the old row beside them" if CHECKED["old rows"] else ""
    print(f"equal: {len(tables)} tables, {total} change rows in {n_files} files{old_rows}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dsn", required=True, help="libpq connection string of the source")
    parser.add_argument("--lake", required=True, help="file:///path or s3://bucket/prefix")
    parser.add_argument("--endpoint", help="another S3 server than Amazon's")
    parser.add_argument("--access-key", default="test")
    parser.add_argument("--secret-key", default="testtesttest")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--table", action="append", default=[], help="schema.table of a root; all of them by default")
    parser.add_argument("--exclude", action="append", default=[], help="schema.table that the lake does not hold")
    parser.add_argument("--adopted", action="append", default=[], help="schema.table whose rows are another one's now: none of it counts")
    parser.add_argument("--gaps", action="store_true", help="numbers may be missing inside a transaction (tables are excluded)")
    parser.add_argument("--lax", action="store_true", help="changes of rows that are not there are no error (the lake began late)")
    parser.add_argument("--pattern", nargs=2, action="append", default=[], metavar=("REGEX", "TABLE"),
                        help="tables whose whole schema.table matches are leaves of this one; named groups are columns, and first in the key")
    parser.add_argument("--inherit", action="append", default=[], help="schema.table that has the rows of what inherits from it, with all columns")
    parser.add_argument("--renamed-leaves", action="store_true", help="leaves may have other names in the lake")
    return parser.parse_args()


# --- files ---


def fetch(arguments):
    """The lake as a local folder, and whether that is our copy."""
    url = urllib.parse.urlparse(arguments.lake)
    if url.scheme == "file":
        return urllib.parse.unquote(url.path), False
    if url.scheme != "s3":
        sys.exit(f"not a lake: {arguments.lake}")
    s3 = s3_filesystem(arguments)
    base = (url.netloc + url.path).rstrip("/")
    folder = tempfile.mkdtemp(prefix="lake-")
    for info in s3.get_file_info(pyarrow.fs.FileSelector(base, recursive=True)):
        is_wanted = info.path.endswith(".parquet") or "/_tributary/schemas/" in info.path
        if info.type == pyarrow.fs.FileType.File and is_wanted:
            target = os.path.join(folder, os.path.relpath(info.path, base))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with s3.open_input_stream(info.path) as stream, open(target, "wb") as out:
                shutil.copyfileobj(stream, out)
    return folder, True


def s3_filesystem(arguments):
    options = {"access_key": arguments.access_key, "secret_key": arguments.secret_key, "region": arguments.region}
    if arguments.endpoint:
        scheme, host = arguments.endpoint.split("://", 1)
        options.update(scheme=scheme, endpoint_override=host)
    return pyarrow.fs.S3FileSystem(**options)


def find(folder, wrong):
    """Every *.parquet under the folder, by table. A glob: nothing tells us which files count."""
    files = collections.defaultdict(list)
    for parent, _, names in os.walk(folder):
        for name in names:
            if not name.endswith(".parquet"):
                continue
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, folder)
            shape = SHAPE.match(relative)
            if shape is None:
                wrong.add("misplaced file", relative)
            else:
                files[f"{shape['schema']}.{shape['table']}"].append(path)
    return {table: sorted(paths) for table, paths in files.items()}


def quoted(paths):
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"


def check_adopted(files, adopted, wrong):
    """What became another table's ends with a T, so that nobody finds a row twice."""
    for table in adopted:
        rows = pa.concat_tables(pq.read_table(path, columns=["_cdc_op", "_cdc_lsn", "_cdc_seq"], partitioning=None) for path in files[table])
        last = rows.sort_by([("_cdc_lsn", "descending"), ("_cdc_seq", "descending")]).slice(0, 1).to_pylist()
        if last[0]["_cdc_op"] != "T":
            wrong.add("adopted table", f"{table} has rows that count")


def check_positions(folder, files, wrong, gaps):
    """No position twice over all tables, and none missing inside a transaction. Returns the last position at which a snapshot read a row of any table."""
    paths = [path for table in sorted(files) for path in files[table]]
    if not paths:
        return None
    pairs = pa.concat_tables(pq.read_table(path, columns=["_cdc_lsn", "_cdc_seq"], partitioning=None) for path in paths)
    changes = pairs.filter(pc.greater(pairs["_cdc_seq"], 0))
    grouped = changes.group_by(["_cdc_lsn", "_cdc_seq"]).aggregate([([], "count_all")])
    for row in grouped.filter(pc.greater(grouped["count_all"], 1)).sort_by([("_cdc_lsn", "ascending"), ("_cdc_seq", "ascending")]).to_pylist():
        wrong.add("duplicate position", f"lsn {lsn(row['_cdc_lsn'])} seq {row['_cdc_seq']} occurs {row['count_all']} times")
    if not gaps:
        transactions = grouped.group_by("_cdc_lsn").aggregate([("_cdc_seq", "min"), ("_cdc_seq", "max"), ("_cdc_seq", "count")])
        for row in transactions.to_pylist():
            if row["_cdc_seq_min"] != 1 or row["_cdc_seq_max"] != row["_cdc_seq_count"]:
                wrong.add(
                    "missing position",
                    f"transaction {lsn(row['_cdc_lsn'])} has {row['_cdc_seq_count']} changes numbered {row['_cdc_seq_min']} to {row['_cdc_seq_max']}",
                )
    check_numbers(folder, paths, wrong)
    # The same again with another reader.
    database = duckdb.connect()
    relation = f"read_parquet({quoted(paths)}, union_by_name = true, hive_partitioning = true, hive_types_autocast = false, filename = true)"
    counted, = database.execute(f"select count(*) from {relation}").fetchone()
    if counted != pairs.num_rows:
        wrong.add("readers disagree", f"PyArrow reads {pairs.num_rows} rows and DuckDB {counted}")
    twice, = database.execute(
        f"select count(*) from (select _cdc_lsn, _cdc_seq from {relation} where _cdc_seq > 0 group by all having count(*) > 1)"
    ).fetchone()
    if twice:
        wrong.add("duplicate position", f"DuckDB counts {twice} positions that occur more than once")
    columns = [column[0] for column in database.execute(f"select * from {relation} limit 0").description]
    hour = "cdc_hour is not null and strftime(timezone('UTC', _cdc_commit_ts), '%H') <> cdc_hour" if "cdc_hour" in columns else "false"
    for filename, count in database.execute(
        f"select filename, count(*) from {relation} where strftime(timezone('UTC', _cdc_commit_ts), '%Y-%m-%d') <> cdc_date or ({hour}) group by 1"
    ).fetchall():
        wrong.add("wrong partition", f"{count} rows of {os.path.relpath(filename, folder)} committed at another time")
    return pc.max(pairs.filter(pc.equal(pairs["_cdc_seq"], -1))["_cdc_lsn"]).as_py()


def check_numbers(folder, paths, wrong):
    """Rows of snapshots, `R` and the `T` before them, and only those, have their own numbers and no transaction."""
    times = {}
    for path in paths:
        part = pq.read_table(path, columns=["_cdc_op", "_cdc_lsn", "_cdc_seq", "_cdc_commit_ts", "_cdc_xid", "_cdc_unchanged"], partitioning=None)
        part = part.filter(pc.or_(pc.equal(part["_cdc_op"], "R"), pc.less_equal(part["_cdc_seq"], 0)))
        for row in part.group_by(part.column_names[:5]).aggregate([([], "count_all"), ("_cdc_unchanged", "count")]).to_pylist():
            op, position, seq, time, xid = (row[name] for name in part.column_names[:5])
            where = f"{os.path.relpath(path, folder)}: {row['count_all']} rows {op} at {lsn(position)}"
            if (op, seq) not in (("R", -1), ("T", -2)):
                wrong.add("wrong number", f"{where} have seq {seq}")
            if xid != 0:
                wrong.add("wrong transaction", f"{where} are of transaction {xid}")
            if row["_cdc_unchanged_count"]:
                wrong.add("unchanged in a read row", where)
            # The `T` of a partition that was detached has the time of the last transaction.
            if op == "R" and times.setdefault(position, time) != time:
                wrong.add("wrong time", f"{where} are of {time}, and others of this snapshot of {times[position]}")


def lsn(position):
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


class Schemas:
    """The newest schema document of every table folder."""

    def __init__(self, folder):
        self.newest, self.relation = {}, {}
        base = os.path.join(folder, "_tributary", "schemas")
        for name in sorted(os.listdir(base)) if os.path.isdir(base) else ():
            ids = [int(document.removesuffix(".json")) for document in os.listdir(os.path.join(base, name))]
            with open(os.path.join(base, name, f"{max(ids)}.json"), encoding="utf-8") as file:
                self.newest[name] = json.load(file)
            self.relation[name] = self.newest[name]["relation"]

    def folder_of(self, oid, table):
        """Where a table's files are: it may have had another name when it came, or be the second one of its name."""
        return next((name for name, relation in self.relation.items() if relation == oid), table)

    def names(self, folder):
        """By field id, the name that a live column has in Postgres now."""
        if folder not in self.newest:
            return None
        return {column["field_id"]: column["source_name"] for column in self.newest[folder]["columns"] if not column["dropped"]}

    def initial_defaults(self, folder):
        columns = self.newest.get(folder, {"columns": []})["columns"]
        return {column["source_name"]: (column["field_id"], column["initial_default"]) for column in columns
                if not column["dropped"] and column.get("initial_default") is not None}


def by_field_id(part, names, defaults):
    """The file's rows under the names that its columns have in Postgres now; what ended has a name that no column has.

    Without a schema document, columns are known by name.
    """
    if names is None:
        return part
    renamed = {}
    for field in part.schema:
        if field.name not in METADATA + [BEFORE]:
            field_id = int(field.metadata[b"PARQUET:field_id"])
            renamed[field.name] = names.get(field_id, f"{field.name} \0 ended")
    part = part.rename_columns([renamed.get(name, name) for name in part.schema.names])
    for name in METADATA[-2:] + [BEFORE] * (BEFORE in part.schema.names):
        column = part[name]
        if column.null_count != part.num_rows:
            rows = column.to_pylist()
            if name == "_cdc_unchanged":
                rows = [row and [renamed[entry] for entry in row] for row in rows]
            else:
                rows = [row and [(renamed[entry], text) for entry, text in row] for row in rows]
            part = part.set_column(part.schema.get_field_index(name), name, pa.array(rows, column.type))
    # Rows from before a column that was added with a default.
    missing = {name: text for name, (_, text) in defaults.items() if name not in part.schema.names}
    if missing:
        images = [op != "T" for op in part["_cdc_op"].to_pylist()]
        raw = part["_cdc_raw"].to_pylist()
        raw = [(row or []) + list(missing.items()) if image else row for row, image in zip(raw, images)]
        part = part.set_column(part.schema.get_field_index("_cdc_raw"), "_cdc_raw", pa.array(raw, part["_cdc_raw"].type))
    return part


def read(paths, table, wrong, names, defaults):
    """All rows of a table in the order of their positions, columns of all files by field id."""
    parts = []
    for path in paths:
        part = pq.ParquetFile(path).read()
        for i, name in enumerate(METADATA, start=1):
            field = part.schema.field(name) if name in part.schema.names else None
            if field is None or field.metadata is None or field.metadata.get(b"PARQUET:field_id") != str(i).encode():
                wrong.add("metadata column", f"{os.path.basename(path)} of {table}: {name} is missing or has another field id than {i}")
        if BEFORE in part.schema.names and part.schema.field(BEFORE).metadata.get(b"PARQUET:field_id") != str(BEFORE_ID).encode():
            wrong.add("metadata column", f"{os.path.basename(path)} of {table}: {BEFORE} has another field id than {BEFORE_ID}")
        order = part.select(["_cdc_lsn", "_cdc_seq"]).to_pylist()
        positions = [(row["_cdc_lsn"], row["_cdc_seq"]) for row in order]
        if positions != sorted(positions):
            wrong.add("order in file", f"{os.path.basename(path)} of {table} is not sorted by position")
        parts.append(by_field_id(part, names, defaults).replace_schema_metadata(None))
    rows = pa.concat_tables(parts, promote_options="permissive")
    # Hive partitions must read as columns, for every reader.
    hive = pyarrow.dataset.dataset(paths, format="parquet", partitioning="hive", partition_base_dir=paths[0].split("/data/")[0] + "/data")
    if "cdc_date" not in hive.schema.names:
        wrong.add("hive partition", f"{table}: PyArrow finds no column cdc_date")
    if hive.count_rows() != rows.num_rows:
        wrong.add("readers disagree", f"{table}: {rows.num_rows} rows by file and {hive.count_rows()} as a dataset")
    return rows.sort_by([("_cdc_lsn", "ascending"), ("_cdc_seq", "ascending")]).combine_chunks()


# --- the source ---


Column = collections.namedtuple("Column", "name kind element")


class Source:
    """The tables as Postgres has them, cells as the text that their output functions give."""

    def __init__(self, dsn):
        self.connection = psycopg.connect(dsn, options=SETTINGS, autocommit=True)

    def rows(self, query, *parameters):
        return self.connection.execute(query, parameters).fetchall()

    def tables(self, excluded):
        names = self.rows(
            """select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
               where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p'
                 and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') order by 1"""
        )
        return [name for name, in names if name not in excluded]

    def oid(self, table):
        """None for a table that only its leaves make."""
        return self.rows("select to_regclass(%s)::oid::int8", table)[0][0]

    def gone(self, relations):
        """Those that were dropped: what the lake holds of them is history."""
        found = self.rows("select oid::int8 from pg_class where oid::int8 = any(%s)", list(relations))
        return set(relations) - {oid for oid, in found}

    def columns(self, table):
        found = self.rows(
            """with recursive base as (
                 select a.attnum, a.attname, t.oid, t.typtype, t.typname, t.typcategory, t.typelem, t.typbasetype, a.atttypmod
                 from pg_attribute a join pg_type t on t.oid = a.atttypid
                 where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
                 union all
                 select b.attnum, b.attname, t.oid, t.typtype, t.typname, t.typcategory, t.typelem, t.typbasetype, b.atttypmod
                 from base b join pg_type t on t.oid = b.typbasetype where b.typtype = 'd')
               select b.attname, case when b.typtype = 'e' then 'enum' else b.typname end,
                      case when b.typcategory = 'A' and b.typelem <> 0 then
                        (select case when e.typtype = 'e' then 'enum' else e.typname end from pg_type e where e.oid = b.typelem) end
               from base b where b.typtype <> 'd' order by b.attnum""",
            table,
        )
        return [Column(*row) for row in found]

    def key(self, table):
        """The columns that tell rows apart; empty if whole rows must."""
        found = self.rows(
            """select a.attname from pg_index i
               join lateral unnest(i.indkey) with ordinality k(attnum, position) on true
               join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
               where i.indrelid = %s::regclass and (i.indisprimary or i.indisreplident)
                 and i.indisprimary = (select bool_or(p.indisprimary) from pg_index p where p.indrelid = i.indrelid)
               order by k.position""",
            table,
        )
        return [name for name, in found]

    def leaves(self, table, key):
        """By key, the relation that holds a row, and whether it is a partition."""
        names = ", ".join("t." + quote(column.name) for column in key)
        of = "(select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = t.tableoid)"
        with self.connection.cursor().copy(f"copy (select {of}, t.tableoid <> {literal(table)}::regclass, {names} from {table} t) to stdout") as copy:
            return {
                tuple(postgres_text(cell, c.kind, c.element) for cell, c in zip(cells, key)): (relation, is_partition == "t")
                for relation, is_partition, *cells in copy.rows()
            }

    def heirs(self, table):
        found = self.rows(
            """with recursive heir as (select %s::regclass::oid as oid union select i.inhrelid from heir join pg_inherits i on i.inhparent = heir.oid)
               select n.nspname || '.' || c.relname from heir join pg_class c using (oid) join pg_namespace n on n.oid = c.relnamespace order by c.oid""",
            table,
        )
        return [name for name, in found]

    def read(self, table, columns):
        names = ", ".join(quote(column.name) for column in columns)
        with self.connection.cursor().copy(f"copy (select {names} from {table}) to stdout") as copy:
            return [[None if cell is None else cell for cell in row] for row in copy.rows()]


class Folded:
    """A table whose rows lie in several tables that are no partitions of it, each with what its name tells."""

    def __init__(self, source, leaves):
        self.leaves, self.source = leaves, source
        groups = {group: Column(group, "text", None) for told in leaves.values() for group in told}
        own = {}
        for leaf in leaves:
            for column in source.columns(quote_table(leaf)):
                own.setdefault(column.name, column)
        self.columns = list(groups.values()) + list(own.values())
        keys = [key for key in (source.key(quote_table(leaf)) for leaf in leaves) if key]
        self.key = list(groups) + keys[0] if keys else []

    def read(self):
        """All rows, and by key the leaf of each."""
        rows, leaf_of = [], {}
        for leaf, told in self.leaves.items():
            columns = self.source.columns(quote_table(leaf))
            for cells in self.source.read(f"only {quote_table(leaf)}", columns):
                own = {c.name: postgres_text(cell, c.kind, c.element) for cell, c in zip(cells, columns)}
                row = [told.get(column.name, own.get(column.name)) for column in self.columns]
                rows.append(row)
                leaf_of[tuple(cell for cell, column in zip(row, self.columns) if column.name in self.key)] = (leaf, True)
        return rows, leaf_of


def folded_tables(source, arguments):
    leaves = {table: {leaf: {} for leaf in source.heirs(quote_table(table))} for table in arguments.inherit}
    for expression, table in arguments.pattern:
        matches = [(name, re.fullmatch(expression, name)) for name in source.tables(arguments.exclude) if name != table]
        leaves.setdefault(table, {}).update({name: match.groupdict() for name, match in matches if match})
        if source.oid(quote_table(table)) is not None:
            leaves[table][table] = {}
    return {table: Folded(source, of_table) for table, of_table in leaves.items()}


def quote(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def quote_table(table):
    schema, name = table.split(".", 1)
    return f"{quote(schema)}.{quote(name)}"


# --- current state ---


class Row:
    """One row of the current state: where each of its columns is found in the sorted change rows."""

    __slots__ = ("at", "elsewhere")

    def __init__(self, at, elsewhere):
        self.at = at
        self.elsewhere = elsewhere

    def place(self, column):
        return self.elsewhere.get(column, self.at) if self.elsewhere else self.at


def derive(rows, table, key, columns, wrong, arguments):
    """Applies the changes in order. Returns {key: Row}."""
    n_rows = rows.num_rows
    op, position = rows["_cdc_op"].to_pylist(), list(zip(rows["_cdc_lsn"].to_pylist(), rows["_cdc_seq"].to_pylist()))
    relation, unchanged = rows["_cdc_relation"].to_pylist(), rows["_cdc_unchanged"].to_pylist()
    keys = list(zip(*(canonical_column(rows, column) for column in columns if column.name in key))) if key else None
    names = {column.name for column in columns}
    old_rows = OldRows(rows, table, columns, wrong)
    state, deleted = {}, None
    # Until a snapshot has read a row, the stream may change it without the lake knowing it.
    first_strict = strict_from(rows, arguments.read_until)
    read_at = set()
    for i in range(n_rows):
        is_strict = i >= first_strict and not arguments.lax
        where = f"{table} at {lsn(position[i][0])} seq {position[i][1]}"
        if old_rows.maps[i] is not None and op[i] not in ("U", "D"):
            wrong.add("wrong old row", f"{where}: {op[i]} with an old row")
        if op[i] == "T":
            if relation[i] == table:
                state.clear()
            else:
                state = {k: row for k, row in state.items() if relation[row.at] != relation[i]}
            continue
        k = keys[i]
        if None in k:
            wrong.add("no key", f"{where}: {op[i]} with a NULL in its key {k}")
            continue
        if op[i] == "D":
            gone = state.pop(k, None)
            old_rows.check(i, gone and gone.place, where)
            if gone is None and is_strict:
                wrong.add("unknown row", f"{where}: D of a row that is not there, key {k}")
            deleted = (position[i], gone)
            continue
        before = state.get(k)
        if op[i] == "U":
            old_rows.check(i, before and before.place, where)
        if op[i] == "I" and before is not None and is_strict:
            wrong.add("unknown row", f"{where}: I of a row that is there already, key {k}")
        if op[i] == "U" and before is None and is_strict:
            wrong.add("unknown row", f"{where}: U of a row that is not there, key {k}")
        if op[i] not in ("I", "U", "R"):
            wrong.add("unknown operation", f"{where}: {op[i]!r}")
        if op[i] == "R":
            if (k, position[i]) in read_at:
                wrong.add("read twice", f"{where}: key {k}")
            read_at.add((k, position[i]))
        elsewhere = None
        if unchanged[i]:
            if op[i] == "I" and deleted is not None and deleted[0] == (position[i][0], position[i][1] - 1):
                before = deleted[1]
            elsewhere = {}
            for name in unchanged[i]:
                if before is None and i < first_strict:
                    # It must be read later.
                    elsewhere[name] = None
                elif before is None:
                    wrong.add("unknown value", f"{where}: {name} is unchanged, and no earlier row carries it, key {k}")
                elif name in names:
                    elsewhere[name] = before.place(name)
        state[k] = Row(i, elsewhere)
    return state


def strict_from(rows, read_until):
    """From where on every row that is changed must be known: behind the last point at which rows of the table were read, or nothing was found to be
    read, of which only the marker before it tells. A table that was emptied before the snapshot came to it has no row that was read; what was there
    before is known from the last point at which any table was read."""
    op, seqs, lsns = (rows[name].to_pylist() for name in ("_cdc_op", "_cdc_seq", "_cdc_lsn"))
    read = max((i for i, of_row in enumerate(op) if of_row == "R" or (of_row == "T" and seqs[i] < 0)), default=None)
    if read is not None:
        return read + 1
    return 0 if read_until is None else bisect.bisect_right(lsns, read_until)


class OldRows:
    """`_cdc_before` of all rows, and what it is held against: the cells of the rows before."""

    def __init__(self, rows, table, columns, wrong):
        self.maps = rows[BEFORE].to_pylist() if BEFORE in rows.column_names else [None] * rows.num_rows
        self.columns = {column.name: column for column in columns}
        is_needed = any(entries is not None for entries in self.maps)
        self.cells = {column.name: canonical_column(rows, column) for column in columns} if is_needed else {}
        self.wrong, self.table = wrong, table

    def check(self, i, place, where):
        """`place` tells for a column which row has its value."""
        entries = self.maps[i]
        if entries is None or place is None:
            return
        CHECKED["old rows"] += 1
        if not entries or len({name for name, _ in entries}) != len(entries):
            self.wrong.add("wrong old row", f"{where}: {shown(entries)}")
        for name, text in entries:
            column = self.columns.get(name)
            if column is None:
                continue
            if place(name) is None:
                continue
            want, have = self.cells[name][place(name)], postgres_text(text, column.kind, column.element)
            if have != want:
                self.wrong.add("wrong old row", f"{where}: {name} was {shown(want)}, and the old row has {shown(have)}")


CHECKED = collections.Counter()


def derive_keyless(rows, table, columns, wrong, arguments):
    """Rows without a key are told apart by all their cells."""
    cells = list(zip(*(canonical_column(rows, column) for column in columns)))
    relation = rows["_cdc_relation"].to_pylist()
    old_rows = OldRows(rows, table, columns, wrong)
    state = collections.Counter()
    ops = rows["_cdc_op"].to_pylist()
    # What the stream deletes before that was read at no point.
    first_strict = strict_from(rows, arguments.read_until)
    for i, (op, unchanged) in enumerate(zip(ops, rows["_cdc_unchanged"].to_pylist())):
        where = f"{table} row {i}"
        if unchanged:
            wrong.add("unknown value", f"{where}: {unchanged} unchanged in a table without key")
        if op in ("I", "R"):
            state[relation[i], cells[i]] += 1
        elif op == "D":
            if state[relation[i], cells[i]] <= 0 and i >= first_strict:
                wrong.add("unknown row", f"{where}: D of a row that is not there: {shown(cells[i])}")
            state[relation[i], cells[i]] -= 1
            old_rows.check(i, lambda column: i, where)
        elif op == "T":
            state = collections.Counter({k: n for k, n in state.items() if relation[i] != table and k[0] != relation[i]})
        else:
            wrong.add("unknown operation", f"{where}: {op!r} in a table without key")
    total = collections.Counter()
    for (_, cells_of), count in state.items():
        total[cells_of] += count
    return +total


# --- cells as text ---


def canonical_column(rows, column):
    """A lake column as canonical text; the exact text of `_cdc_raw` wins over a value that the type could not hold."""
    values = rows[column.name] if column.name in rows.column_names else pa.nulls(rows.num_rows)
    if pa.types.is_temporal(values.type):
        # Python's own datetime ends at year 9999 and has no instant before year 1.
        texts = temporal(values)
    else:
        texts = [lake_text(value, column.kind, column.element) for value in values.to_pylist()]
    raw = rows["_cdc_raw"]
    if raw.null_count != rows.num_rows:
        for i, entries in enumerate(raw.to_pylist()):
            for name, text in entries or ():
                if name == column.name:
                    texts[i] = postgres_text(text, column.kind, column.element)
    return texts


def temporal(values):
    if pa.types.is_date(values.type):
        return [None if value is None else value.isoformat() for value in values.to_pylist()]
    micros = values.cast(pa.int64()).to_pylist()
    zone = "+00" if values.type.tz else ""
    return [None if value is None else timestamp_text(value) + zone for value in micros]


def timestamp_text(micros):
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=micros)
    text = moment.isoformat(sep=" ")
    return text.rstrip("0") if "." in text else text


def lake_text(value, kind, element):
    if value is None:
        return None
    if element is not None and isinstance(value, list):
        return "{" + ",".join("NULL" if item is None else repr(lake_text(item, element, None)) for item in value) + "}"
    if isinstance(value, bool):
        return "t" if value else "f"
    if kind == "float4":
        return repr(struct.unpack("f", struct.pack("f", value))[0])
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, datetime.datetime):
        micros = (value.replace(tzinfo=None) - datetime.datetime(1970, 1, 1)) // datetime.timedelta(microseconds=1)
        return timestamp_text(micros) + ("+00" if value.tzinfo else "")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return str(value)


def postgres_text(text, kind, element):
    """Postgres's own text in the form that `lake_text` gives."""
    if text is None:
        return None
    if element is not None and kind not in ("int2vector", "oidvector", "name", "point", "box", "lseg", "line"):
        items = array_items(text)
        if items is None:
            return text
        return "{" + ",".join("NULL" if item is None else repr(postgres_text(item, element, None)) for item in items) + "}"
    if kind == "float4":
        return repr(struct.unpack("f", struct.pack("f", float(text)))[0])
    if kind == "float8":
        return repr(float(text))
    if kind == "time":
        hms, _, fraction = text.partition(".")
        return f"{hms}.{fraction:0<6}"
    return text


def array_items(text):
    """The elements of a one-dimensional array's text with lower bound 1; None for any other shape."""
    if not text.startswith("{") or text.startswith("{{"):
        return None
    items, i, end = [], 1, len(text) - 1
    while i < end:
        if text[i] == '"':
            item, i = [], i + 1
            while text[i] != '"':
                if text[i] == "\\":
                    i += 1
                item.append(text[i])
                i += 1
            items.append("".join(item))
            i += 1
        else:
            stop = text.find(",", i)
            stop = end if stop < 0 else stop
            word = text[i:stop]
            items.append(None if word == "NULL" else word)
            i = stop
        i += 1
    return items


# --- comparison ---


def check_table(source, schemas, files, table, wrong, arguments):
    name, folded = quote_table(table), arguments.folded.get(table)
    if folded:
        columns, key = folded.columns, folded.key
        wanted, leaf_of = folded.read()
    else:
        columns, key = source.columns(name), source.key(name)
        wanted = [[postgres_text(cell, c.kind, c.element) for cell, c in zip(row, columns)] for row in source.read(name, columns)]
    folder = schemas.folder_of(source.oid(name), table)
    paths = files.get(folder, [])
    if not paths:
        if wanted:
            wrong.add("missing table", f"{table} has {len(wanted)} rows in the source and no file in the lake")
        return 0
    rows = read(paths, table, wrong, schemas.names(folder), schemas.initial_defaults(folder))
    if "_cdc_relation" in rows.column_names and folder != table:
        # A `T` of the whole table names it as the lake does.
        renamed = pc.if_else(pc.equal(rows["_cdc_relation"], folder), table, rows["_cdc_relation"])
        rows = rows.set_column(rows.schema.get_field_index("_cdc_relation"), "_cdc_relation", renamed)
    for column in columns:
        if column.name not in rows.column_names and any(row[columns.index(column)] is not None for row in wanted):
            wrong.add("missing column", f"{table}.{column.name}")
    if key:
        state = derive(rows, table, key, columns, wrong, arguments)
        compare(table, columns, key, wanted, state, rows, wrong)
        if not arguments.renamed_leaves:
            leaf_of = leaf_of if folded else source.leaves(name, [c for c in columns if c.name in key])
            check_leaves(leaf_of, table, state, rows, wrong)
    else:
        have = derive_keyless(rows, table, columns, wrong, arguments)
        want = collections.Counter(tuple(row) for row in wanted)
        for row, count in (want - have).items():
            wrong.add("missing row", f"{table}: {count} × {shown(row)}")
        for row, count in (have - want).items():
            wrong.add("extra row", f"{table}: {count} × {shown(row)}")
    return rows.num_rows


def check_leaves(leaves, table, state, rows, wrong):
    """A row that was read, and not changed since, is of the leaf that holds it; or of the root where all are."""
    op, relation = rows["_cdc_op"].to_pylist(), rows["_cdc_relation"].to_pylist()
    is_by_leaf = any(name != table for name in relation)
    for k, row in state.items():
        if op[row.at] == "R" and k in leaves and (is_by_leaf or not leaves[k][1]) and relation[row.at] != leaves[k][0]:
            wrong.add("wrong relation", f"{table} key {shown(k)}: lake {relation[row.at]}, source {leaves[k][0]}")


def compare(table, columns, key, wanted, state, rows, wrong):
    at = [i for i, column in enumerate(columns) if column.name in key]
    by_key = {tuple(row[i] for i in at): row for row in wanted}
    for k in sorted(by_key.keys() - state.keys(), key=repr):
        wrong.add("missing row", f"{table} key {shown(k)} is in the source and not in the lake")
    for k in sorted(state.keys() - by_key.keys(), key=repr):
        row = state[k]
        last = f"{lsn(rows['_cdc_lsn'][row.at].as_py())} seq {rows['_cdc_seq'][row.at].as_py()}"
        wrong.add("extra row", f"{table} key {shown(k)} is in the lake (last change at {last}) and not in the source")
    common = [k for k in state if k in by_key]
    for i, column in enumerate(columns):
        # Only what the state needs is turned into text.
        places = pa.array([state[k].place(column.name) for k in common], pa.int64())
        needed = [name for name in ("_cdc_raw", column.name) if name in rows.column_names]
        have = canonical_column(rows.select(needed).take(places), column)
        for k, place, value in zip(common, places.to_pylist(), have):
            want = by_key[k][i]
            if place is None:
                wrong.add("unknown value", f"{table}.{column.name} key {shown(k)}: it is unchanged, and no row carries it")
                continue
            if value != want:
                last = lsn(rows["_cdc_lsn"][state[k].at].as_py())
                wrong.add("different value", f"{table}.{column.name} key {shown(k)} (last change at {last}): lake {shown(value)}, source {shown(want)}")


def shown(value):
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:150]}… ({len(text)} characters)"


if __name__ == "__main__":
    try:
        main()
    except (psycopg.Error, OSError, pa.ArrowException, duckdb.Error) as error:
        print(f"could not be checked: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
