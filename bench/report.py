"""What came of a workload: a section of RESULTS.md, and a document for the plots.

Owns: RESULTS.md between the marks of a workload, and the documents in results/.
Does not: know which columns a kind has; the kind gives the table.
Holds: a ratio is taken within a round, then the median over rounds; wall times of two rounds are never compared.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess

import server

# So many cores may be busy with something else before a reader is warned.
ELSEWHERE_MAX = 0.1


@dataclasses.dataclass
class Results:
    workload: str
    title: str
    rows: int
    rounds: int
    # What the kind knows of the workload once it is there.
    loaded: dict
    consumers: list
    # Of every consumer, a run a round.
    runs: list
    versions: dict

    def elsewhere(self) -> float:
        return median(one.elsewhere for taken in self.runs for one in taken)


def section(results: Results, table: list[str]) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in server.SETTINGS.items())
    head = [
        f"### {results.title}: {results.rows:,} rows",
        "",
        f"{datetime.date.today()}, {machine()}. Medians of {results.rounds} rounds, in brackets the range; ratios are taken within each round.",
        f"{', '.join(f'{name} {version}' for name, version in results.versions.items())}. Postgres with {settings}.",
        "",
    ]
    if results.elsewhere() > ELSEWHERE_MAX:
        head += [f"**Something else kept {results.elsewhere():.1f} cores busy meanwhile**: the wall times say little, the CPU times more.", ""]
    return "\n".join(head + table)


def markdown(columns: list[str], lines: list[list], left: int = 1) -> list[str]:
    rule = ["---"] * left + ["--:"] * (len(columns) - left)
    return [f"| {' | '.join(map(str, cells))} |" for cells in (columns, rule, *lines)]


def write(folder: pathlib.Path, results: Results, text: str):
    """The section and the document."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    path = folder / "RESULTS.md"
    write_section(path, results.workload, text)
    (folder / "results" / f"{results.workload}.json").write_text(json.dumps(document(results), indent=1) + "\n")


def document(results: Results) -> dict:
    def runs(taken):
        return [{key: value for key, value in dataclasses.asdict(one).items() if key != "commands"} for one in taken]

    return {
        "workload": results.workload,
        "title": results.title,
        "rows": results.rows,
        "date": str(datetime.date.today()),
        "machine": machine(),
        "versions": results.versions,
        "loaded": results.loaded,
        "consumers": [
            {"name": consumer.name, "variant": consumer.variant, "label": consumer.label, "runs": runs(taken)}
            for consumer, taken in zip(results.consumers, results.runs)
        ],
    }


def write_section(path: pathlib.Path, name: str, text: str, first: bool = False):
    """In its place, or if it is new before all others or behind them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text}\n{end}"
    whole = path.read_text() if path.exists() else "# Results\n"
    if begin in whole:
        before, _, rest = whole.partition(begin)
        whole = before + section + rest.partition(end)[2]
    elif first and "<!-- " in whole:
        before, mark, rest = whole.partition("<!-- ")
        whole = f"{before}{section}\n\n{mark}{rest}"
    else:
        whole = f"{whole.rstrip()}\n\n{section}\n"
    path.write_text(whole)


def versions(bench, peers: tuple[str, ...]) -> dict:
    found = bench.ask_peer("versions", *peers)
    found["Postgres"] = bench.server.query("SHOW server_version").split()[0]
    found["psql and pg_recvlogical"] = said([server.client("psql"), "--version"]).split()[2]
    found["tributary"] = said([bench.binary, "--version"]).split()[1]
    if not os.environ.get("BIN"):
        found["tributary"] += commit()
    return found


def median(values) -> float:
    return statistics.median(values)


def over_floor(taken: list, floor: list | None, key: str) -> float | None:
    """The median of the ratios to the floor in the same round; nothing without one, or where it took no time that shows."""
    if floor is None:
        return None
    pairs = [(getattr(one, key), getattr(base, key)) for one, base in zip(taken, floor)]
    return median(one / base for one, base in pairs) if all(base > 0 for _, base in pairs) else None


def times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}x"


def said(words) -> str:
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def commit() -> str:
    asked = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=pathlib.Path(__file__).parent, capture_output=True, text=True)
    return f" ({asked.stdout.strip()})" if asked.returncode == 0 else ""


def machine() -> str:
    cpu = re.search(r"^model name\s*:\s*(.+)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.MULTILINE)
    model = cpu.group(1) if cpu else os.uname().machine
    return f"{len(os.sched_getaffinity(0))} cores of {model}, {int(memory.group(1)) / 2**20:.0f} GiB, Linux {os.uname().release.split('-')[0]}"
