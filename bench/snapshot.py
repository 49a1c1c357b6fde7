"""Benches of the first read: one table that has rows already, to Parquet.

Owns: who reads it, and what is made ready for that and cleared away outside the time.
Does not: measure.
Holds: everybody reads all columns of the same table over TCP on loopback, and all rows arrive: the runner counts them.
"""

import datetime
import json

from report import markdown, median, over_floor, times

TITLES = {"narrow": "Snapshot"}
# Rows of the full and of the small size.
SIZES = {"narrow": (5_000_000, 200_000)}
PEERS = ("connectorx", "adbc-driver-postgresql", "pyarrow")
TABLE, KEY = "narrow", "id"
BLOCK = 8192


def ready(bench, name: str, rows: int) -> dict:
    """Leaves the tables as they are after some quiet hours."""
    bench.server.query("VACUUM (FREEZE, ANALYZE)")
    bench.server.query("CHECKPOINT")
    return {}


class Consumer:
    """Who reads, with how many connections."""

    counts = True
    # What happens while it runs.
    drive = None

    def __init__(self, connections: int):
        self.connections = connections
        self.variant = f" x{connections}"

    def check(self, taken):
        pass

    def more(self, log) -> dict:
        return {}

    def lake(self, bench, folder) -> list:
        return [folder]

    def clear(self, bench, folder):
        pass


class Floor(Consumer):
    """What Postgres itself can send: COPY in ranges of blocks, and nobody looks at it."""

    name, label, counts = "floor", "`psql` COPY (FORMAT binary) > /dev/null", False

    def prepare(self, bench, folder):
        blocks = int(bench.server.query(f"SELECT pg_relation_size('{TABLE}') / {BLOCK}"))
        bounds = [blocks * part // self.connections for part in range(self.connections + 1)]
        ranges = zip(bounds, bounds[1:])
        conditions = [f"ctid >= '({begin},0)' AND ctid < '({end},0)'" for begin, end in ranges]
        return [
            bench.server.psql(f"COPY (SELECT * FROM {TABLE} WHERE {condition}) TO STDOUT (FORMAT binary)")
            for condition in conditions
        ]


class Tributary(Consumer):
    """The daemon from its start to its end, with a new lake and slot."""

    name, label = "tributary", "Tributary"

    def prepare(self, bench, folder):
        config = folder / "tributary.toml"
        config.write_text(
            f'[source]\nurl = "{bench.server.url}"\nslot = "bench"\npublication = ["bench"]\n'
            f'[lake]\nurl = "file://{folder}/lake"\n[snapshot]\nworkers = {self.connections}\n[http]\nlisten = ""\n'
        )
        bench.setup(config)
        return [[bench.binary, "run", "--until", "now", "--log-format", "json", "--config", config]]

    def clear(self, bench, folder):
        bench.server.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'bench'")

    def more(self, log):
        """From the log: how long it read, without what comes before and after."""
        found = {}
        for line in log.read_text().splitlines():
            entry = json.loads(line)
            text = entry.get("message", "")
            found.setdefault(text, datetime.datetime.fromisoformat(entry["timestamp"].replace("Z", "+00:00")))
        begun, ended = found.get("reading the rows that tables have already"), found.get("stopping")
        return {"reading": (ended - begun).total_seconds()} if begun and ended else {}


class Connectorx(Consumer):
    name, label = "connectorx", "connectorx, PyArrow"

    def prepare(self, bench, folder):
        return [bench.peer("connectorx", bench.server.url, f"SELECT * FROM {TABLE}", KEY, self.connections, folder)]


class Adbc(Consumer):
    name, label = "adbc", "ADBC driver, PyArrow"

    def prepare(self, bench, folder):
        return [bench.peer("adbc", bench.server.url, f"SELECT * FROM {TABLE}", folder)]


def consumers(name: str, loaded: dict, connections: list[int]):
    """The ADBC driver has one connection whatever it is told."""
    for number in connections:
        yield from (Floor(number), Tributary(number), Connectorx(number))
    yield Adbc(1)


COLUMNS = [
    "consumer", "connections", "wall, s", "of the floor's", "all CPU, of the floor's", "rows/s", "CPU, us a row", "of it in the kernel",
    "Postgres CPU, us a row", "peak memory", "lake, files", "busy elsewhere, cores",
]


def table(results) -> list[str]:
    floors = {consumer.connections: taken for consumer, taken in zip(results.consumers, results.runs) if consumer.name == "floor"}
    lines = []
    for consumer, taken in zip(results.consumers, results.runs):
        # Of as many connections, else of the most.
        floor = floors.get(consumer.connections) or floors.get(max(floors, default=0))
        walls = sorted(one.wall for one in taken)
        written = [f"{one.more['bytes'] / 1e6:,.0f} MB in {one.more['files']}" for one in taken if "files" in one.more]
        lines.append([
            consumer.label,
            consumer.connections,
            f"{median(walls):.2f} ({walls[0]:.2f}–{walls[-1]:.2f})",
            times(over_floor(taken, floor, "wall")),
            times(over_floor(taken, floor, "all_cpu")),
            f"{results.rows / median(walls):,.0f}",
            *(f"{median(getattr(one, key) for one in taken) / results.rows * 1e6:.2f}" for key in ("cpu", "system", "server")),
            f"{max(one.memory for one in taken) / 1e6:,.0f} MB",
            written[-1] if written else "",
            f"{median(one.elsewhere for one in taken):.2f}",
        ])
        reading = [one.more["reading"] for one in taken if "reading" in one.more]
        if len(reading) == len(taken):
            ratio = median(one / base.wall for one, base in zip(reading, floor)) if floor else None
            lines.append([
                f"{consumer.label}, only its reading", consumer.connections, f"{median(reading):.2f}", times(ratio), "",
                f"{results.rows / median(reading):,.0f}", *[""] * 6,
            ])
    return markdown(COLUMNS, lines)
