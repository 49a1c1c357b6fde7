#!/usr/bin/env python3
"""How long a row takes from its commit until a reader of the lake sees it.

usage: bench/latency.py [--seconds 60] [--rate 10000] [--interval 1s] [--lake folder|s3] [--major 18] [--results FOLDER]

Rows are written at a rate, 100 a transaction. Meanwhile the lake is listed from outside, as a reader does it that knows nothing of the daemon: every 10 ms
in a folder, every 50 ms in S3. When a listing that shows a new file has returned, its rows are readable; when each had committed is in the file. What
comes of it is printed, and becomes a section of RESULTS.md.
BIN is the tributary that is measured, else target/release/tributary.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import re
import sys
import threading
import time
import urllib.parse
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import stage  # noqa: E402

WARM_SECONDS = 5
LOOK_SECONDS = {"folder": 0.01, "s3": 0.05}
ROWS_PER_TRANSACTION = 100
PERCENTS = (50, 90, 99, 99.9, 100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help=f"besides {WARM_SECONDS} at the start that do not count")
    parser.add_argument("--rate", type=int, default=10_000, help="rows a second")
    parser.add_argument("--interval", default="1s", help="cut.interval")
    parser.add_argument("--lake", choices=("folder", "s3"), default="folder")
    parser.add_argument("--major", type=int, default=18)
    parser.add_argument("--results", type=pathlib.Path, default=HERE, help="whose RESULTS.md gets the section")
    asked = parser.parse_args()
    stage.with_peers()
    import report

    with stage.bench(asked.major) as bench:
        text = run(bench, asked)
    print(text)
    asked.results.mkdir(parents=True, exist_ok=True)
    report.write_section(asked.results / "RESULTS.md", f"latency_{asked.lake}", text)


def run(bench, asked) -> str:
    import report
    from daemon import Daemon
    from measure import busy_seconds
    from writer import Writer

    bench.server.run(HERE / "workloads" / "parts" / "narrow_table.sql", 0)
    lake = Folder(bench) if asked.lake == "folder" else S3(bench)
    daemon = Daemon(bench, lake.config, asked.interval)
    try:
        poller = Poller(lake, LOOK_SECONDS[asked.lake])
        writer = Writer(bench.server.url, asked.rate, ROWS_PER_TRANSACTION)
        writer.start()
        time.sleep(WARM_SECONDS)
        begun, cpu, busy, rows = time.time(), daemon.cpu(), busy_seconds(), writer.rows
        time.sleep(asked.seconds)
        ended, cpu, busy, rows = time.time(), daemon.cpu() - cpu, busy_seconds() - busy, writer.rows - rows
        writer.stop()
        peak = daemon.peak()
        daemon.must_run()
        # What is on its way counts as well.
        daemon.stop()
        poller.stop()
    finally:
        daemon.stop()
    waited = sorted(lake.waited(poller.seen, begun, ended))
    if len(waited) < rows * 0.98:
        raise SystemExit(f"error: {len(waited):,} rows of {rows:,} were seen")
    places = {percent: waited[min(len(waited) - 1, int(len(waited) * percent / 100))] for percent in PERCENTS}
    columns = ["of all rows"] + [f"{percent} %" if percent < 100 else "the last" for percent in PERCENTS]
    line = ["readable after, s"] + [f"{value:.3f}" for value in places.values()]
    place = "a folder" if asked.lake == "folder" else "S3 on loopback"
    head = [
        f"### Latency: from the commit to {place}",
        "",
        f"{datetime.date.today()}, {report.machine()}. Postgres {bench.server.query('SHOW server_version').split()[0]}. "
        f"{rows / asked.seconds:,.0f} narrow rows a second for {asked.seconds} s, {ROWS_PER_TRANSACTION} a transaction; the writer was at most "
        f"{writer.late:.2f} s behind its time. `cut.interval = \"{asked.interval}\"`. The lake was listed every {poller.period() * 1000:.0f} ms. "
        f"{len(poller.seen)} files; {cpu / asked.seconds * 100:.1f} % of a core for the daemon, {peak / 1e6:.0f} MB at most; "
        f"all cores together were busy for {busy / asked.seconds:.1f} s a second.",
        "",
    ]
    return "\n".join(head + report.markdown(columns, [line]))


class Poller(threading.Thread):
    """Lists the lake, and keeps when each file was there first."""

    def __init__(self, lake, pause: float):
        super().__init__(daemon=True)
        self.lake, self.pause = lake, pause
        self.seen: dict[str, float] = {}
        self.looks, self.begun = 0, time.monotonic()
        self.done = threading.Event()
        self.start()

    def run(self):
        while not self.done.wait(self.pause):
            self.look()

    def look(self):
        found = self.lake.list()
        now = time.time()
        self.looks += 1
        for file in found:
            self.seen.setdefault(file, now)

    def period(self) -> float:
        return self.lasted / max(1, self.looks)

    def stop(self):
        self.done.set()
        self.join()
        self.lasted = time.monotonic() - self.begun
        self.look()


class Folder:
    def __init__(self, bench):
        self.folder = bench.folder / "lake"
        self.config = f'[lake]\nurl = "file://{self.folder}"\n'

    def list(self) -> list[str]:
        """All data files of all hours."""
        found = []
        for hour in self.folder.glob("public/narrow/data/*/*"):
            with os.scandir(hour) as entries:
                found += [entry.path for entry in entries if entry.name.endswith(".parquet")]
        return found

    def waited(self, seen: dict[str, float], begun: float, ended: float):
        import pyarrow.fs

        return waited(pyarrow.fs.LocalFileSystem(), seen, begun, ended)


class S3:
    def __init__(self, bench):
        from s3 import BUCKET, CREDENTIALS

        self.bucket, self.endpoint = BUCKET, bench.s3.endpoint
        os.environ.update(CREDENTIALS)
        self.config = f'[lake]\nurl = "s3://{BUCKET}/lake"\n[lake.s3]\nendpoint = "{self.endpoint}"\nregion = "us-east-1"\npath_style = true\n'
        self.last = ""

    def list(self) -> list[str]:
        """Data files behind the last one: their names are in the order of the cuts."""
        query = urllib.parse.urlencode({"list-type": 2, "prefix": "lake/public/narrow/data/", "start-after": self.last})
        with urllib.request.urlopen(f"{self.endpoint}/{self.bucket}?{query}", timeout=10) as answer:
            found = [key for key in re.findall(r"<Key>([^<]*)</Key>", answer.read().decode()) if key.endswith(".parquet")]
        self.last = max([self.last, *found])
        return [f"{self.bucket}/{key}" for key in found]

    def waited(self, seen: dict[str, float], begun: float, ended: float):
        import pyarrow.fs

        scheme, _, host = self.endpoint.partition("://")
        return waited(pyarrow.fs.S3FileSystem(scheme=scheme, endpoint_override=host), seen, begun, ended)


def waited(system, seen: dict[str, float], begun: float, ended: float):
    """Of every row that committed in that time, the seconds until its file was seen. The clock is the server's, which is this machine's."""
    import pyarrow.parquet

    for file, at in seen.items():
        table = pyarrow.parquet.read_table(file, columns=["_cdc_commit_ts"], filesystem=system, partitioning=None)
        for committed in table["_cdc_commit_ts"].cast("int64").to_pylist():
            if begun <= committed / 1e6 < ended:
                yield at - committed / 1e6


if __name__ == "__main__":
    main()
