#!/usr/bin/env python3
"""What the pace of reading is worth, by the kind of connection.

usage: bench/pacing.py [--rows 1000000] [--rounds 3] [--links tcp,socket,link,1gbit,100mbit] [--major 18] [--results FOLDER]

The same WAL, of narrow rows, over TCP on loopback, over a Unix socket, and over links between two network namespaces: one as fast as the kernel makes it,
and some that are shaped by a token bucket (tc tbf). Links need root, ip and tc; without them they are left out, and that is said. Tributary paces itself
as it is built; pg_recvlogical reads whatever comes at once. What comes of it is printed, and becomes the section `pacing` of RESULTS.md.
BIN is the tributary that is measured, else target/release/tributary.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import datetime
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import measure  # noqa: E402
import report  # noqa: E402
import stage  # noqa: E402
import stream  # noqa: E402

ROWS = 1_000_000
LINKS = {
    "tcp": "TCP on loopback",
    "socket": "Unix socket",
    "link": "a link between namespaces",
    "1gbit": "a link of 1 Gbit/s",
    "100mbit": "a link of 100 Mbit/s",
}
# Of the machine and of the consumers; a network that nobody has by chance.
NEAR, FAR = "10.211.97.1", "10.211.97.2"
NAMESPACE, DEVICES = "tributary-bench", ("tributary-b0", "tributary-b1")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--links", type=lambda text: text.split(","), default=list(LINKS))
    parser.add_argument("--major", type=int, default=18)
    parser.add_argument("--results", type=pathlib.Path, help="where results of any size are written; else beside this script, and of the usual size only")
    asked = parser.parse_args()
    if unknown := set(asked.links) - set(LINKS):
        parser.error(f"no link {', '.join(unknown)}, only {', '.join(LINKS)}")
    with contextlib.ExitStack() as stack:
        links = [name for name in asked.links if name in ("tcp", "socket")]
        address = "127.0.0.1"
        if set(asked.links) - set(links):
            if namespaces(stack):
                links, address = asked.links, f"127.0.0.1,{NEAR}"
            else:
                print("SKIP: no links between namespaces here: that needs root, ip and tc", file=sys.stderr)
        bench = stack.enter_context(stage.bench(asked.major, address))
        text = run(bench, links, asked.rows, asked.rounds)
    print(text)
    if asked.results:
        asked.results.mkdir(parents=True, exist_ok=True)
    if asked.results or asked.rows == ROWS:
        report.write_section((asked.results or HERE) / "RESULTS.md", "pacing", text)


def run(bench, links: list[str], rows: int, number: int) -> str:
    bench.server.run(HERE / "workloads" / "stream_narrow.sql", rows)
    loaded = stream.ready(bench, "narrow", rows)
    taken = {(name, consumer): [] for name in links for consumer in ("floor", "tributary")}
    for turn in range(number):
        for name in links[turn % len(links):] + links[:turn % len(links)]:
            consumers = [stream.Floor(loaded), stream.Tributary(loaded)]
            for consumer in consumers if turn % 2 == 0 else reversed(consumers):
                one = run_once(bench, name, consumer)
                taken[name, consumer.name].append(one)
                print(
                    f"round {turn + 1}: {name}: {consumer.name}: {one.wall:.2f} s, CPU {one.cpu:.2f} s, walsender {one.sender:.2f} s, "
                    f"elsewhere {one.elsewhere:.2f} cores",
                    flush=True,
                )
    return section(bench, links, rows, number, taken, loaded)


def run_once(bench, name: str, consumer) -> measure.Taken:
    reached = reach(bench, name)
    out = bench.folder / "out"
    out.mkdir()
    try:
        commands = consumer.prepare(reached, out)
        if name not in ("tcp", "socket"):
            shape(name)
            commands = [[shutil.which("ip"), "netns", "exec", NAMESPACE, *command] for command in commands]
        one = measure.measure(bench.server, commands, reached.environment, bench.folder / "consumer.log")
        consumer.check(one)
        return one
    finally:
        consumer.clear(bench, out)
        shutil.rmtree(out)


def reach(bench, name: str):
    """The same bench, by another way."""
    reached = copy.copy(bench)
    host = {"tcp": "127.0.0.1", "socket": str(bench.server.sockets)}.get(name, NEAR)
    reached.environment = {**bench.environment, "PGHOST": host}
    reached.source_url = bench.server.socket_url if name == "socket" else f"postgresql://postgres@{host}:{bench.server.port}/postgres?sslmode=disable"
    return reached


def namespaces(stack: contextlib.ExitStack) -> bool:
    """A namespace with a link to here, gone with the stack."""
    if os.getuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        return False
    near, far = DEVICES
    steps = [
        ["ip", "netns", "add", NAMESPACE],
        ["ip", "link", "add", near, "type", "veth", "peer", "name", far],
        ["ip", "link", "set", far, "netns", NAMESPACE],
        ["ip", "address", "add", f"{NEAR}/30", "dev", near],
        ["ip", "link", "set", near, "up"],
        ["ip", "-n", NAMESPACE, "address", "add", f"{FAR}/30", "dev", far],
        ["ip", "-n", NAMESPACE, "link", "set", far, "up"],
        ["ip", "-n", NAMESPACE, "link", "set", "lo", "up"],
    ]
    undo = contextlib.ExitStack()
    undo.callback(subprocess.run, ["ip", "netns", "delete", NAMESPACE], stderr=subprocess.DEVNULL)
    undo.callback(subprocess.run, ["ip", "link", "delete", near], stderr=subprocess.DEVNULL)
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"{' '.join(step)}: {done.stderr.strip()}", file=sys.stderr)
            undo.close()
            return False
    stack.push(undo)
    return True


def shape(name: str):
    """What goes from the server to the consumer; a bucket of some milliseconds, and a queue as long as a router's."""
    subprocess.run(["tc", "qdisc", "delete", "dev", DEVICES[0], "root"], stderr=subprocess.DEVNULL)
    if name != "link":
        rate = {"1gbit": ("1gbit", "512kb"), "100mbit": ("100mbit", "64kb")}[name]
        subprocess.run(["tc", "qdisc", "add", "dev", DEVICES[0], "root", "tbf", "rate", rate[0], "burst", rate[1], "latency", "50ms"], check=True)


COLUMNS = [
    "connection", "floor: rows/s", "Tributary: rows/s", "of the floor's wall", "floor: CPU, us a row", "Tributary: CPU, us a row", "of the floor's",
    "walsender with the floor, us a row", "with Tributary", "of the floor's",
]


def section(bench, links: list[str], rows: int, number: int, taken: dict, loaded: dict) -> str:
    lines = []
    for name in links:
        floor, ours = taken[name, "floor"], taken[name, "tributary"]
        walls = [report.median(one.wall for one in runs) for runs in (floor, ours)]
        micros = {key: [f"{report.median(getattr(one, key) for one in runs) / rows * 1e6:.2f}" for runs in (floor, ours)] for key in ("cpu", "sender")}
        lines.append([
            LINKS[name], *(f"{rows / wall:,.0f}" for wall in walls), report.times(report.over_floor(ours, floor, "wall")),
            *micros["cpu"], report.times(report.over_floor(ours, floor, "cpu")), *micros["sender"], report.times(report.over_floor(ours, floor, "sender")),
        ])
    elsewhere = report.median(one.elsewhere for runs in taken.values() for one in runs)
    return "\n".join([
        f"### Pace of reading: {rows:,} narrow rows by several ways",
        "",
        f"{datetime.date.today()}, {report.machine()}. Postgres {bench.server.query('SHOW server_version').split()[0]}. "
        f"Medians of {number} rounds; ratios are taken within each round. "
        f"{loaded['wire_bytes'] / 1e6:,.0f} MB on the wire. {elsewhere:.1f} cores were busy with something else.",
        "",
        *report.markdown(COLUMNS, lines),
    ])


if __name__ == "__main__":
    main()
