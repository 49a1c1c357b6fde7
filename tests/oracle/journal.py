"""A journal of changes: what was done to the source, cell by cell as Postgres prints it; and the comparison of a lake with it.

Every change is made through a `Journal`, which notes operation, relation, old and new row as text. A lake must hold exactly these
changes of each table, in this order, and nothing else. Knows nothing of the daemon but how its files are to be read; table
and column names that are spelt differently in the lake are looked up in its log.
"""

import collections
import dataclasses
import glob
import json
import os
import pickle
import urllib.parse

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

import cells
from verify import METADATA, SETTINGS, SHOWN, Differences, find, lsn, quoted, shown

# Names of types and relations are printed with their schema, as the daemon's session has it.
PINNED = SETTINGS + " -c search_path=pg_catalog"


@dataclasses.dataclass
class Table:
    """What the catalogs say of a root."""

    schema: str
    name: str
    columns: list
    kinds: dict
    key: list

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
    # relreplident of root and leaf at that time, and the columns that identify a row there.
    root_identity: str = "d"
    leaf_identity: str = "d"
    leaf_key: tuple = ()


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
        of_leaf = self.ask("select c.relreplident::text from pg_class c where c.oid = %s", leaf[0])[0][0] if leaf[0] not in self.known else self.known[leaf[0]]
        self.known[leaf[0]] = of_leaf
        self.changes.append(Change(op, facts.full_name, leaf[1], row(old), row(new), root, of_leaf, self.leaf_key(leaf[0], of_leaf)))

    # --- catalogs ---

    def list(self, facts):
        return ", ".join(["tableoid", *map(quote, facts.columns)])

    def facts(self, table):
        if table not in self.known:
            (oid, schema, name), = self.ask("select c.oid, n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = %s::regclass", table)
            columns = self.ask("select attname, atttypid from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped and attgenerated = '' order by attnum", oid)
            kinds = {column: cells.kind_of(self.catalogs, type_oid, self.kinds) for column, type_oid in columns}
            key = [column for column, in self.ask(
                """select a.attname from pg_index i cross join unnest(i.indkey) with ordinality k(number, place)
                   join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number where i.indrelid = %s and i.indisprimary order by place""", oid)]
            facts = Table(schema, name, [column for column, _ in columns], kinds, key)
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

    def leaf_key(self, oid, identity):
        """The columns of the replica identity."""
        if ("key", oid) not in self.known:
            which = {"d": "i.indisprimary", "i": "i.indisreplident"}.get(identity, "false")
            self.known["key", oid] = tuple(column for column, in self.ask(
                f"""select a.attname from pg_index i cross join unnest(i.indkey) k(number)
                    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.number where i.indrelid = %s and {which}""", oid))
        return self.known["key", oid]

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


class Lake:
    """A lake in a folder, and where its log says that each table lies."""

    def __init__(self, url, wrong):
        self.folder = urllib.parse.unquote(urllib.parse.urlparse(url).path)
        self.wrong = wrong
        self.files = find(self.folder, wrong)
        self.places = {}
        for path in sorted(glob.glob(f"{self.folder}/_tributary/log/*.json")):
            with open(path, encoding="utf-8") as file:
                for event in json.load(file).get("events", ()):
                    if "document" in event:
                        self.places[event["schema_name"], event["table_name"]] = event

    def rows(self, table):
        place = self.places.get((table.schema, table.name))
        if place is None:
            return None
        document = place["document"]
        document = json.loads(document) if isinstance(document, str) else document
        names = {column["source_name"]: column["name"] for column in document["columns"] if not column["dropped"]}
        paths = self.files.get(place["path"].replace("/", ".", 1), [])
        if not paths:
            return None
        # A type that changed is widened in place in later files: the widest wins.
        parts = [pq.ParquetFile(path).read().replace_schema_metadata(None) for path in paths]
        rows = pa.concat_tables(parts, promote_options="permissive").sort_by([("_cdc_lsn", "ascending"), ("_cdc_seq", "ascending")])
        return Rows(paths, rows.combine_chunks(), names)


# --- comparison ---


class Expected(collections.namedtuple("Expected", "op leaf cells must old")):
    """A row that the lake must have. `cells` must be exact or NULL with the text in `_cdc_raw`; those not in `must` may be left out."""


def expected(change, table, via_root):
    """The rows of a change: what README's chapter on the lake promises."""
    leaf = table.full_name if via_root else change.leaf
    columns = list(change.new or change.old)
    whole = set(columns)
    if change.op == "I":
        return [Expected("I", leaf, change.new, whole, None)]
    is_full = change.leaf_identity == "f" and (change.root_identity == "f" or not via_root)
    old_must = whole if is_full else set(change.leaf_key) & whole
    if change.op == "D":
        return [Expected("D", leaf, change.old, old_must, None)]
    key = table.key or change.leaf_key
    if table.key and all(change.old[name] == change.new[name] for name in table.key):
        return [Expected("U", leaf, change.new, whole, change.old)]
    if not table.key and not is_full and all(change.old[name] == change.new[name] for name in key):
        return [Expected("U", leaf, change.new, whole, change.old)]
    return [Expected("D", leaf, change.old, old_must, None), Expected("I", leaf, change.new, whole, change.old)]


def compare(journal_path, url, via_root, wrong, tally, wants=None):
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
        wanted = [row for change in of_table for row in expected(change, table, via_root)]
        rows = lake.rows(table)
        if rows is None:
            wrong.add("missing table", f"{name}: {len(wanted)} changes, and no file")
            continue
        compare_table(table, wanted, rows, wrong, tally)
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
        if field.name not in METADATA and field.name not in rows.names.values() and have[field.name].null_count != have.num_rows:
            wrong.add("unexpected column", f"{name}.{field.name}")


def compare_readers(name, rows, wrong):
    """DuckDB must read the same as PyArrow, value by value."""
    database = duckdb.connect()
    query = f"select * from read_parquet({quoted(rows.paths)}, union_by_name = true, hive_partitioning = false) order by _cdc_lsn, _cdc_seq"
    other = database.execute(query).to_arrow_table()
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


def finish(wrong, tally):
    """Prints what is wrong; the exit code."""
    wrong.print()
    print(("NOT EQUAL: " if wrong.count else "equal: ") + ", ".join(f"{count} {what}" for what, count in sorted(tally.items())))
    return 1 if wrong.count else 0
