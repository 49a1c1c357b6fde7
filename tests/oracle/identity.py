#!/usr/bin/env python3
"""Replica identities: every kind, changed in mid-stream, root and leaf different (T24), keys beside unchanged TOAST, row filters.

    identity.py create --dsn …                          makes tables, and publications identity (by leaf), identity_root and filtered
    identity.py change --dsn … --journal FILE --round N
    identity.py check  --journal FILE --lake identity=file:///… --lake identity_root=file:///… --lake filtered=file:///…
"""

import journal

COLUMNS = "id int8 not null, bucket int4 not null, code text not null, n int4, doc text, extra text"
CLASHES = (("default", "index"), ("full", "index"), ("nothing", "index"), ("index", "default"))
KINDS = ("default", "full", "index", "nothing")
# Of a length that Postgres stores out of line, and does not send again.
DOC = "repeat('toast ', 700)"


def set_identity(hand, table, kind):
    name = table.split(".")[1]
    hand.ddl(f"alter table {table} replica identity {'using index ' + name + '_code' if kind == 'index' else kind}")


class Identity:
    """`compared` says which tables a publication has and what it filters."""

    def create(self, hand):
        hand.ddl("create schema i")
        for kind in KINDS + ("changed",):
            self.table(hand, f"i.one_{kind}", f"create table i.one_{kind} ({COLUMNS}, primary key (id))", "default" if kind == "changed" else kind, "(code)")
            self.table(hand, f"i.keyless_{kind}", f"create table i.keyless_{kind} ({COLUMNS})", "full" if kind == "changed" else kind, "(code)")
        # A key that is itself out of line.
        hand.ddl("create table i.long_key (id text primary key, n int4, doc text)")
        hand.ddl("alter table i.long_key alter id set storage external, alter doc set storage external")
        hand.ddl("create table i.long_key_full (like i.long_key including all)")
        hand.ddl("alter table i.long_key_full replica identity full")
        for root in KINDS:
            for leaf in KINDS:
                self.tree(hand, root, leaf)
        # Its partitions come later, and do not copy its identity.
        hand.ddl(f"create table i.grown ({COLUMNS}, primary key (id, bucket)) partition by list (bucket)")
        hand.ddl("alter table i.grown replica identity full")
        hand.ddl("create table i.filtered (id int8, z int4, doc text, note text, primary key (id, z))")
        hand.ddl("alter table i.filtered alter doc set storage external")
        hand.ddl("create table i.filtered_full (like i.filtered including all)")
        hand.ddl("alter table i.filtered_full replica identity full")
        hand.ddl("create publication identity for all tables")
        # With the others a leaf's rows are not identified by what identifies the root's: `clash.py`.
        roots = hand.ask("select oid::regclass::text from pg_class where relnamespace = 'i'::regnamespace and relkind in ('r', 'p') and not relispartition order by 1")
        roots = ", ".join(name for name, in roots if name not in [f"i.tree_{root}_{leaf}" for root, leaf in CLASHES])
        hand.ddl(f"create publication identity_root for table {roots} with (publish_via_partition_root = true)")
        if hand.connection.info.server_version >= 150000:
            hand.ddl("create publication filtered for table i.filtered where (z > 10), i.filtered_full where (z > 10)")

    def tree(self, hand, root, leaf):
        name = f"i.tree_{root}_{leaf}"
        self.table(hand, name, f"create table {name} ({COLUMNS}, primary key (id, bucket)) partition by list (bucket)", root, "(code, bucket)")
        for bucket in (1, 2):
            # A partition copies neither the order of columns nor the identity.
            hand.ddl(f"create table {name}_{bucket} (extra text, doc text, n int4, code text not null, bucket int4 not null, id int8 not null)")
            hand.ddl(f"alter table {name} attach partition {name}_{bucket} for values in ({bucket})")
            hand.ddl(f"alter table {name}_{bucket} alter doc set storage external")
            index, = hand.ask("select c.relname from pg_index i join pg_class c on c.oid = i.indexrelid where i.indrelid = %s::regclass and not i.indisprimary", f"{name}_{bucket}")[0]
            hand.ddl(f"alter table {name}_{bucket} replica identity {'using index ' + index if leaf == 'index' else leaf}")

    def table(self, hand, name, create, kind, index):
        hand.ddl(create)
        hand.ddl(f"alter table {name} alter doc set storage external")
        hand.ddl(f"create unique index {name.split('.')[1]}_code on {name} {index}")
        set_identity(hand, name, kind)

    def change(self, hand, round_number):
        base = round_number * 100
        for kind in KINDS:
            self.rows(hand, f"i.one_{kind}", base, kind != "nothing", True)
            self.rows(hand, f"i.keyless_{kind}", base, kind in ("full", "index"), False)
        for root in KINDS:
            for leaf in KINDS:
                # Postgres asks the leaf only.
                self.rows(hand, f"i.tree_{root}_{leaf}", base, leaf != "nothing", True)
        hand.ddl(f"create table i.grown_{round_number} partition of i.grown for values in ({round_number})")
        hand.insert("i.grown", ["id", "bucket", "code", "n"], ", ".join(f"({base + n}, {round_number}, 'code', {n})" for n in range(3)))
        hand.update("i.grown", "n = null", f"id = {base}")
        hand.update("i.grown", f"id = {base + 3}", f"id = {base + 1}")
        hand.delete("i.grown", f"id in ({base}, {base + 2})")
        for step, kind in enumerate(("full", "index", "nothing", "default", "index", "full", "default")):
            set_identity(hand, "i.one_changed", kind)
            self.rows(hand, "i.one_changed", base * 10 + step * 10, kind != "nothing", True)
        for step, kind in enumerate(("index", "full", "nothing", "full")):
            set_identity(hand, "i.keyless_changed", kind)
            self.rows(hand, "i.keyless_changed", base * 10 + step * 10, kind in ("index", "full"), False)
        for table in ("i.long_key", "i.long_key_full"):
            key = lambda letter: f"repeat('{letter}{round_number}', 1200)"
            hand.insert(table, ["id", "n", "doc"], f"({key('a')}, 1, {DOC}), ({key('b')}, 2, {DOC})")
            hand.update(table, "n = n + 1", f"id = {key('a')}")
            hand.update(table, f"id = {key('c')}", f"id = {key('a')}")
            hand.update(table, "doc = null", f"id = {key('c')}")
            hand.delete(table, f"id = {key('b')}")
        for table in ("i.filtered", "i.filtered_full"):
            hand.insert(table, ["id", "z", "doc", "note"], f"({base}, 5, {DOC}, 'a'), ({base + 1}, 20, {DOC}, 'b'), ({base + 2}, 5, {DOC}, null), ({base + 3}, null, {DOC}, 'd')".replace("null, rep", "0, rep"))
            # In, out, in again; within; never in; and deleted in both places.
            hand.update(table, "z = 20", f"id = {base}")
            hand.update(table, "z = 5", f"id = {base + 1}")
            hand.update(table, "z = 30, note = null", f"id = {base + 1}")
            hand.update(table, "note = 'within'", f"id = {base + 1}")
            hand.update(table, "z = 31", f"id = {base + 1}")
            hand.update(table, "note = 'without'", f"id = {base + 2}")
            hand.update(table, f"z = 40, doc = {DOC} || 'x'", f"id = {base + 3}")
            hand.delete(table, f"id in ({base}, {base + 2})")

    def rows(self, hand, table, first, may_change, has_key):
        """Inserts; then, where Postgres lets us, updates of all kinds and deletes."""
        hand.insert(table, ["id", "bucket", "code", "n", "doc", "extra"],
                    ", ".join(f"({first + n}, {n % 2 + 1}, 'code {first + n}', {n}, {DOC}, {'null' if n % 3 else repr('x')})" for n in range(8)))
        if not may_change:
            return
        at = lambda n: f"id = {first + n}"
        hand.update(table, "n = n + 1", at(0))
        hand.update(table, "n = null, extra = null", at(0))
        hand.update(table, "doc = doc || 'x'", at(1))
        hand.update(table, "doc = null", at(1))
        hand.update(table, "code = code || ' new'", at(2))
        if has_key:
            hand.update(table, f"id = {first + 8}", at(3))
            hand.update(table, f"id = {first + 9}, code = 'both {first}', doc = {DOC} || 'y'", at(4))
        hand.update(table, "bucket = 3 - bucket", at(5))
        hand.update(table, "n = n", at(5))
        hand.delete(table, at(6))
        hand.delete(table, at(5))

    def compared(self, publication):
        if publication == "filtered":
            passes = lambda row: row["z"] is not None and int(row["z"]) > 10
            return {"wants": lambda table: "filtered" in table, "filters": {"i.filtered": passes, "i.filtered_full": passes}}
        clashes = [f"i.tree_{root}_{leaf}" for root, leaf in CLASHES]
        return {"wants": lambda table: publication == "identity" or table not in clashes}


if __name__ == "__main__":
    journal.run(__doc__, Identity())
