#!/usr/bin/env python3
"""Runs benches: several consumers in turn, against a real Postgres, round after round.

usage: bench/run.py [--size full|small] [--rows N] [--rounds N] [--major 18] [--connections 4,2,1] [--only floor,tributary]
                    [--results FOLDER] [WORKLOAD …]

A workload is a file workloads/KIND_NAME.sql; the module KIND.py beside this one says who consumes it and how. `narrow` is short for
`stream_narrow`. What comes of it is printed; of the full size it also becomes the section KIND_NAME of RESULTS.md, between its two marks,
and results/KIND_NAME.json, of which the plots are drawn. The rest of RESULTS.md stays. With --results FOLDER all of that is
written there, whatever the size.
BIN is the tributary that is measured, else target/release/tributary. BENCH_DIR is where everything is kept meanwhile.
"""

import argparse
import importlib
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import measure  # noqa: E402
import report  # noqa: E402
import stage  # noqa: E402


def main():
    asked = arguments()
    for workload in asked.workloads:
        bench_workload(asked, workload)


def arguments():
    known = sorted(path.stem for path in (HERE / "workloads").glob("*.sql"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--rows", type=int, help="rows of the table, or changes, instead of those of the size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--major", type=int, default=18, help="the version of Postgres, 14 to 18")
    parser.add_argument("--connections", type=lambda text: [int(word) for word in text.split(",")], default=[4], help="of a snapshot")
    parser.add_argument("--only", type=lambda text: set(text.split(",")), help="these consumers")
    parser.add_argument("--results", type=pathlib.Path, help="where results of any size are written; else beside this script, and the full size only")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(known)}; all, if none is named")
    asked = parser.parse_args()
    asked.workloads = [name if name in known else f"stream_{name}" for name in asked.workloads] or known
    for workload in asked.workloads:
        if workload not in known:
            parser.error(f"no workload {workload}, only {', '.join(known)}")
    return asked


def bench_workload(asked, workload: str):
    kind_name, _, name = workload.partition("_")
    kind = importlib.import_module(kind_name)
    full, small = kind.SIZES[name]
    rows = asked.rows or (full if asked.size == "full" else small)
    with stage.bench(asked.major) as bench:
        print(f"{workload}: loading {rows:,} rows", flush=True)
        bench.server.run(HERE / "workloads" / f"{workload}.sql", rows)
        loaded = kind.ready(bench, name, rows)
        consumers = [one for one in kind.consumers(name, loaded, asked.connections) if not asked.only or one.name in asked.only]
        runs = rounds(bench, consumers, rows, asked.rounds)
        results = report.Results(workload, kind.TITLES[name], rows, asked.rounds, loaded, consumers, runs, report.versions(bench, kind.PEERS))
    text = report.section(results, kind.table(results))
    print(text)
    if asked.results or rows == full:
        report.write(asked.results or HERE, results, text)
        subprocess.run([HERE / "plot.py", asked.results or HERE], check=True)


def rounds(bench, consumers, rows: int, number: int) -> list[list[measure.Taken]]:
    """Every consumer once a round; another one begins each time, so that no one always follows the same."""
    runs = [[] for _ in consumers]
    for turn in range(number):
        for step in range(len(consumers)):
            index = (turn + step) % len(consumers)
            consumer = consumers[index]
            taken = run_once(bench, consumer, rows)
            runs[index].append(taken)
            print(
                f"round {turn + 1}: {consumer.name}{consumer.variant}: {taken.wall:.2f} s, CPU {taken.cpu:.2f} s, server {taken.server:.2f} s, "
                f"walsender {taken.sender:.2f} s, {taken.memory / 1e6:.0f} MB, elsewhere {taken.elsewhere:.2f} cores {taken.more}",
                flush=True,
            )
    return runs


def run_once(bench, consumer, rows: int) -> measure.Taken:
    out, log = bench.folder / "out", bench.folder / "consumer.log"
    out.mkdir()
    try:
        commands = consumer.prepare(bench, out)
        taken = measure.measure(bench.server, commands, bench.environment, log, bench.beside(), consumer.drive)
        consumer.check(taken)
        taken.more |= consumer.more(log)
        if consumer.counts:
            found = bench.ask_peer("count", *consumer.lake(bench, out))
            if found["rows"] != rows:
                raise SystemExit(f"error: {consumer.name} wrote {found['rows']:,} rows of {rows:,}")
            taken.more.update(bytes=found["bytes"], files=found["files"])
        return taken
    finally:
        consumer.clear(bench, out)
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
