#!/usr/bin/env python3
"""Every type of Postgres and the values at its edges, through insert, update and delete.

    matrix.py create  --dsn …                       makes types, tables and the publication
    matrix.py change  --dsn … --journal FILE [--round N]   changes rows, and writes down what Postgres prints for each
    matrix.py check   --journal FILE --lake file:///… [--lake file:///…]   compares lakes with the journal, and with each other

--encoding UTF8, LATIN1 or SQL_ASCII: what the database is made of. Exit code 0: exact. 1: not. 2: it could not be checked.
"""

import argparse
import collections
import sys

import psycopg

import edges
import journal
from edges import Sql
from verify import Differences

FAMILIES = {"UTF8": edges.FAMILIES, "LATIN1": edges.LATIN1, "SQL_ASCII": edges.SQL_ASCII}
# Client encodings: every database but SQL_ASCII converts to UTF-8.
CLIENT = {"UTF8": "UTF8", "LATIN1": "UTF8", "SQL_ASCII": "SQL_ASCII"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["create", "change", "check"])
    parser.add_argument("--dsn")
    parser.add_argument("--journal")
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--encoding", default="UTF8", choices=list(FAMILIES))
    parser.add_argument("--lake", action="append", default=[], help="a lake of publication matrix")
    parser.add_argument("--core", action="append", default=[], help="a lake of publication core")
    arguments = parser.parse_args()
    if arguments.command == "check":
        sys.exit(check(arguments))
    hand = journal.Journal(arguments.dsn, CLIENT[arguments.encoding])
    tables = Tables(hand, arguments.encoding)
    if arguments.command == "create":
        tables.create()
    else:
        hand.load(arguments.journal)
        tables.change(arguments.round)
        hand.save(arguments.journal)
        print(f"{len(hand.changes)} changes")


def check(arguments):
    wrong = Differences()
    lakes, tally = [], collections.Counter()
    is_core = lambda table: "_core_" in table or ".large_" in table
    for url in arguments.lake:
        lakes.append(journal.compare(arguments.journal, url, False, wrong, tally, has_before=True))
    for url in arguments.core:
        lakes.append(journal.compare(arguments.journal, url, False, wrong, tally, is_core, has_before=True))
    for i, other in enumerate(lakes[1:], start=1):
        journal.compare_lakes(lakes[0], other, wrong, is_core if i >= len(arguments.lake) else None)
    return journal.finish(wrong, tally)


class Tables:
    """The tables of the matrix: a family of types each, plain and as arrays, by replica identity."""

    def __init__(self, hand, encoding):
        self.hand, self.encoding = hand, encoding
        (version, self.database), = hand.ask("select current_setting('server_version_num')::int / 10000, current_database()")
        self.extensions = {name for name, in hand.ask("select name from pg_available_extensions")}
        self.version = version
        self.left_out = []

    def create(self):
        setup = edges.SETUP
        self.hand.ddl(setup)
        for extension in sorted({edge.extension for family in FAMILIES[self.encoding].values() for edge in family if edge.extension}):
            if extension in self.extensions:
                self.hand.ddl(f'create extension "{extension}" schema m cascade')
        # What a role or database says of output must not reach the lake (T87).
        for setting in ("DateStyle = 'German, DMY'", "IntervalStyle = iso_8601", "TimeZone = 'Asia/Kolkata'", "bytea_output = escape",
                        "extra_float_digits = -15", "search_path = m"):
            self.hand.ddl(f"alter database {journal.quote(self.database)} set {setting}")
            self.hand.ddl(f"alter role postgres set {setting}")
        for table, columns in self.each():
            self.hand.ddl(f"create table {table} (id int8 primary key, touched int4, {', '.join(f'{name} {edge_type}' for name, edge_type, _ in columns)})")
            identity = table.rsplit("_", 1)[1]
            if identity in ("full", "keyless"):
                self.hand.ddl(f"alter table {table} replica identity full")
            if identity == "keyless":
                self.hand.ddl(f"alter table {table} drop constraint {table.split('.')[1]}_pkey")
            for name, _, _ in columns:
                # Out of line even if small: an update then leaves it unchanged.
                self.hand.ddl(f"do $$ begin alter table {table} alter {name} set storage external; exception when feature_not_supported then null; end $$")
        if self.encoding == "UTF8":
            self.hand.ddl("create table m.large_default (id int8 primary key, touched int4, t text, b bytea, j jsonb, n numeric, a text[])")
            self.hand.ddl("create table m.large_full (like m.large_default including all)")
            self.hand.ddl("alter table m.large_full replica identity full")
        self.hand.ddl("create publication matrix for all tables")
        # What must be read as binary, and so must not stand beside what may not.
        core = [table for table, _ in self.each() if "_core_" in table] + ["m.large_default", "m.large_full"] * (self.encoding == "UTF8")
        self.hand.ddl(f"create publication core for table {', '.join(core)}")
        for what in self.left_out:
            print(f"not on this server: {what}")

    def each(self):
        """(table, [(column, type, values as SQL)]) of every table."""
        for family, of_family in FAMILIES[self.encoding].items():
            shapes = collections.defaultdict(list)
            for number, edge in enumerate(of_family):
                if not self.has(edge):
                    continue
                values = [self.cast(value, edge.type) for value in edge.values]
                part = "core" if edge.is_core else "other"
                shapes[part].append((f"c{number}", edge.type, values))
                if edge.has_array:
                    # Only a domain over an array makes an array of arrays; its elements have a text form only.
                    part = "other" if edge.type in ("m.words", "m.grid") else part
                    shapes[f"{part}_array"].append((f"a{number}", f"{edge.type}[]", self.arrays(values, edge.type)))
            for part, columns in shapes.items():
                for identity in ("default", "full") if part.endswith("array") else ("default", "full", "keyless"):
                    yield f"m.t_{family}_{part}_{identity}", columns

    def has(self, edge):
        if not edge.since <= self.version <= edge.until or (edge.extension and edge.extension not in self.extensions):
            return False
        if edge.optional:
            try:
                self.hand.cells(f"select {self.cast(edge.values[0], edge.type)}")
            except psycopg.Error as error:
                self.left_out.append(f"{edge.type}: {str(error).splitlines()[0]}")
                return False
        return True

    def cast(self, value, edge_type):
        return f"({value})::{edge_type}" if isinstance(value, Sql) else f"{literal(value)}::{edge_type}"

    def arrays(self, values, edge_type):
        kind = f"{edge_type}[]"
        small = [value for value in values if "repeat(" not in value or "131072" not in value]
        first, last = small[0], small[-1]
        shapes = [f"'{{}}'::{kind}", f"array[{', '.join(small)}]::{kind}", f"array[{first}, null, {last}]::{kind}", f"array[null]::{kind}", f"array[{last}]::{kind}"]
        # The elements of a domain over an array or of such a type cannot be put in two dimensions by a constructor.
        shapes.append(f"array_fill({first}, array[2, 1])::{kind}")
        shapes.append(f"array_fill({last}, array[2], array[0])::{kind}")
        shapes.append(f"array_fill({last}, array[1, 2, 1], array[-5, 1, 2147483640])::{kind}")
        shapes.append(f"array_cat(array_fill({first}, array[1, 2]), array_fill(null::{edge_type}, array[1, 2]))::{kind}")
        return shapes

    def change(self, round_number):
        hand = self.hand
        if round_number == 2 and self.encoding == "UTF8":
            # A label that no Type message announces (T42).
            hand.ddl("alter type m.mood add value 'later' before 'high'")
            hand.ddl("alter type m.mood rename value 'with space' to 'renamed, {too}'")
        base = round_number * 1000
        for table, columns in self.each():
            if round_number == 2 and self.encoding == "UTF8":
                columns = [(name, kind, self.second(kind, values)) for name, kind, values in columns]
            n_rows = max(len(values) for _, _, values in columns) + 1
            names = ["id", "touched"] + [name for name, _, _ in columns]
            pick = lambda values, row: [*values, "null"][row % (len(values) + 1)]
            tuples = [f"({base + row}, {row}, {', '.join(pick(values, row) for _, _, values in columns)})" for row in range(n_rows)]
            hand.insert(table, names, ", ".join(tuples))
            # Nothing but a number: what is stored out of line stays as it was.
            hand.update(table, "touched = touched + 1", f"id >= {base} and id % 2 = 0")
            for row in range(n_rows):
                changes = ", ".join(f"{name} = {pick(values, row + 1)}" for name, _, values in columns)
                hand.update(table, changes, f"id = {base + row}")
            hand.update(table, "id = id + 500", f"id in ({base}, {base + 1})")
            hand.delete(table, f"id >= {base} and id % 3 = 0")
        if self.encoding == "UTF8":
            for table in ("m.large_default", "m.large_full"):
                hand.insert_select(table, ["id", "touched", "t", "b", "j", "n", "a"], f"""
                    select {base} + g, g, repeat(chr(9731) || g, 700000), decode(repeat('00ff5c2722', 500000), 'hex'),
                      jsonb_build_object('k', repeat('\\"é', 400000)), (repeat('9', 131072) || '.' || repeat('1', 16383))::numeric, array_fill(repeat('x', 30000) || ',"', array[50])
                    from generate_series(1, 1) g""")
                hand.update(table, "touched = touched + 1", f"id = {base} + 1")
                hand.update(table, "t = t || 'x', touched = null", f"id = {base} + 1")
                hand.update(table, "id = id + 10", f"id = {base} + 1")
                hand.delete(table, f"id = {base} + 11")

    def second(self, kind, values):
        """The values of the second round: labels have changed."""
        values = [value.replace("with space", "renamed, {too}") if "mood" in kind else value for value in values]
        if "m.nested" in kind:
            values = [value.replace('low,NULL,"with space"', 'low,later,NULL,"renamed, {too}"') for value in values]
        return values + ["'later'::m.mood"] if kind == "m.mood" else values


def literal(text):
    if "\\" in text:
        return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


if __name__ == "__main__":
    try:
        main()
    except (psycopg.Error, OSError) as error:
        print(f"could not be checked: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
