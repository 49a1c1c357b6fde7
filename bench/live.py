"""Benches of a stream that is written while it is read: a transaction that is sent before it commits (protocol streaming).

Owns: who reads it, and the writing.
Does not: measure.
Holds: everybody reads a transaction of the same rows, with the same options, from a slot that is made just before it. It is no replay as in
`stream`: a transaction that is older than the session of its reader is sent once it has committed.
"""

import json
import os
import signal
import time
import urllib.request

import stream
from measure import memory
from report import markdown, median, over_floor, times
from server import client, free_port
from wire import lsn

TITLES = {"huge": "Live: one transaction of narrow rows, sent while it is open"}
# Rows of the full and of the small size; a small transaction is one that the server still sends before its end.
SIZES = {"huge": (3_000_000, 600_000)}
PEERS = ()
LOOK_SECONDS = 0.1
WAIT_SECONDS = 1800


def ready(bench, name: str, rows: int) -> dict:
    bench.server.query("CHECKPOINT")
    return {"options": {**stream.told(bench), "streaming": "on"}, "rows": rows}


class Live(stream.Consumer):
    """Reads while the transaction is written, and is told to end when it has all of it."""

    counts = False

    def begin(self, bench) -> str:
        """A slot that has nothing to send yet."""
        self.bench = bench
        stream.drop_slot(bench)
        bench.server.query("TRUNCATE narrow")
        bench.server.query("SELECT pg_create_logical_replication_slot('bench', 'pgoutput')")
        bench.server.query("CHECKPOINT")
        return "bench"

    def drive(self, pids):
        server = self.bench.server
        self.wait(pids, lambda: server.query("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1")
        begun = time.monotonic()
        server.query(f"CALL load({self.loaded['rows']})")
        committed = time.monotonic()
        until = server.query("SELECT pg_current_wal_insert_lsn()")
        server.query("SELECT pg_logical_emit_message(false, 'bench', 'end')")
        self.wait(pids, lambda: self.has(until))
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        # A process that has ended waits for the runner, without memory.
        while any(memory(pid, "VmRSS") for pid in pids):
            time.sleep(0.005)
        return {"writing": committed - begun, "behind": time.monotonic() - committed}

    def wait(self, pids, condition):
        end = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > end or not all(memory(pid, "VmRSS") for pid in pids):
                raise SystemExit(f"error: {self.name} ended, or takes too long")
            time.sleep(LOOK_SECONDS)


class Floor(Live):
    """What the server sends to a client that throws it away."""

    name, label = "floor", "`pg_recvlogical -f /dev/null`"

    def prepare(self, bench, folder):
        options = [word for key, value in self.loaded["options"].items() for word in ("-o", f"{key}={value}")]
        return [[client("pg_recvlogical"), "--slot", self.begin(bench), "--start", "--no-loop", "-f", "/dev/null", "--dbname", "postgres", *options]]

    def has(self, until):
        """It says seldom what it has; but what is sent it has read, save for what a socket holds."""
        return self.bench.server.query(f"SELECT sent_lsn >= '{until}' FROM pg_stat_replication") == "t"


class Tributary(Live):
    """The daemon with `source.streaming`."""

    name, label, counts = "tributary", "Tributary, to a folder", True

    def prepare(self, bench, folder):
        self.port = free_port()
        config = folder / "tributary.toml"
        config.write_text(
            f'[source]\nurl = "{bench.source_url}"\nslot = "{self.begin(bench)}"\npublication = ["bench"]\nstreaming = "on"\n'
            f'[lake]\nurl = "file://{folder}/lake"\n[snapshot]\nmode = "never"\n[http]\nlisten = "127.0.0.1:{self.port}"\n'
        )
        bench.setup(config, "--adopt-slot")
        return [[bench.binary, "run", "--log-format", "json", "--config", config]]

    def has(self, until):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status.json", timeout=10) as answer:
            received = json.load(answer)["positions"]["received"]
        return lsn(received) >= lsn(until)


def consumers(name: str, loaded: dict, connections: list[int]):
    return [Floor(loaded), Tributary(loaded)]


COLUMNS = [
    "consumer", "writing, s", "from its commit to the end, s", "CPU, us a row", "of the floor's", "walsender CPU, us a row", "of the floor's",
    "peak memory", "lake, files", "busy elsewhere, cores",
]


def table(results) -> list[str]:
    floor = next((taken for consumer, taken in zip(results.consumers, results.runs) if consumer.name == "floor"), None)
    lines = []
    for consumer, taken in zip(results.consumers, results.runs):
        cpu, sender = (f"{median(getattr(one, key) for one in taken) / results.rows * 1e6:.2f}" for key in ("cpu", "sender"))
        written = [f"{one.more['bytes'] / 1e6:,.1f} MB in {one.more['files']}" for one in taken if "files" in one.more]
        lines.append([
            consumer.label,
            f"{median(one.more['writing'] for one in taken):.2f}",
            f"{median(one.more['behind'] for one in taken):.2f}",
            cpu,
            times(over_floor(taken, floor, "cpu")),
            sender,
            times(over_floor(taken, floor, "sender")),
            f"{max(one.memory for one in taken) / 1e6:,.0f} MB",
            written[-1] if written else "",
            f"{median(one.elsewhere for one in taken):.2f}",
        ])
    return markdown(COLUMNS, lines)
