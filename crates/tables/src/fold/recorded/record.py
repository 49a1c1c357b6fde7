#!/usr/bin/env python3
"""Records what real servers send for each scenario, as golden scripts of the fold.

    PGHOST=… PGPORT=… PGUSER=postgres ./record.py [SCENARIO…]      writes <scenario>.<major>.txt beside this file
    UPDATE_GOLDEN=1 cargo nextest run -p tables recorded           writes what they come to; the diff is what is reviewed

The server needs wal_level=logical. A database `recorded` is made and dropped; nothing else is touched. What the catalogs said
before the changes stands above the frames, what they say afterwards is `later`: the daemon asks when a row comes, which may be late.
"""
import itertools
import pathlib
import sys

import psycopg

HERE = pathlib.Path(__file__).parent
VIA_ROOT = " with (publish_via_partition_root = true)"
LONG = "repeat('x', 2500)"

# Statements, one each; `b:` runs in a second session, `?` may fail at the source.
ORDERS = [
    "create table orders (id int8, region text, note text, primary key (id, region)) partition by list (region)",
    "create table orders_eu partition of orders for values in ('eu')",
    "create table orders_rest partition of orders default",
]
SCENARIOS = {
    "t01_t02_one_lsn_for_many_changes": dict(
        setup=["create table a (id int8 primary key)"],
        steps=["copy a from program 'printf \"1\\n2\\n3\\n\"'", "insert into a values (4)"],
        resume_behind=1,
    ),
    "t03_lsns_go_backwards": dict(
        setup=["create table a (id int8 primary key)"],
        steps=["begin", "insert into a values (1)", "b: insert into a values (2)", "insert into a values (3)", "commit"],
        resume_behind=1,
    ),
    "t06_only_published_columns_are_there": dict(
        setup=["create table a (gone int4, id int8 primary key, secret text, shown text)", "alter table a drop column gone"],
        publication="for table a (id, shown)", since=15,
        steps=["insert into a values (1, 's', 'x')", "alter table a add more text", "update a set shown = 'y', more = 'm'"],
    ),
    "t07_an_identity_that_switches": dict(
        setup=["create table a (id int8 primary key, email text not null unique, note text)"],
        steps=["insert into a values (1, 'a@x', 'n')", "update a set id = 2", "alter table a replica identity using index a_email_key",
               "update a set email = 'b@x'", "alter table a replica identity full", "update a set note = 'm'",
               "alter table a replica identity nothing", "insert into a values (3, 'c@x', 'o')"],
    ),
    "t08_t09_t11_a_key_out_of_line": dict(
        setup=["create table a (path text primary key, n int4, body text)", "alter table a alter path set storage external, alter body set storage external"],
        steps=[f"insert into a values ({LONG}, null, {LONG})", "update a set n = 1", f"update a set path = repeat('y', 2500)", "delete from a"],
    ),
    "t10_old_rows_are_whole": dict(
        setup=["create table a (id int8 primary key, n int4, body text)", "alter table a alter body set storage external", "alter table a replica identity full"],
        steps=[f"insert into a values (1, null, {LONG})", "update a set n = 1", "update a set id = 2", "delete from a"],
    ),
    "t12_a_row_filter_makes_an_insert_of_an_update": dict(
        setup=["create table a (id int8 primary key, z int4, body text)", "alter table a alter body set storage external",
               "create unique index a_key on a (id, z)", "alter table a alter z set not null", "alter table a replica identity using index a_key"],
        publication="for table a where (z > 10)", since=15,
        steps=[f"insert into a values (1, 5, {LONG})", "update a set z = 20", "update a set z = 21", "update a set z = 6", "truncate a"],
    ),
    "t20_t21_t22_messages_origins_and_empty_transactions": dict(
        setup=["create table a (id int8 primary key)", "create table unpublished (id int8)"], publication="for table a",
        steps=["insert into unpublished values (1)", "begin", "select pg_logical_emit_message(false, 'outside', 'at once')",
               "insert into a values (0)", "rollback", "begin", "select pg_logical_emit_message(true, 'inside', 'x')", "insert into a values (1)", "commit",
               "select pg_replication_origin_create('recorded')", "select pg_replication_origin_session_setup('recorded')", "begin",
               "select pg_replication_origin_xact_setup('0/ABCDEF', '2026-08-01 00:00:00+00')", "insert into a values (2)", "commit",
               "select pg_replication_origin_session_reset()", "select pg_replication_origin_drop('recorded')"],
    ),
    "t25_leaves_with_a_key_under_a_root_without": dict(
        setup=["create table np (a int4, b text) partition by list (a)", "create table np1 partition of np for values in (1, 2)",
               "alter table np1 add primary key (a)"],
        publication="for table np" + VIA_ROOT,
        steps=["insert into np values (1, 'x')", "update np set b = 'y'", "update np set a = 2", "delete from np"],
    ),
    "t26_t27_relations_that_say_nothing_new": dict(
        setup=ORDERS, publication="for table orders" + VIA_ROOT,
        steps=["insert into orders values (1, 'eu', 'a'), (2, 'us', 'b')", "analyze orders_eu", "vacuum orders_rest", "create index on orders_eu (note)",
               "create publication another for table orders_rest", "insert into orders values (3, 'eu', 'a'), (4, 'us', 'b')"],
    ),
    "t28_renames_that_are_not_announced": dict(
        setup=ORDERS, publication="for table orders" + VIA_ROOT,
        steps=["insert into orders values (1, 'eu', 'a')", "alter table orders rename to purchases", "create schema archive", "alter table purchases set schema archive",
               "insert into archive.purchases values (2, 'eu', 'a'), (3, 'us', 'b')"],
    ),
    "t29_leaves_in_another_order": dict(
        setup=["create table p (a int4 primary key, b text, ts timestamptz) partition by range (a)",
               "create table p1 (b text, junk int4, ts timestamptz, a int4 not null)", "alter table p1 drop column junk",
               "alter table p attach partition p1 for values from (0) to (10)", "create table p2 partition of p for values from (10) to (20)"],
        steps=["insert into p values (1, 'x', '2026-08-01 00:00:00+00'), (11, 'y', null)", "update p set b = 'z'", "delete from p"],
    ),
    "t30_a_leaf_that_is_gone_when_it_is_read": dict(
        setup=ORDERS, publication="for all tables",
        steps=["create table orders_us partition of orders for values in ('us')", "insert into orders values (1, 'us', 'a'), (2, 'eu', 'b')", "drop table orders_us"],
    ),
    "t31_rows_of_a_detached_leaf": dict(
        setup=ORDERS, publication="for table orders" + VIA_ROOT,
        steps=["insert into orders values (1, 'eu', 'a')", "alter table orders detach partition orders_eu", "insert into orders_eu values (2, 'eu', 'unseen')",
               "alter table orders attach partition orders_eu for values in ('eu')", "insert into orders values (3, 'eu', 'c')"],
    ),
    "t31_rows_of_a_detached_leaf_of_all_tables": dict(
        setup=ORDERS, publication="for all tables" + VIA_ROOT,
        steps=["insert into orders values (1, 'eu', 'a')", "alter table orders detach partition orders_eu", "insert into orders_eu values (2, 'eu', 'b')",
               "alter table orders attach partition orders_eu for values in ('eu')", "insert into orders values (3, 'eu', 'c')"],
    ),
    "t32_a_split_default_partition": dict(
        setup=ORDERS, publication="for table orders" + VIA_ROOT,
        steps=["insert into orders values (1, 'us', 'a')", "create table orders_us (like orders including all)",
               "with moved as (delete from orders_rest where region = 'us' returning *) insert into orders_us select * from moved",
               "alter table orders attach partition orders_us for values in ('us')", "update orders set note = 'b'"],
    ),
    "t33_t34_truncate_via_root": dict(
        setup=ORDERS, publication="for table orders" + VIA_ROOT,
        steps=["insert into orders values (1, 'eu', 'a'), (2, 'us', 'b')", "truncate orders_eu", "drop table orders_rest", "truncate orders"],
    ),
    "t34_truncate_by_leaf": dict(
        setup=ORDERS + ["create table items (id int8 primary key, order_id int8, region text, foreign key (order_id, region) references orders)"],
        steps=["truncate orders_eu cascade", "truncate orders restart identity cascade"],
    ),
    "t35_a_row_that_moves": dict(
        setup=ORDERS, publication="for all tables" + VIA_ROOT,
        steps=["insert into orders values (1, 'eu', 'a')", "update orders set region = 'us'"],
    ),
    "t36_the_topmost_published_ancestor": dict(
        setup=["create table top (id int8, at int4, primary key (id, at)) partition by range (at)",
               "create table mid partition of top for values from (0) to (10) partition by range (at)",
               "create table leaf partition of mid for values from (0) to (5)"],
        publication="for table mid" + VIA_ROOT,
        steps=["insert into top values (1, 1)", "alter publication recorded add table top", "insert into top values (2, 1)"],
    ),
    "t38_schema_changes_in_a_transaction": dict(
        setup=["create table a (id int8 primary key, note text)"],
        steps=["begin", "insert into a values (1, 'a')", "alter table a add price numeric(10,2)", "insert into a values (2, 'b', 1.5)", "savepoint s",
               "alter table a drop note", "insert into a values (3, 2.5)", "rollback to s", "insert into a values (4, 'd', 3.5)", "alter table a drop note",
               "insert into a values (5, 4.5)", "commit", "update a set price = 9 where id = 1"],
    ),
    "t39_t40_changes_that_no_row_tells": dict(
        setup=["create table a (id int8 primary key, n int4)"],
        steps=["insert into a values (1, 1)", "alter table a add state text default 'open'", "alter table a add drawn float8 default random()",
               "alter table a alter n type text using 'n' || n", "vacuum full a", "cluster a using a_pkey", "insert into a values (2, 'two', 'shut', 0)"],
    ),
    "t41_dropped_and_created_under_its_name": dict(
        setup=["create table a (id int8 primary key, note text)"], publication="for all tables",
        steps=["begin", "insert into a values (1, 'old')", "drop table a", "create table a (id int4 primary key, flag bool)", "insert into a values (1, true)", "commit"],
    ),
    "t42_t43_labels_domains_and_their_arrays": dict(
        setup=["create type mood as enum ('sad')", "create domain price as numeric(10,2)", "create domain prices as price[]",
               "create table a (id int8 primary key, mood mood, price price, prices prices)"],
        steps=["insert into a values (1, 'sad', 1.5, '{1.50}')", "alter type mood add value 'glad'", "insert into a values (2, 'glad', 2, '{2}')"],
    ),
    "t44_generated_columns": dict(
        setup=["create table a (id int8 primary key, n int4, twice int4 generated always as (n * 2) stored)"],
        steps=["insert into a values (1, 2)", "update a set n = 3"],
    ),
    "t44_generated_columns_that_are_published": dict(
        setup=["create table a (id int8 primary key, n int4, twice int4 generated always as (n * 2) stored)"],
        publication="for table a with (publish_generated_columns = stored)", since=18,
        steps=["insert into a values (1, 2)", "alter publication recorded set (publish_generated_columns = none)", "update a set n = 3"],
    ),
    "t46_row_filters": dict(
        setup=["create table a (id int8 primary key, note text)"], publication="for table a where (id > 10)", since=15,
        steps=["insert into a values (1, 'out'), (11, 'in')", "update a set id = id + 20", "update a set id = 5 where id = 31", "update a set note = 'n'", "truncate a"],
    ),
    "t47_no_columns_and_no_key": dict(
        setup=["create table nothing ()", "create table keyless (n int4)"],
        steps=["insert into nothing default values", "insert into keyless values (1)", "? update keyless set n = 2"],
    ),
    "t48_t49_what_is_published_of_all_tables": dict(
        setup=["create table a (id int8 primary key)", "create unlogged table u (id int8 primary key)", "create schema other"],
        publication="for all tables",
        steps=["create temp table t (id int8)", "insert into t values (1)", "insert into u values (2)", "create materialized view m as select 3 as id",
               "create table copied as select 4::int8 as id", "alter table u set logged", "insert into u values (5)", "create table late (id int8 primary key)", "insert into late values (6)"],
    ),
    "t49_a_table_that_moves_into_a_published_schema": dict(
        setup=["create schema shown", "create table shown.a (id int8 primary key)", "create table b (id int8 primary key)"],
        publication="for tables in schema shown", since=15,
        steps=["insert into b values (1)", "alter table b set schema shown", "insert into shown.b values (2)", "alter table shown.a set schema public", "insert into a values (3)"],
    ),
}
# T24: the sixteen ways in which a root and its leaf can be identified.
IDENTITIES = {"d": "default", "f": "full", "i": "using index {0}_key", "n": "nothing"}
setup, steps = [], []
for root, leaf in itertools.product(IDENTITIES, repeat=2):
    name = f"m_{root}{leaf}"
    setup += [f"create table {name} (id int8, code text not null, n int4, primary key (id)) partition by range (id)",
              f"create table {name}_1 partition of {name} for values from (0) to (100)"]
    for table, letter in ((name, root), (name + "_1", leaf)):
        if letter == "i":
            unique = "id, code" if table == name else "code"
            setup.append(f"create unique index {table}_key on {'only ' if table == name else ''}{table} ({unique})")
        if table == name and letter == "i":
            setup.append(f"create unique index {name}_leaf on {name}_1 ({unique})")
            setup.append(f"alter index {name}_key attach partition {name}_leaf")
        setup.append(f"alter table only {table} replica identity {IDENTITIES[letter].format(table)}")
    steps += [f"insert into {name} values (1, 'a', null)", f"? update {name} set n = 2", f"? update {name} set id = 2", f"? delete from {name}"]
SCENARIOS["t24_identities_of_roots_and_leaves"] = dict(setup=setup, publication="for all tables" + VIA_ROOT, steps=steps)
SCENARIOS["t24_identities_of_leaves"] = dict(setup=setup, publication="for all tables", steps=steps)


def facts(sql):
    """The catalogs in the words of a script."""
    words = {"d": "default", "n": "nothing", "f": "full", "i": "index"}
    lines = []
    relations = sql.execute("""
        select c.oid, n.nspname, c.relname, c.relreplident, c.relispartition, pg_partition_root(c.oid)::oid,
          (select string_agg(a.attname, ',' order by k.position) from pg_index i
             cross join lateral unnest(i.indkey::int2[]) with ordinality k(attnum, position)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum where i.indrelid = c.oid and i.indisprimary),
          (select string_agg(a.attname || '=' || a.attnum || case when m.text is not null then ':' || m.text when a.atthasdef then '!' else '' end, ' ' order by a.attnum)
             from pg_attribute a left join lateral (select a.attmissingval::text::text[] as texts) t on true
             left join lateral (select t.texts[1] as text) m on true
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attnum <= 20)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and c.oid >= 16384 and c.relpersistence <> 't' and n.nspname <> 'pg_toast' order by c.oid""").fetchall()
    for oid, schema, name, identity, is_leaf, root, key, columns in relations:
        identity = "" if identity == "d" else f" identity={words[identity]}"
        if is_leaf:
            lines.append(f"leaf {oid} {schema}.{name} of {root}{identity}")
        else:
            lines.append(f"root {oid} {schema}.{name} key={key or ''}{identity}")
        lines.append(f"columns {oid} {columns or ''}".rstrip())
    types = sql.execute("""
        select t.oid, n.nspname, t.typname, t.typtype, t.typelem, t.typbasetype, t.typtypmod from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where t.oid >= 16384 and (t.typtype in ('e', 'd') or t.typelem <> 0 and exists
          (select from pg_type e where e.oid = t.typelem and e.typtype in ('e', 'd'))) order by t.oid""").fetchall()
    for oid, schema, name, kind, element, base, modifier in types:
        what = {"e": "enum", "d": f"domain {base} {modifier}"}.get(kind, f"array {element}")
        lines.append(f"type {oid} {schema}.{name} {what}")
    return lines


def short(frame):
    """Hexadecimal; a run of one byte as `78*2500`."""
    words = []
    for byte, run in itertools.groupby(frame):
        run = len(list(run))
        if run > 16:
            words.append(f"{byte:02x}*{run}")
        elif words and "*" not in words[-1]:
            words[-1] += f"{byte:02x}" * run
        else:
            words.append(f"{byte:02x}" * run)
    return " ".join(words)


def record(name, setup, steps, publication="for all tables", since=0, resume_behind=None):
    admin = psycopg.connect("dbname=postgres", autocommit=True)
    major = admin.info.server_version // 10000
    if major < since:
        return
    admin.execute("drop database if exists recorded with (force)")
    admin.execute("create database recorded")
    a, b = (psycopg.connect("dbname=recorded", autocommit=True) for _ in "ab")
    for statement in setup:
        a.execute(statement)
    a.execute(f"create publication recorded {publication}")
    a.execute("select pg_create_logical_replication_slot('recorded', 'pgoutput')")
    said = [f"# Postgres {major}, publication {publication}"]
    lines = facts(a)
    for statement in steps:
        said.append(f"#   {statement}")
        if statement.startswith("? "):
            try:
                a.execute(statement[2:])
            except psycopg.Error as error:
                said.append(f"#     {error.sqlstate}")
        else:
            (b if statement.startswith("b: ") else a).execute(statement.removeprefix("b: "))
    before = set(lines)
    after = facts(a)
    later = [f"later {line}" for line in after if line not in before]
    oids = [{line.split()[1] for line in lines if not line.startswith("columns")} for lines in (lines, after)]
    later += [f"later gone {oid}" for oid in sorted(oids[0] - oids[1], key=int)]
    frames = a.execute("""select lsn::text, data from pg_logical_slot_peek_binary_changes('recorded', null, null,
        'proto_version', '1', 'publication_names', 'recorded', 'messages', 'true')""").fetchall()
    a.execute("select pg_drop_replication_slot('recorded')")
    wal = [f"wal {lsn} {short(data)}" for lsn, data in frames]
    sessions = ["session 0/0", *wal]
    if resume_behind:
        ends = [data[10:18] for _, data in frames if data[:1] == b"C"]
        end = int.from_bytes(ends[resume_behind - 1], "big")
        sessions += [f"session {end >> 32:X}/{end & 0xFFFFFFFF:X}", *wal]
    path = HERE / f"{name}.{major}.txt"
    head = "# " + ", ".join(word.upper() for word in name.split("_") if word[0] == "t" and word[1:].isdigit())
    title = " ".join(word for word in name.split("_") if not (word[0] == "t" and word[1:].isdigit()))
    expected = path.read_text().split("\n---\n")[1] if path.exists() else ""
    path.write_text("\n".join([f"{head}: {title}.", *said, *lines, *later, *sessions]) + "\n---\n" + expected)
    a.close()
    b.close()
    admin.execute("drop database recorded with (force)")


for name, scenario in SCENARIOS.items():
    if len(sys.argv) == 1 or name in sys.argv[1:]:
        record(name, **scenario)
