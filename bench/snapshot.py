"""Benches of the first read: one table that has rows already, to Parquet.

Owns: who reads it, and what is made ready for that and cleared away outside the time.
Does not: measure.
Holds: everybody reads all columns of the same table over TCP on loopback, and all rows arrive: the runner counts them.
"""

import datetime
import json
import pathlib
import subprocess

TITLE = "Snapshot"
ROWS = 5_000_000
TABLE, KEY = "narrow", "id"
BLOCK = 8192


class Floor:
    """What Postgres itself can send: COPY in ranges of blocks, and nobody looks at it."""

    name, label, counts = "floor", "`psql` COPY (FORMAT binary) > /dev/null", False

    def prepare(self, bench, connections, folder):
        blocks = int(bench.server.query(f"SELECT pg_relation_size('{TABLE}') / {BLOCK}"))
        bounds = [blocks * part // connections for part in range(connections + 1)]
        ranges = zip(bounds, bounds[1:])
        conditions = [f"ctid >= '({begin},0)' AND ctid < '({end},0)'" for begin, end in ranges]
        return [
            bench.server.psql(f"COPY (SELECT * FROM {TABLE} WHERE {condition}) TO STDOUT (FORMAT binary)")
            for condition in conditions
        ]

    def clear(self, bench):
        pass

    def more(self, log):
        return {}


class Tributary:
    """The daemon from its start to its end, with a new lake and slot."""

    name, label, counts = "tributary", "Tributary", True

    def prepare(self, bench, connections, folder):
        config = folder / "tributary.toml"
        config.write_text(
            f'[source]\nurl = "{bench.server.url}"\nslot = "bench"\npublication = ["bench"]\n'
            f'[lake]\nurl = "file://{folder}/lake"\n[snapshot]\nworkers = {connections}\n[http]\nlisten = ""\n'
        )
        setup = [bench.binary, "setup", "--apply", "--config", config]
        subprocess.run(setup, env=bench.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=True)
        return [[bench.binary, "run", "--until", "now", "--log-format", "json", "--config", config]]

    def clear(self, bench):
        bench.server.query("SELECT pg_drop_replication_slot('bench')")

    def more(self, log):
        """From the log: how long it read, without what comes before and after."""
        times = {}
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            text = entry.get("message", "")
            times.setdefault(text, datetime.datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")))
        begun, ended = times.get("reading the rows that tables have already"), times.get("stopping")
        return {"reading": (ended - begun).total_seconds()} if begun and ended else {}


class Peer:
    """Another way to Parquet, in Python."""

    counts = True

    def clear(self, bench):
        pass

    def more(self, log):
        return {}


class Connectorx(Peer):
    name, label = "connectorx", "connectorx, PyArrow"

    def prepare(self, bench, connections, folder):
        return [bench.peer("connectorx", bench.server.url, f"SELECT * FROM {TABLE}", KEY, connections, folder)]


class Adbc(Peer):
    name, label = "adbc", "ADBC driver, PyArrow"

    def prepare(self, bench, connections, folder):
        return [bench.peer("adbc", bench.server.url, f"SELECT * FROM {TABLE}", folder)]


def consumers(connections: list[int]):
    """Pairs of a consumer and its connections. The ADBC driver has one connection whatever it is told."""
    for number in connections:
        yield from ((Floor(), number), (Tributary(), number), (Connectorx(), number))
    yield Adbc(), 1
