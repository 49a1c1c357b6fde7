#!/usr/bin/env python3
"""What the daemon's memory does over time: at rest, then under load.

usage: bench/soak.py [--minutes 60] [--rate 10000] [--interval 10s] [--idle 30] [--major 18] [--max-slope KIB] [--results FOLDER]

Starts a daemon with an empty table, leaves it alone for --idle seconds, then writes rows at a rate: half of them insertions, half updates. Resident memory is
looked at every second. Old files of the lake, and the table itself, are thrown away now and then, so that a long run does not fill a disk.
The slope is that of a straight line through the second half of the load, with what it may be off by (two standard errors). With --max-slope a slope that
is surely more, in KiB an hour, fails. Samples and a plot go to --results, by default results/ beside this script.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import math
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import stage  # noqa: E402

ROWS_PER_TRANSACTION = 100
# After so many rows the table is emptied.
TABLE_ROWS = 5_000_000
# Files older than this many seconds are deleted.
FILE_SECONDS = 600


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=10_000, help="rows a second")
    parser.add_argument("--interval", default="10s", help="cut.interval")
    parser.add_argument("--idle", type=int, default=30, help="seconds at rest before")
    parser.add_argument("--major", type=int, default=18)
    parser.add_argument("--max-slope", type=float, help="KiB an hour; more is a failure")
    parser.add_argument("--results", type=pathlib.Path, default=HERE)
    asked = parser.parse_args()
    stage.with_peers()
    import plot
    import report

    with stage.bench(asked.major) as bench:
        samples, summary = run(bench, asked)
    folder = asked.results / "results"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "soak.csv").open("w", newline="") as file:
        written = csv.writer(file)
        written.writerow(["seconds", "resident_bytes", "rows"])
        written.writerows(samples)
    plot.soak(samples, asked.idle, folder / "soak.svg")
    slope, error = line(half(samples, asked.idle))
    text = section(asked, samples, summary, slope, error)
    print(text)
    report.write_section(asked.results / "RESULTS.md", "soak", text)
    if asked.max_slope is not None and slope - error > asked.max_slope:
        raise SystemExit(f"error: memory grows by {slope:.0f} KiB an hour, give or take {error:.0f}, and may by {asked.max_slope:.0f}")


def run(bench, asked):
    import report
    from daemon import Daemon
    from writer import Writer

    bench.server.run(HERE / "workloads" / "parts" / "narrow_table.sql", 0)
    lake = bench.folder / "lake"
    daemon = Daemon(bench, f'[lake]\nurl = "file://{lake}"\n', asked.interval)
    writer = Writer(bench.server.url, asked.rate, ROWS_PER_TRANSACTION, updates=True)
    samples, begun, emptied = [], time.monotonic(), 0
    try:
        while (passed := time.monotonic() - begun) < asked.idle + asked.minutes * 60:
            daemon.must_run()
            if passed >= asked.idle and not writer.is_alive():
                if writer.rows:
                    writer.stop()
                writer.start()
            samples.append((round(passed, 2), daemon.resident(), writer.rows))
            if writer.rows - emptied > TABLE_ROWS:
                emptied = writer.rows
                bench.server.query("TRUNCATE narrow")
            if len(samples) % 60 == 0:
                forget(lake)
            time.sleep(max(0.0, begun + len(samples) - time.monotonic()))
        writer.stop()
        cpu, peak = daemon.cpu(), daemon.peak()
        version = bench.server.query("SHOW server_version").split()[0]
    finally:
        writer.done.set()
        daemon.stop()
    return samples, {"cpu": cpu, "peak": peak, "rows": writer.rows, "version": version, "machine": report.machine()}


def forget(lake: pathlib.Path):
    old = time.time() - FILE_SECONDS
    for file in lake.glob("public/**/*.parquet"):
        if file.stat().st_mtime < old:
            file.unlink()


def half(samples, idle: int):
    """The second half of the load."""
    loaded = [sample for sample in samples if sample[0] >= idle]
    return loaded[len(loaded) // 2:]


def line(samples) -> tuple[float, float]:
    """Slope of the least squares in KiB an hour, and twice its standard error. Samples a second apart are not independent: the error counts one of thirty."""
    hours, sizes = [sample[0] / 3600 for sample in samples], [sample[1] / 1024 for sample in samples]
    count = len(samples)
    if count < 3:
        return 0.0, math.inf
    middle, mean = sum(hours) / count, sum(sizes) / count
    spread = sum((hour - middle) ** 2 for hour in hours)
    slope = sum((hour - middle) * (size - mean) for hour, size in zip(hours, sizes)) / spread
    rest = sum((size - mean - slope * (hour - middle)) ** 2 for hour, size in zip(hours, sizes))
    return slope, 2 * math.sqrt(rest / (count - 2) / spread * 30)


def section(asked, samples, summary, slope: float, error: float) -> str:
    import report

    mib = lambda size: f"{size / 2**20:.1f} MiB"  # noqa: E731
    idle = [sample[1] for sample in samples if 5 <= sample[0] < asked.idle] or [samples[0][1]]
    late = sorted(sample[1] for sample in half(samples, asked.idle))
    columns = ["at rest", "median of the second half", "most of it", "peak of all", "slope, KiB an hour", "CPU, us a row"]
    cells = [
        mib(report.median(idle)), mib(report.median(late)), mib(late[-1]), mib(summary["peak"]), f"{slope:,.0f} ± {error:,.0f}",
        f"{summary['cpu'] / max(1, summary['rows']) * 1e6:.2f}",
    ]
    return "\n".join([
        f"### Soak: {asked.minutes:g} minutes",
        "",
        f"{datetime.date.today()}, {summary['machine']}. Postgres {summary['version']}. "
        f"{summary['rows']:,} narrow rows at {asked.rate:,} a second, half of them updates; `cut.interval = \"{asked.interval}\"`.",
        "",
        *report.markdown(columns, [cells], left=0),
        "",
        "![Resident memory over time](results/soak.svg)",
    ])


if __name__ == "__main__":
    main()
