"""Benches of the stream: WAL that was written before, from a replication slot to wherever the consumer puts it.

Owns: who reads it, and what is made ready for that and cleared away outside the time.
Does not: measure.
Holds: everybody reads the same WAL. The workload's script makes the slot `template` before it writes, and every run gets a copy of that slot, at
the same position. Everybody tells the server the same options, which is checked, and stops at the same position; all rows arrive: the runner counts them.
"""

import pathlib
import re
import shutil
import tempfile

import wire
from report import markdown, median, over_floor, times
from s3 import BUCKET
from server import client

TITLES = {
    "narrow": "Stream: narrow rows, 1,000 a transaction",
    "pgbench": "Stream: pgbench's transactions",
    "leaves_2000": "Stream: narrow rows over 2,000 partitions",
    "leaves_10000": "Stream: narrow rows over 10,000 partitions",
    "leaves_20000": "Stream: narrow rows over 20,000 partitions",
    "huge": "Stream: narrow rows in one transaction",
    "wide": "Stream: wide rows, 100 columns and a document of 1 KB",
}
# Changes of the full and of the small size.
SIZES = {
    "narrow": (5_000_000, 100_000),
    "pgbench": (1_200_000, 100_000),
    "leaves_2000": (2_000_000, 100_000),
    "leaves_10000": (2_000_000, 100_000),
    "leaves_20000": (2_000_000, 100_000),
    "huge": (3_000_000, 600_000),
    "wide": (200_000, 10_000),
}
PEERS = ()
PROTOCOL = {14: 2, 15: 3}
MEMORY = pathlib.Path("/dev/shm")


def ready(bench, name: str, rows: int) -> dict:
    """Where the stream ends, what everybody asks the server for, and what it sends then."""
    until = bench.server.query("SELECT pg_current_wal_insert_lsn()")
    # Something behind it, and all of it on disk: who reads up to a position sees there that it has come to it.
    bench.server.query("SELECT pg_logical_emit_message(false, 'bench', 'end'), pg_switch_wal()")
    bench.server.query("CHECKPOINT")
    wal = int(bench.server.query(f"SELECT '{until}'::pg_lsn - confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'template'"))
    options = told(bench)
    slot = new_slot(bench)
    sent = wire.count(bench.server, slot, options, until)
    drop_slot(bench)
    return {"until": until, "options": options, "wal_bytes": wal, **sent}


def told(bench) -> dict[str, str]:
    """What Tributary asks the server for by its defaults."""
    version = str(PROTOCOL.get(bench.major, 4))
    return {"proto_version": version, "publication_names": '"bench"', "messages": "true", "binary": "true"}


def new_slot(bench) -> str:
    drop_slot(bench)
    bench.server.query("SELECT pg_copy_logical_replication_slot('template', 'bench')")
    return "bench"


def drop_slot(bench):
    bench.server.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'bench'")


class Consumer:
    """Who reads the stream."""

    variant = ""
    # What happens while it runs.
    drive = None

    def __init__(self, loaded: dict):
        self.loaded = loaded

    def check(self, taken):
        """Asked the server for what everybody asks it for, and once."""
        told = [dict(re.findall(r"\"?(\w+)\"? '([^']*)'", command)) for command in taken.commands]
        if told != [self.loaded["options"]]:
            raise SystemExit(f"error: {self.name} told the server {told}, and not {self.loaded['options']}")

    def more(self, log) -> dict:
        return {}

    def lake(self, bench, folder) -> list:
        return [folder]

    def clear(self, bench, folder):
        drop_slot(bench)


class Floor(Consumer):
    """What the server sends to a client that throws it away."""

    name, label, counts = "floor", "`pg_recvlogical -f /dev/null`", False

    def prepare(self, bench, folder):
        options = [word for key, value in self.loaded["options"].items() for word in ("-o", f"{key}={value}")]
        start = [client("pg_recvlogical"), "--slot", new_slot(bench), "--start", "--no-loop", "-f", "/dev/null", "--dbname", "postgres"]
        return [[*start, "--endpos", self.loaded["until"], *options]]


class Tributary(Consumer):
    """The daemon from its start to its end, with a new lake at the position of the slot."""

    name, label, counts = "tributary", "Tributary, to a folder", True

    def place(self, bench, folder) -> str:
        """The sections of the configuration that say where the lake is."""
        return f'[lake]\nurl = "file://{folder}/lake"\n'

    def prepare(self, bench, folder):
        config = folder / "tributary.toml"
        config.write_text(
            f'[source]\nurl = "{bench.source_url}"\nslot = "{new_slot(bench)}"\npublication = ["bench"]\n'
            f'{self.place(bench, folder)}[snapshot]\nmode = "never"\n[http]\nlisten = ""\n'
        )
        bench.setup(config, "--adopt-slot")
        return [[bench.binary, "run", "--until", self.loaded["until"], "--log-format", "json", "--config", config]]


class ToS3(Tributary):
    """The same, to a server on loopback."""

    name, label = "s3", "Tributary, to S3 on loopback"

    def place(self, bench, folder):
        return f'[lake]\nurl = "s3://{BUCKET}/lake"\n[lake.s3]\nendpoint = "{bench.s3.endpoint}"\nregion = "us-east-1"\npath_style = true\n'

    def lake(self, bench, folder):
        return [f"s3://{BUCKET}/lake", bench.s3.endpoint]

    def clear(self, bench, folder):
        super().clear(bench, folder)
        bench.ask_peer("clear", *self.lake(bench, folder))


class ToMemory(Tributary):
    """The same, to a folder that is in memory: the nearest there is to a lake that costs nothing."""

    name, label = "memory", "Tributary, to a folder in memory"

    def __init__(self, loaded):
        super().__init__(loaded)
        self.folder = None

    def place(self, bench, folder):
        self.folder = tempfile.mkdtemp(prefix="tributary-bench-", dir=MEMORY)
        return f'[lake]\nurl = "file://{self.folder}/lake"\n'

    def lake(self, bench, folder):
        return [self.folder]

    def clear(self, bench, folder):
        super().clear(bench, folder)
        if self.folder:
            shutil.rmtree(self.folder)
            self.folder = None


def consumers(name: str, loaded: dict, connections: list[int]):
    return [Floor(loaded), Tributary(loaded), ToS3(loaded), *([ToMemory(loaded)] if MEMORY.is_dir() else [])]


COLUMNS = [
    "consumer", "rows/s", "wall, s", "of the floor's", "CPU, us a row", "of the floor's", "of it in the kernel", "walsender CPU, us a row", "of the floor's",
    "peak memory", "lake, files", "busy elsewhere, cores",
]


def table(results) -> list[str]:
    floor = next((taken for consumer, taken in zip(results.consumers, results.runs) if consumer.name == "floor"), None)
    lines = []
    for consumer, taken in zip(results.consumers, results.runs):
        walls = sorted(one.wall for one in taken)
        micros = {key: f"{median(getattr(one, key) for one in taken) / results.rows * 1e6:.2f}" for key in ("cpu", "system", "sender")}
        written = [f"{one.more['bytes'] / 1e6:,.1f} MB in {one.more['files']}" for one in taken if "files" in one.more]
        lines.append([
            consumer.label,
            f"{results.rows / median(walls):,.0f}",
            f"{median(walls):.2f} ({walls[0]:.2f}–{walls[-1]:.2f})",
            times(over_floor(taken, floor, "wall")),
            micros["cpu"],
            times(over_floor(taken, floor, "cpu")),
            micros["system"],
            micros["sender"],
            times(over_floor(taken, floor, "sender")),
            f"{max(one.memory for one in taken) / 1e6:,.0f} MB",
            written[-1] if written else "",
            f"{median(one.elsewhere for one in taken):.2f}",
        ])
    sent = results.loaded
    told = ", ".join(f"{key} {value}" for key, value in sent["options"].items())
    head = (
        f"{sent['wal_bytes'] / 1e6:,.0f} MB of WAL; on the wire {sent['wire_bytes'] / 1e6:,.0f} MB in {sent['messages']:,} messages, "
        f"{sent['wire_bytes'] / results.rows:,.0f} bytes a row, the same for all ({told})."
    )
    return [head, "", *markdown(COLUMNS, lines)]
