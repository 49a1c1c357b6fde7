#!/usr/bin/env python3
"""A bank: money moves between accounts, and is neither made nor lost. Reads the lake with DuckDB, and the server's own decoding as text.

    bank.py watch   --lake DIR --total N --accounts N --seconds S   while the daemon writes: every cut that the watermark names has all the money
    bank.py cuts    --lake DIR --total N --accounts N               afterwards: so has every transaction's end, in the order of `_cdc_lsn`
    bank.py decoded --lake DIR --dsn DSN --slot SLOT                the lake has what a second slot, read by `test_decoding`, has: the same changes
                                                                    of the same transactions in the same order

Accounts lie in the tables public.cash (plain) and public.savings (partitioned), each (id bigint primary key, balance bigint, deed text).
Exit code 0, and a line on what was seen; 1 and the first differences.
"""

import argparse
import json
import os
import re
import sys
import time

import duckdb
import psycopg

TABLES = ["cash", "savings"]
CHANGE = re.compile(r"^table public\.(?P<table>\w+): (?P<op>INSERT|UPDATE|DELETE): (?P<row>.*)$")
FIELD = {name: re.compile(rf"\b{name}\[bigint\]:(-?\d+)") for name in ("id", "balance")}


def rows_of(folder, table, below=None):
    """(lsn, seq, xid, op, id, balance) of all files that are there now, in order."""
    pattern = os.path.join(folder, "public", table, "data", "**", "*.parquet")
    where = "" if below is None else f"where _cdc_lsn < {below}"
    database = duckdb.connect()
    if not database.execute(f"select count(*) from glob('{pattern}')").fetchone()[0]:
        return []
    return database.execute(
        f"""select _cdc_lsn, _cdc_seq, _cdc_xid, _cdc_op, id, balance
            from read_parquet('{pattern}', union_by_name = true, hive_partitioning = false) {where} order by 1, 2"""
    ).fetchall()


class Bank:
    """All accounts, change by change."""

    def __init__(self):
        self.accounts, self.sum = {}, 0

    def apply(self, table, op, key, balance):
        self.sum -= self.accounts.pop((table, key), 0)
        if op in ("I", "U", "R"):
            self.accounts[table, key] = balance
            self.sum += balance
        elif op != "D":
            sys.exit(f"nobody made a change of kind {op}")


def changes(folder, below=None):
    """All changes of both tables, in order."""
    return sorted((*row[:3], table, *row[3:]) for table in TABLES for row in rows_of(folder, table, below))


def watch(options):
    """Until the time is up: what the watermark says is there has to be there, with all the money."""
    end, seen, cuts = time.monotonic() + options.seconds, 0, set()
    while time.monotonic() < end:
        time.sleep(0.05)
        try:
            with open(os.path.join(options.lake, "_tributary", "watermark.json"), encoding="utf-8") as file:
                high, low = json.load(file)["to_lsn"].split("/")
        except FileNotFoundError:
            continue
        cut = (int(high, 16) << 32) + int(low, 16)
        bank = Bank()
        for _, _, _, table, op, key, balance in changes(options.lake, cut):
            bank.apply(table, op, key, balance)
        # Before the accounts are opened, in one transaction, there are none.
        if not bank.accounts:
            continue
        if (bank.sum, len(bank.accounts)) != (options.total, options.accounts):
            sys.exit(f"the cut at {high}/{low} has {bank.sum} in {len(bank.accounts)} accounts")
        seen += 1
        cuts.add(cut)
    if len(cuts) < 3:
        sys.exit(f"only {len(cuts)} cuts were seen")
    print(f"looked {seen} times at {len(cuts)} cuts")


def cuts(options):
    """Every commit is a consistent cut."""
    bank, lsn, commits = Bank(), None, 0
    for at, _, _, table, op, key, balance in [*changes(options.lake), (None,) * 7]:
        if at != lsn and lsn is not None:
            commits += 1
            if (bank.sum, len(bank.accounts)) != (options.total, options.accounts):
                sys.exit(f"after the transaction at {lsn:X} there is {bank.sum} in {len(bank.accounts)} accounts")
        lsn = at
        if at is not None:
            bank.apply(table, op, key, balance)
    print(f"{commits} transactions, each with all the money behind it")


def decoded_changes(dsn, slot):
    """What the server's own plugin says, by transaction in the order of commits: [(xid, [(table, op, id, balance)])]."""
    found = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        # Partitions are named as themselves.
        tree = "select c.relname, p.relname from pg_inherits i join pg_class c on c.oid = inhrelid join pg_class p on p.oid = inhparent"
        roots = dict(connection.execute(tree).fetchall())
        for xid, line in connection.execute("select xid::text::bigint, data from pg_logical_slot_get_changes(%s, null, null)", [slot]):
            if line.startswith("BEGIN"):
                found.append((xid, []))
            change = CHANGE.match(line)
            table = change and roots.get(change["table"], change["table"])
            if table not in TABLES:
                continue
            old, _, new = change["row"].rpartition("new-tuple:")
            key, balance = (FIELD[name].search(new) for name in ("id", "balance"))
            if change["op"] == "UPDATE" and old:
                found[-1][1].append((table, "D", int(FIELD["id"].search(old)[1]), None))
            op = "I" if change["op"] == "UPDATE" and old else change["op"][0]
            found[-1][1].append((table, op, int(key[1]), None if op == "D" else int(balance[1])))
    return [(xid, done) for xid, done in found if done]


def decoded(options):
    want, have = decoded_changes(options.dsn, options.slot), []
    for lsn, _, xid, table, op, key, balance in changes(options.lake):
        if not have or have[-1][0] != (lsn, xid):
            have.append(((lsn, xid), []))
        have[-1][1].append((table, op, key, None if op == "D" else balance))
    have = [(xid & 0xFFFFFFFF, done) for (_, xid), done in have]
    if want != have:
        at = next((number for number, pair in enumerate(zip(want, have)) if pair[0] != pair[1]), min(len(want), len(have)))
        sys.exit(f"{len(want)} transactions at the server, {len(have)} in the lake; the first that differs, {at}:\n{want[at:at + 1]}\n{have[at:at + 1]}")
    print(f"{len(want)} transactions with {sum(len(done) for _, done in want)} changes, as the server decodes them")


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for name, command in (("watch", watch), ("cuts", cuts), ("decoded", decoded)):
        sub = commands.add_parser(name)
        sub.set_defaults(command=command)
        sub.add_argument("--lake", required=True)
        if command is decoded:
            sub.add_argument("--dsn", required=True)
            sub.add_argument("--slot", required=True)
        else:
            sub.add_argument("--total", type=int, required=True)
            sub.add_argument("--accounts", type=int, required=True)
        if command is watch:
            sub.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    options.command(options)


main()
