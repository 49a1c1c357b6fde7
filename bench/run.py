#!/usr/bin/env python3
"""Runs benches: several consumers in turn, against a real Postgres, round after round.

usage: bench/run.py [--rows N] [--rounds N] [--connections 4,2,1] [--only floor,tributary] [--no-write] [WORKLOAD …]

A workload is a file workloads/KIND_NAME.sql; the module KIND.py beside this one says who consumes it and how. What comes of it is
printed; with the kind's own number of rows it also becomes the section KIND_NAME of RESULTS.md, between its two marks. The rest of that
file stays.
BIN is the tributary that is measured, else target/release/tributary. BENCH_DIR is where everything is kept meanwhile.
"""

import argparse
import datetime
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import measure  # noqa: E402
import server  # noqa: E402

POSTGRES = 18
# So many cores may be busy with something else before a reader is warned.
ELSEWHERE_MAX = 0.1


class Bench:
    """What consumers are given."""

    def __init__(self, cache: pathlib.Path, folder: pathlib.Path, binary: pathlib.Path):
        self.python = cache / "python-peers" / "bin" / "python"
        self.binary = binary
        self.server = server.Server(cache, POSTGRES, folder)
        self.environment = self.server.environment

    def peer(self, *words) -> list[str]:
        return [self.python, HERE / "peers.py", *map(str, words)]

    def ask_peer(self, *words) -> dict:
        return json.loads(subprocess.run(self.peer(*words), stdout=subprocess.PIPE, check=True).stdout)


def main():
    # So that a kill stops the server as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    asked = arguments()
    cache = install()
    binary = pathlib.Path(os.environ.get("BIN") or target_folder() / "release" / "tributary").resolve()
    if not os.access(binary, os.X_OK):
        raise SystemExit(f"error: {binary} is not there: cargo build --release --locked -p tributary, or BIN=…")
    for workload in asked.workloads:
        bench_workload(asked, cache, binary, workload)


def arguments():
    known = sorted(path.stem for path in (HERE / "workloads").glob("*.sql"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="rows of the table, or changes; every kind has its own default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=lambda text: [int(word) for word in text.split(",")], default=[4])
    parser.add_argument("--only", type=lambda text: set(text.split(",")), help="these consumers")
    parser.add_argument("--no-write", action="store_true", help="leave RESULTS.md alone")
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(known)}; all, if none is named")
    asked = parser.parse_args()
    asked.workloads = asked.workloads or known
    for workload in asked.workloads:
        if workload not in known:
            parser.error(f"no workload {workload}, only {', '.join(known)}")
    return asked


def install() -> pathlib.Path:
    """Postgres and the peers, where they are missing."""
    script = HERE.parent / "scripts" / "test-servers.sh"
    for words in (["postgres", str(POSTGRES)], ["peers"]):
        subprocess.run([script, *words], check=True)
    if not shutil.which("psql"):
        raise SystemExit("error: psql is missing: install the Postgres client (postgresql-client)")
    return pathlib.Path(subprocess.run([script, "where"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())


def target_folder() -> pathlib.Path:
    words = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--locked"]
    said = subprocess.run(words, cwd=HERE.parent, stdout=subprocess.PIPE, check=True).stdout
    return pathlib.Path(json.loads(said)["target_directory"])


def bench_workload(asked, cache: pathlib.Path, binary: pathlib.Path, workload: str):
    kind = importlib.import_module(workload.partition("_")[0])
    rows = asked.rows or kind.ROWS
    # `postgres` must reach its cluster, so not in root's home.
    place = os.environ.get("BENCH_DIR")
    with tempfile.TemporaryDirectory(prefix="tributary-bench-", dir=place, ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        bench = Bench(cache, folder, binary)
        try:
            print(f"{workload}: loading {rows:,} rows", flush=True)
            bench.server.load(HERE / "workloads" / f"{workload}.sql", rows)
            consumers = [
                (consumer, connections)
                for consumer, connections in kind.consumers(asked.connections)
                if not asked.only or consumer.name in asked.only
            ]
            runs = rounds(bench, consumers, rows, asked.rounds, folder)
            text = report(bench, kind, consumers, runs, rows, asked.rounds)
        finally:
            bench.server.stop()
    print(text)
    if rows == kind.ROWS and not asked.no_write:
        write_section(HERE / "RESULTS.md", workload, text)


def rounds(bench, consumers, rows: int, number: int, folder: pathlib.Path):
    """Every consumer once a round; another one begins each time, so that no one always follows the same."""
    runs = {index: [] for index in range(len(consumers))}
    for turn in range(number):
        for step in range(len(consumers)):
            index = (turn + step) % len(consumers)
            consumer, connections = consumers[index]
            taken = run_once(bench, consumer, connections, rows, folder)
            runs[index].append(taken)
            print(
                f"round {turn + 1}: {consumer.name} x{connections}: {taken.wall:.2f} s, CPU {taken.cpu:.2f} s, "
                f"server {taken.server:.2f} s, elsewhere {taken.elsewhere:.2f} cores {taken.more}",
                flush=True,
            )
    return runs


def run_once(bench, consumer, connections: int, rows: int, folder: pathlib.Path):
    out, log = folder / "out", folder / "consumer.log"
    out.mkdir()
    try:
        commands = consumer.prepare(bench, connections, out)
        taken = measure.measure(bench.server, commands, bench.environment, log)
        consumer.clear(bench)
        taken.more = consumer.more(log)
        if consumer.counts:
            found = bench.ask_peer("count", out)
            if found["rows"] != rows:
                raise SystemExit(f"error: {consumer.name} wrote {found['rows']:,} rows of {rows:,}")
            taken.more.update(bytes=found["bytes"], files=found["files"])
        return taken
    finally:
        shutil.rmtree(out)


def report(bench, kind, consumers, runs, rows: int, number: int) -> str:
    """A table in Markdown: medians, and ratios within each round."""
    keys = [(consumer.name, connections) for consumer, connections in consumers]
    most = max((connections for name, connections in keys if name == "floor"), default=None)

    def floor_of(connections):
        """Of as many connections, else of the most."""
        for wanted in (connections, most):
            if ("floor", wanted) in keys:
                return runs[keys.index(("floor", wanted))]
        return None

    lines = [
        "| consumer | connections | wall, s | of the floor's | all CPU, of the floor's | rows/s | CPU, us a row | of it in the kernel "
        "| Postgres CPU, us a row | peak memory | lake, files | busy elsewhere, cores |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for index, (consumer, connections) in enumerate(consumers):
        taken = runs[index]
        floor = floor_of(connections)
        of_floor = [
            f"{median(getattr(one, key) / getattr(base, key) for one, base in zip(taken, floor)):.2f}x" if floor else ""
            for key in ("wall", "all_cpu")
        ]
        walls = sorted(one.wall for one in taken)
        wall = statistics.median(walls)
        micros = [f"{median(getattr(one, key) for one in taken) / rows * 1e6:.2f}" for key in ("cpu", "system", "server")]
        memory = None if any(one.memory is None for one in taken) else max(one.memory for one in taken)
        written = [f"{one.more['bytes'] / 1e6:,.0f} MB in {one.more['files']}" for one in taken if "files" in one.more]
        cells = [
            consumer.label,
            connections,
            f"{wall:.2f} ({walls[0]:.2f}–{walls[-1]:.2f})",
            *of_floor,
            f"{rows / wall:,.0f}",
            *micros,
            f"{memory / 1e6:,.0f} MB" if memory else "little",
            written[-1] if written else "",
            f"{median(one.elsewhere for one in taken):.2f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        reading = [one.more["reading"] for one in taken if "reading" in one.more]
        if len(reading) == len(taken):
            ratio = median(one / base.wall for one, base in zip(reading, floor)) if floor else None
            cells = [f"{consumer.label}, only its reading", connections, f"{median(reading):.2f}"]
            cells += ["" if ratio is None else f"{ratio:.2f}x", "", f"{rows / median(reading):,.0f}", *[""] * 6]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    versions = bench.ask_peer("versions")
    versions["Postgres"] = bench.server.query("SHOW server_version").split()[0]
    versions["psql"] = said(["psql", "--version"]).split()[2]
    versions["tributary"] = said([bench.binary, "--version"]).split()[1]
    if not os.environ.get("BIN"):
        versions["tributary"] += commit()
    settings = ", ".join(f"{key}={value}" for key, value in server.SETTINGS.items())
    head = [
        f"### {kind.TITLE}: {rows:,} rows",
        "",
        f"{datetime.date.today()}, {machine()}. Medians of {number} rounds, in brackets the range; ratios are taken within each round.",
        f"{', '.join(f'{name} {version}' for name, version in versions.items())}. Postgres with {settings}.",
        "",
    ]
    elsewhere = median(one.elsewhere for taken in runs.values() for one in taken)
    if elsewhere > ELSEWHERE_MAX:
        head += [f"**Something else kept {elsewhere:.1f} cores busy meanwhile**: the wall times say little, the CPU times more.", ""]
    return "\n".join(head + lines)


def median(values) -> float:
    return statistics.median(values)


def said(words) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True)
    return f" ({asked.stdout.strip()})" if asked.returncode == 0 else ""


def machine() -> str:
    cpu = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)
    model = cpu.group(1) if cpu else os.uname().machine
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {int(memory.group(1)) / 2**20:.0f} GiB, Linux {os.uname().release.split('-')[0]}"


def write_section(path: pathlib.Path, name: str, text: str):
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text}\n{end}"
    whole = path.read_text()
    if begin in whole:
        before, _, rest = whole.partition(begin)
        whole = before + section + rest.partition(end)[2]
    else:
        whole = f"{whole.rstrip()}\n\n{section}\n"
    path.write_text(whole)


if __name__ == "__main__":
    main()
