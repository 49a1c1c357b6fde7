"""A journal of changes: what was done to the source, cell by cell as Postgres prints it; and the comparison of a lake with it.

Every change is made through a `Journal`, which notes operation, relation, old and new row as text. A lake must hold exactly these
changes of each table, in this order, and nothing else. Knows nothing of the daemon but how its files are to be read; table
and column names that are spelt differently in the lake are looked up in its log.
"""

import argparse
import collections
import dataclasses
import glob
import json
import os
import pickle
import sys
import urllib.parse

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

import cells
from verify import BEFORE, METADATA, SETTINGS, SHOWN, Differences, find, lsn, quoted, shown

DUCKDB = duckdb.connect()
# Names of types and relations are printed with their schema, as the daemon's session has it.
PINNED = SETTINGS + " -c search_path=pg_catalog"


@dataclasses.dataclass
class Table:
    """What the catalogs say of a root."""

    schema: str
    name: str
    columns: list
    kinds: dict

    @property
    def full_name(self):
        return f"{self.schema}.{self.name}"


@dataclasses.dataclass
class Change:
    """What one statement did to one row. `old` and `new` are {column: text}."""

    op: str
    table: str
    leaf: str
    old: "dict | None" = None
    new: "dict | None" = None
    # relreplident of root and leaf at that time.
    root_identity: str = "d"
    leaf_identity: str = "d"


class Journal:
    """The hand that changes the source."""

    def __init__(self, dsn, encoding="UTF8"):
        self.connection = psycopg.connect(dsn, options=f"{PINNED} -c client_encoding={encoding}", autocommit=True)
        # Catalogs are always read as text, which psycopg makes of UTF-8 only.
        self.catalogs = psycopg.connect(dsn, options=f"{PINNED} -c client_encoding=UTF8", autocommit=True)
        self.changes, self.tables, self.kinds = [], {}, {}
        self.known = {}

    def bytes_of(self, sql):
        return sql.encode("utf-8", "surrogateescape")

    def ddl(self, sql):
        """Runs SQL that changes no row."""
        self.connection.execute(self.bytes_of(sql))
        self.known.clear()

    def ask(self, sql, *parameters):
        return self.catalogs.execute(sql, parameters).fetchall()

    def cells(self, sql):
        """The rows of a query, every cell as the bytes that the server sends."""
        cursor = self.connection.cursor()
        cursor.execute(self.bytes_of(sql))
        result = cursor.pgresult
        return [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]

    # --- changes; `table` is quoted as SQL wants it ---

    def insert(self, table, columns, values):
        into = f"({', '.join(map(quote, columns))})" if columns else ""
        source = f"values {values}" if columns else "default values"
        facts = self.facts(table)
        for row in self.cells(f"insert into {table} {into} {source} returning {self.list(facts)}"):
            self.note("I", facts, row[0], None, row)

    def insert_select(self, table, columns, query):
        facts = self.facts(table)
        for row in self.cells(f"insert into {table} ({', '.join(map(quote, columns))}) {query} returning {self.list(facts)}"):
            self.note("I", facts, row[0], None, row)

    def update(self, table, changes, where):
        facts = self.facts(table)
        before = self.cells(f"select {self.list(facts)} from {table} where {where} for update")
        after = self.cells(f"update {table} set {changes} where {where} returning {self.list(facts)}")
        if len(before) != len(after):
            raise RuntimeError(f"{table}: {len(before)} rows before and {len(after)} after")
        for old, new in zip(before, after):
            if old[0] == new[0]:
                self.note("U", facts, new[0], old, new)
            else:
                self.note("D", facts, old[0], old, None)
                self.note("I", facts, new[0], None, new)
        return len(after)

    def delete(self, table, where):
        facts = self.facts(table)
        for row in self.cells(f"delete from {table} where {where} returning {self.list(facts)}"):
            self.note("D", facts, row[0], row, None)

    def note(self, op, facts, leaf, old, new):
        leaf = self.leaf(int(leaf))
        row = lambda cells_of: None if cells_of is None else dict(zip(facts.columns, cells_of[1:]))
        root, = self.identity(facts.full_name)
        if leaf[0] not in self.known:
            self.known[leaf[0]], = self.ask("select relreplident::text from pg_class where oid = %s", leaf[0])[0]
        of_leaf = self.known[leaf[0]]
        self.changes.append(Change(op, facts.full_name, leaf[1], row(old), row(new), root, of_leaf))

    # --- catalogs ---

    def list(self, facts):
        return ", ".join(["tableoid", *map(quote, facts.columns)])

    def facts(self, table):
        if table not in self.known:
            (oid, schema, name), = self.ask("select c.oid, n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = %s::regclass", table)
            columns = self.ask("select attname, atttypid from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped and attgenerated = '' order by attnum", oid)
            kinds = {column: cells.kind_of(self.catalogs, type_oid, self.kinds) for column, type_oid in columns}
            facts = Table(schema, name, [column for column, _ in columns], kinds)
            before = self.tables.get(facts.full_name)
            if before is not None:
                facts.kinds = {**before.kinds, **kinds}
            self.known[table] = self.tables[facts.full_name] = facts
            self.known[facts.full_name, "identity"] = self.ask("select relreplident::text from pg_class where oid = %s", oid)[0]
        return self.known[table]

    def identity(self, full_name):
        return self.known[full_name, "identity"]

    def leaf(self, oid):
        if ("leaf", oid) not in self.known:
            self.known["leaf", oid] = (oid, self.ask("select n.nspname || '.' || c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = %s", oid)[0][0])
        return self.known["leaf", oid]

    def save(self, path):
        with open(path, "wb") as file:
            pickle.dump((self.changes, self.tables), file)

    def load(self, path):
        if os.path.exists(path):
            with open(path, "rb") as file:
                self.changes, self.tables = pickle.load(file)


def quote(name):
    return '"' + name.replace('"', '""') + '"'


# --- the lake ---


@dataclasses.dataclass
class Rows:
    """All rows of one table in order."""

    paths: list
    table: pa.Table
    # Postgres's column name to the lake's.
    names: dict
    # What identifies each row, as the schema document of its file says.
    keys: list


class Lake:
    """A lake in a folder, and where its log says that each table lies."""

    def __init__(self, url, wrong):
        self.folder = urllib.parse.unquote(urllib.parse.urlparse(url).path)
        self.wrong = wrong
        self.files = find(self.folder, wrong)
        self.places, self.documents, self.schema_of = {}, {}, {}
        for path in sorted(glob.glob(f"{self.folder}/_tributary/log/*.json")):
            with open(path, encoding="utf-8") as file:
                entry = json.load(file)
            for event in entry.get("events", ()):
                if "document" in event:
                    self.places[event["schema_name"], event["table_name"]] = event
                    document = event["document"]
                    self.documents[event["path"], event["schema_id"]] = json.loads(document) if isinstance(document, str) else document
            for of_table in entry.get("tables", ()):
                self.schema_of.update((one["key"], of_table["schema_id"]) for one in of_table["files"])

    def rows(self, table):
        place = self.places.get((table.schema, table.name))
        if place is None:
            return None
        document = self.documents[place["path"], place["schema_id"]]
        names = {column["source_name"]: column["name"] for column in document["columns"] if not column["dropped"]}
        paths = self.files.get(place["path"].replace("/", ".", 1), [])
        if not paths:
            return None
        parts = []
        for path in paths:
            part = pq.ParquetFile(path).read().replace_schema_metadata(None)
            schema_id = self.schema_of.get(os.path.relpath(path, self.folder))
            if schema_id is None:
                self.wrong.add("unlogged file", path)
                continue
            parts.append(part.append_column(SCHEMA, pa.array([schema_id] * part.num_rows, pa.int32())))
        # A type that changed is widened in place in later files: the widest wins.
        rows = pa.concat_tables(parts, promote_options="permissive").sort_by([("_cdc_lsn", "ascending"), ("_cdc_seq", "ascending")]).combine_chunks()
        key = {schema_id: self.documents[place["path"], schema_id]["key"] for schema_id in set(rows[SCHEMA].to_pylist())}
        return Rows(paths, rows.drop_columns([SCHEMA]), names, [key[schema_id] for schema_id in rows[SCHEMA].to_pylist()])


SCHEMA = "schema version"


# --- comparison ---


class Expected(collections.namedtuple("Expected", "op leaf cells must old before", defaults=[None])):
    """A row that the lake must have. `cells` must be exact or have their text in `_cdc_raw`; those not in `must` may be left out.

    `before` is what `_cdc_before` must say, where a lake has it.
    """


def expect(changes, table, via_root, passes, rows):
    """The rows of all changes: what README's chapter on the lake promises. `passes` is the row filter of the publication.

    Whether an update changes the key, and is a deletion and an insertion then, is for the key to say that the lake has written down.
    Rows that cannot be found by that key are what nobody may write: those are refused here, whatever the cells say.
    """
    ops, wanted = rows.table["_cdc_op"].to_pylist(), []
    for change in changes:
        leaf = table.full_name if via_root else change.leaf
        op, old, new = change.op, change.old, change.new
        if passes is not None:
            before, after = (row is not None and passes(row) for row in (old, new))
            if not before and not after:
                continue
            # The filter makes an insert of an update, which lacks what the update did not touch (T12), or a deletion.
            op = op if before and after else "I" if after else "D"
        at = len(wanted)
        key = rows.keys[at] if at < len(rows.keys) else []
        whole = set(old if new is None else new)
        if op == "I":
            wanted.append(Expected("I", leaf, new, whole, old))
            continue
        is_full = change.leaf_identity == "f" and (change.root_identity == "f" or not via_root)
        # What Postgres sends of an old row: all, or the key. A NULL counts only where root and leaf are FULL (T24).
        known = whole if change.leaf_identity == "f" or not key else set(key)
        before = {name: text for name, text in old.items() if name in known and (is_full or text is not None)}
        deleted = Expected("D", leaf, old, whole if is_full or not key else set(key), None, before)
        if op == "D":
            wanted.append(deleted)
        elif key and all(old[name] == new[name] for name in key):
            # The identity may be wider than the key, so that a deletion and an insertion are right too.
            if ops[at:at + 2] == ["D", "I"]:
                wanted += [deleted, Expected("I", leaf, new, whole, old)]
            else:
                # A key that stays is sent only if it is out of line (T09).
                is_sent = change.leaf_identity == "f" or any(len(old[name]) > 2000 for name in key)
                wanted.append(Expected("U", leaf, new, whole, old, before if is_sent else None))
        else:
            wanted += [deleted, Expected("I", leaf, new, whole, old)]
    return wanted


def compare(journal_path, url, via_root, wrong, tally, wants=None, filters=None, has_before=False):
    """Compares a lake with the tables of a journal that it should have. Returns the lake; `tally` counts for people to see."""
    with open(journal_path, "rb") as file:
        changes, tables = pickle.load(file)
    lake = Lake(url, wrong)
    by_table = collections.defaultdict(list)
    for change in changes:
        by_table[change.table].append(change)
    for name, of_table in sorted(by_table.items()):
        if wants is not None and not wants(name):
            continue
        table = tables[name]
        passes = (filters or {}).get(name)
        rows = lake.rows(table)
        if rows is None:
            if any(passes is None or passes(row) for change in of_table for row in (change.old, change.new) if row is not None):
                wrong.add("missing table", f"{name}: {len(of_table)} changes, and no file")
            continue
        wanted = expect(of_table, table, via_root, passes, rows)
        compare_table(table, wanted, rows, wrong, tally)
        if has_before:
            compare_before(table, wanted, rows, wrong, tally)
        elif BEFORE in rows.table.column_names:
            wrong.add("unexpected column", f"{name}.{BEFORE}")
        compare_readers(name, rows, wrong)
        tally["tables"] += 1
    return lake


def compare_table(table, wanted, rows, wrong, tally):
    name, have = table.full_name, rows.table
    ops, leaves = have["_cdc_op"].to_pylist(), have["_cdc_relation"].to_pylist()
    if [(row.op, row.leaf) for row in wanted] != list(zip(ops, leaves)):
        pairs = [f"{row.op} {row.leaf}" for row in wanted], [f"{op} {leaf}" for op, leaf in zip(ops, leaves)]
        first = next((i for i, (one, other) in enumerate(zip(*pairs)) if one != other), min(map(len, pairs)))
        wrong.add("changes", f"{name}: {len(pairs[0])} changes were made and the lake has {len(pairs[1])}; the first that differ: {pairs[0][first:first + 3]}, lake {pairs[1][first:first + 3]}")
        return
    unchanged = [set(names or ()) for names in have["_cdc_unchanged"].to_pylist()]
    raw = [dict(entries or ()) for entries in have["_cdc_raw"].to_pylist()]
    tally["rows"] += len(ops)
    used_raw = [set() for _ in raw]
    used_unchanged = [set() for _ in raw]
    for column in sorted({column for row in wanted for column in row.cells}):
        lake_name = rows.names.get(column)
        if lake_name is None or lake_name not in have.column_names:
            if any(row.cells.get(column) is not None for row in wanted):
                wrong.add("missing column", f"{name}.{column}")
            continue
        arrow_type, kind = have[lake_name].type, table.kinds[column]
        values = cells.plain(have[lake_name])
        where = lambda i: f"{name}.{column} ({kind.name} as {arrow_type}) change {i} {ops[i]} at {lsn(have['_cdc_lsn'][i].as_py())}"
        for i, (row, value) in enumerate(zip(wanted, values)):
            text, exact = row.cells.get(column), raw[i].get(lake_name)
            if lake_name in unchanged[i]:
                used_unchanged[i].add(lake_name)
                tally["unchanged"] += 1
                if row.old is None or row.old.get(column) != text or value is not None or exact is not None or text is None or len(text) < 32:
                    wrong.add("unchanged", f"{where(i)}: {shown(text)} was {shown(row.old and row.old.get(column))}")
                continue
            tally["cells"] += 1
            if exact is not None:
                used_raw[i].add(lake_name)
                tally["raw"] += 1
                if text is None or exact != cells.raw_text(text):
                    wrong.add("different raw text", f"{where(i)}: lake {shown(exact)}, source {shown(text)}")
            elif value is None:
                if text is not None and column in row.must:
                    wrong.add("silent NULL", f"{where(i)}: source {shown(text)}")
                elif text is not None:
                    tally["left out"] += 1
            elif text is None or not cells.says(value, arrow_type, kind, text):
                wrong.add("different value", f"{where(i)}: lake {shown(value)}, source {shown(text)}")
    for i, names in enumerate(raw):
        if set(names) != used_raw[i]:
            wrong.add("stray raw", f"{name} change {i}: {sorted(set(names) - used_raw[i])}")
        if unchanged[i] != used_unchanged[i]:
            wrong.add("stray unchanged", f"{name} change {i}: {sorted(unchanged[i] - used_unchanged[i])}")
    for field in have.schema:
        if field.name not in METADATA + [BEFORE] and field.name not in rows.names.values() and have[field.name].null_count != have.num_rows:
            wrong.add("unexpected column", f"{name}.{field.name}")


def compare_before(table, wanted, rows, wrong, tally):
    """What is known of the old row, exactly as Postgres printed it then; and of no row more than that."""
    have = rows.table
    if BEFORE not in have.column_names:
        wrong.add("missing column", f"{table.full_name}.{BEFORE}")
        return
    for i, (row, entries) in enumerate(zip(wanted, have[BEFORE].to_pylist())):
        want = row.before and {rows.names[name]: text if text is None else cells.raw_text(text) for name, text in row.before.items()}
        if (None if entries is None else sorted(entries)) != (None if want is None else sorted(want.items())):
            wrong.add("old row", f"{table.full_name} change {i} {row.op}: lake {shown(entries)}, source {shown(want)}")
        tally["old rows" if entries is not None else "rows without an old row"] += 1


def compare_readers(name, rows, wrong):
    """DuckDB must read the same as PyArrow, value by value."""
    query = f"select * from read_parquet({quoted(rows.paths)}, union_by_name = true, hive_partitioning = false) order by _cdc_lsn, _cdc_seq"
    other = DUCKDB.execute(query).to_arrow_table()
    if other.column_names != rows.table.column_names and sorted(other.column_names) != sorted(rows.table.column_names):
        wrong.add("readers disagree", f"{name}: columns {set(other.column_names) ^ set(rows.table.column_names)}")
        return
    for column in rows.table.column_names:
        if has_no_floats(rows.table[column].type) and rows.table[column].type == other[column].type and rows.table[column].equals(other[column]):
            continue
        one, two = cells.plain(rows.table[column]), cells.plain(other[column])
        for i, (a, b) in enumerate(zip(one, two, strict=True)):
            if a != b and repr(a) != repr(b):
                wrong.add("readers disagree", f"{name}.{column} row {i}: PyArrow {shown(a)}, DuckDB {shown(b)}")
                break


def compare_lakes(one, other, wrong, wants=None):
    """Two pipelines over the same log must have the same rows, column by column. Files may be cut differently."""
    both = sorted(one.files.keys() | other.files.keys())
    for name in both:
        if wants is not None and not wants(name):
            continue
        parts = []
        for lake in (one, other):
            paths = lake.files.get(name, [])
            tables = [pq.ParquetFile(path).read().replace_schema_metadata(None) for path in paths]
            parts.append(pa.concat_tables(tables, promote_options="permissive").sort_by([("_cdc_lsn", "ascending"), ("_cdc_seq", "ascending")]).combine_chunks() if tables else None)
        left, right = parts
        if left is None or right is None:
            wrong.add("lakes differ", f"{name} is in one lake only")
            continue
        if left.num_rows != right.num_rows or {f.name: f.type for f in left.schema} != {f.name: f.type for f in right.schema}:
            wrong.add("lakes differ", f"{name}: {left.num_rows} and {right.num_rows} rows, schemas {[f for f in left.schema if f not in list(right.schema)][:5]}")
            continue
        for column in left.column_names:
            if has_no_floats(left[column].type) and left[column].equals(right[column]):
                continue
            # Bit for bit: text, so that NaN equals itself and -0 is not 0.
            a, b = map(repr, cells.plain(left[column])), map(repr, cells.plain(right[column]))
            for i, (x, y) in enumerate(zip(a, b)):
                if x != y:
                    wrong.add("lakes differ", f"{name}.{column} row {i}: {shown(x)} and {shown(y)}")
                    break


def has_no_floats(arrow_type):
    return "float" not in str(arrow_type) and "double" not in str(arrow_type)


def run(doc, scene):
    """The command line of a scene: `create` and `change` it, or `check` its lakes."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("command", choices=["create", "change", "check"])
    parser.add_argument("--dsn")
    parser.add_argument("--journal")
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--lake", action="append", default=[], help="publication=url")
    parser.add_argument("--before", action="store_true", help="the lakes have the old rows")
    arguments = parser.parse_args()
    try:
        if arguments.command == "check":
            wrong, tally = Differences(), collections.Counter()
            for lake in arguments.lake:
                publication, url = lake.split("=", 1)
                compare(arguments.journal, url, publication.endswith("root"), wrong, tally, has_before=arguments.before, **scene.compared(publication))
            sys.exit(finish(wrong, tally))
        hand = Journal(arguments.dsn)
        if arguments.command == "create":
            scene.create(hand)
        else:
            hand.load(arguments.journal)
            scene.change(hand, arguments.round)
            hand.save(arguments.journal)
            print(f"{len(hand.changes)} changes")
    except (psycopg.Error, OSError) as error:
        print(f"could not be checked: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)


def finish(wrong, tally):
    """Prints what is wrong; the exit code."""
    wrong.print()
    print(("NOT EQUAL: " if wrong.count else "equal: ") + ", ".join(f"{count} {what}" for what, count in sorted(tally.items())))
    return 1 if wrong.count else 0
