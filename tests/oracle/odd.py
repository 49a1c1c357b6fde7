#!/usr/bin/env python3
"""Odd tables: no columns, 1,600 of them, no key, names of all kinds, partitions that differ from their root (T29, T47, T99).

    odd.py create --dsn …                          makes tables, and publications odd (by leaf) and odd_root
    odd.py change --dsn … --journal FILE --round N
    odd.py check  --journal FILE --lake odd=file:///… --lake odd_root=file:///…
"""


import journal
from journal import quote

NAMES = [
    "plain", "Plain", "PLAIN", "pl/ain", "../../etc", "..", ".", "...", "a..b", ".hidden", "_under", "__", "_", "%", "%2F", "a%2fb", "=", "k=v", "cdc_date=2026-01-01", "*", "a?b", "[a]", "{a}",
    "data", "_tributary", "a.b", "a.b.c", " ", "  ", " lead", "trail ", "q\"uote", "it's", "back\\slash", "new\nline", "tab\tbed", "a,b;c", "ünï", "UNÏ", "日本語", "😀", "e\u0301", "\u00e9",
    "\u202e", "select", "null", "x" * 63, "X" * 63, "ü" * 31, "😀" * 15, "x" * 62 + "y", "1", "$1", "#", "~", "&", "@", "-", "--", "CON", "nul", "a:b", "<>|",
]
COLUMNS = [
    "_cdc_op", "_cdc_lsn", "_CDC_LSN", "_cdc_seq", "_cdc_commit_ts", "_cdc_xid", "_cdc_relation", "_cdc_unchanged", "_cdc_raw", "_Cdc_Raw", "cdc_date", "CDC_DATE", "cdc_hour", "_cdc_before",
    "filename", "file_row_number", "element", "key", "value", "key_value", "list",
]
SCHEMAS = ["Odd", "odd schema", "o/dd", "..", "odd.dot", "_odd", "%", "ODD", "ödd", "public"]
N_SCHEMAS = 30
WIDE = 1600


class Odd:
    def create(self, hand):
        hand.ddl("create schema odd")
        for schema in SCHEMAS[:-1] + [f"s{n}" for n in range(N_SCHEMAS)]:
            hand.ddl(f"create schema {quote(schema)}")
        for table in self.named():
            hand.ddl(f"create table {table} (id int8 primary key, v text)")
        # 1,599 columns of any width do not fit a page: numbers do.
        hand.ddl(f"create table odd.wide (id int4 primary key, {', '.join(f'c{n} int4' for n in range(1, WIDE))})")
        hand.ddl("create table odd.wide_full (like odd.wide including all)")
        hand.ddl("alter table odd.wide_full replica identity full")
        # Columns were dropped: their numbers pass 1,600 in no table, but no position is a number.
        hand.ddl("create table odd.holes (gone int, id int8 primary key, gone2 text, v text, gone3 int)")
        hand.ddl("alter table odd.holes drop gone, drop gone2, drop gone3")
        hand.ddl("alter table odd.holes add later numeric(10, 2) default 1.50")
        hand.ddl("create table odd.nothing ()")
        hand.ddl("create table odd.nothing_left (gone int)")
        hand.ddl("alter table odd.nothing_left drop gone")
        hand.ddl("create table odd.key_only (a int4, b text, primary key (b, a))")
        hand.ddl("create table odd.generated (id int8 primary key, twice int8 generated always as (id * 2) stored, v text)")
        hand.ddl("create table odd.keyless (a int4, b text, c float8)")
        hand.ddl("alter table odd.keyless replica identity full")
        hand.ddl(f"create table odd.columns (id int8 primary key, {', '.join(f'{quote(name)} text' for name in COLUMNS + NAMES)})")
        hand.ddl("create table odd.columns_full (like odd.columns including all)")
        hand.ddl("alter table odd.columns_full replica identity full")
        hand.ddl('create table odd.odd_key ("_cdc_op" int8, "Key" text, "key" text, primary key ("_cdc_op", "key", "Key"))')
        self.partitions(hand)
        hand.ddl("create publication odd for all tables")
        hand.ddl("create publication odd_root for all tables with (publish_via_partition_root = true)")

    def partitions(self, hand):
        """Partitions of partitions; columns in other orders, with holes in leaf and root."""
        hand.ddl("""
            create table odd.tree (junk int, id int8 not null, region text not null, at timestamptz, doc text, n numeric(12, 3), primary key (id, region)) partition by list (region);
            create table odd.eu (doc text, trash int, region text not null, n numeric(12, 3), at timestamptz, junk int, id int8 not null) partition by range (id);
            alter table odd.eu drop trash;
            create table odd."eu low" (region text not null, g1 int, id int8 not null, doc text, g2 text, junk int, n numeric(12, 3), at timestamptz);
            alter table odd."eu low" drop g1, drop g2;
            create table odd.eu_high (n numeric(12, 3), at timestamptz, doc text, junk int, id int8 not null, region text not null);
            alter table odd.eu attach partition odd."eu low" for values from (minvalue) to (100);
            alter table odd.eu attach partition odd.eu_high for values from (100) to (maxvalue);
            alter table odd.tree attach partition odd.eu for values in ('eu');
            create table odd.us partition of odd.tree for values in ('us');
            create table odd.rest (at timestamptz, junk int, n numeric(12, 3), id int8 not null, doc text, region text not null);
            alter table odd.tree attach partition odd.rest default;
            alter table odd.tree drop junk;
            create schema "other/place";
            create table "other/place"."Leaf" (region text not null, doc text, id int8 not null, n numeric(12, 3), at timestamptz);
            alter table odd.tree attach partition "other/place"."Leaf" for values in ('as');
        """)

    def named(self):
        yield from (f"odd.{quote(name)}" for name in NAMES)
        yield from (f"{quote(schema)}.orders" for schema in SCHEMAS)
        yield from (f"s{n}.orders" for n in range(N_SCHEMAS))

    def change(self, hand, round_number):
        base = round_number * 100
        for n, table in enumerate(self.named()):
            hand.insert(table, ["id", "v"], f"({base}, 'n{n}'), ({base + 1}, null)")
            hand.update(table, "v = v || '!'", f"id = {base}")
            hand.delete(table, f"id = {base + 1}")
        for table in ("odd.wide", "odd.wide_full"):
            names = ["id"] + [f"c{n}" for n in range(1, WIDE)]
            hand.insert(table, names, ", ".join("(" + ", ".join(str(base + row + n) if (n + row) % 7 else "null" for n in range(WIDE)) + ")" for row in range(7) if row % 7))
            hand.update(table, "c1599 = -1, c1 = null", f"id >= {base}")
            hand.update(table, "id = id + 50", f"id >= {base} and id % 2 = 0")
            hand.delete(table, f"id >= {base + 50}")
        for table in ("odd.nothing", "odd.nothing_left"):
            hand.insert(table, [], None)
            hand.insert(table, [], None)
        hand.insert("odd.holes", ["id", "v", "later"], f"({base}, 'a', 2.5), ({base + 1}, null, null)")
        hand.insert("odd.holes", ["id"], f"({base + 2})")
        hand.update("odd.holes", "later = -later, v = 'new'", f"id >= {base}")
        hand.delete("odd.holes", f"id = {base + 1}")
        hand.insert("odd.key_only", ["a", "b"], f"({base}, 'x'), ({base}, ''), ({base}, 'y')")
        hand.update("odd.key_only", "b = b || 'z'", f"a = {base} and b <> 'y'")
        hand.update("odd.key_only", "a = a", f"a = {base}")
        hand.delete("odd.key_only", f"a = {base} and b = 'y'")
        hand.insert("odd.generated", ["id", "v"], f"({base}, 'a'), ({base + 1}, 'b')")
        hand.update("odd.generated", "id = id + 10", f"id = {base}")
        hand.insert("odd.keyless", ["a", "b", "c"], "(1, 'x', 'NaN'), (1, 'x', 'NaN'), (null, null, null), (2, '', '-0'), (2, '', '0')")
        hand.update("odd.keyless", "b = b || 'y'", "a = 1")
        hand.update("odd.keyless", "a = 3", "a is null")
        hand.delete("odd.keyless", "ctid = (select min(ctid) from odd.keyless where a = 2)")
        names = ["id"] + COLUMNS + NAMES
        for table in ("odd.columns", "odd.columns_full"):
            hand.insert(table, names, f"({base}, " + ", ".join(f"'v{n}'" if n % 5 else "null" for n in range(1, len(names))) + f"), ({base + 1}, " + ", ".join(f"'w{n}'" for n in range(1, len(names))) + ")")
            hand.update(table, ", ".join(f"{quote(name)} = {quote(name)} || 'u{n}'" for n, name in enumerate(names[1:])), f"id = {base}")
            hand.update(table, "id = id + 10", f"id = {base}")
            hand.delete(table, f"id = {base + 1}")
        hand.insert("odd.odd_key", ["_cdc_op", "Key", "key"], f"({base}, 'K', 'k'), ({base}, 'k', 'K'), ({base + 1}, '', ' ')")
        hand.update("odd.odd_key", '"Key" = \'moved\'', f'"_cdc_op" = {base} and "key" = \'k\'')
        hand.delete("odd.odd_key", f'"_cdc_op" = {base + 1}')
        low = round_number * 20
        rows = [(low, "eu"), (low + 1, "eu"), (base + 1, "eu"), (base + 2, "us"), (base + 3, "mars"), (base + 4, "as"), (base + 5, "as")]
        hand.insert("odd.tree", ["n", "doc", "region", "id", "at"], ", ".join(f"({number}.125, 'doc {number}', '{region}', {number}, '2026-01-01 00:00+00')" for number, region in rows))
        hand.update("odd.tree", "doc = 'new', n = -n", f"id = {low}")
        hand.update("odd.tree", "at = null", f"id = {base + 3}")
        hand.update("odd.tree", "region = 'us'", f"id = {low + 1}")
        hand.update("odd.tree", "region = 'eu'", f"id = {base + 3}")
        hand.update("odd.tree", "id = id + 1000", f"id = {base + 1}")
        hand.update("odd.tree", f"id = {low + 9}", f"id = {base + 1001}")
        hand.delete("odd.tree", f"id = {base + 4}")
        if round_number == 1:
            hand.ddl("alter table odd.tree add extra int4[]")
            hand.insert("odd.tree", ["id", "region", "extra"], f"(50, 'eu', '{{1,NULL}}'), ({base + 6}, 'as', '{{}}')")

    def compared(self, publication):
        return {}


if __name__ == "__main__":
    journal.run(__doc__, Odd())
