#!/usr/bin/env python3
"""Draws what results/ holds.

usage: bench/plot.py [FOLDER]

Owns: results/streams.svg, of all results/stream_*.json, and its place in RESULTS.md; and the look of the other plots.
Does not: measure, or compute anything that the tables do not have.
Holds: the same numbers as the tables: medians over rounds, ratios within a round.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import report  # noqa: E402
import stage  # noqa: E402

# From the top.
WORKLOADS = {
    "stream_narrow": "narrow rows,\n1,000 a transaction",
    "stream_pgbench": "pgbench's\ntransactions",
    "stream_leaves_2000": "over 2,000\npartitions",
    "stream_leaves_10000": "over 10,000\npartitions",
    "stream_leaves_20000": "over 20,000\npartitions",
    "stream_huge": "one transaction",
    "stream_wide": "100 columns\nand 1 KB of JSON",
}
# Colours that are told apart by everybody, and in grey.
CONSUMERS = {
    "floor": ("pg_recvlogical > /dev/null", "#9aa3ad"),
    "tributary": ("Tributary, to a folder", "#0b5fa5"),
    "s3": ("Tributary, to S3 on loopback", "#e08a1e"),
    "memory": ("Tributary, to memory", "#79b8e8"),
}
PANELS = [
    ("thousand rows a second", lambda one, rows: rows / one["wall"] / 1e3),
    ("CPU of the consumer, µs a row", lambda one, rows: (one["user"] + one["system"]) / rows * 1e6),
    ("CPU of the walsender, µs a row", lambda one, rows: one["sender"] / rows * 1e6),
    ("peak memory, MB", lambda one, rows: one["memory"] / 1e6),
]
INK, FAINT = "#24292f", "#d8dee4"


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    stage.with_peers()
    streams(folder / "results")
    if (folder / "results" / "streams.svg").exists():
        picture = "![Streams: rows a second, CPU of the consumer and of the walsender, and peak memory, by workload and consumer](results/streams.svg)"
        report.write_section(folder / "RESULTS.md", "streams", f"{picture}\n\nBars are medians, the lines on them the range of the rounds.", first=True)


def streams(folder: pathlib.Path):
    """A row of panels, a group of bars a workload."""
    found = {name: json.loads(path.read_text()) for name in WORKLOADS if (path := folder / f"{name}.json").exists()}
    if not found:
        return
    pyplot = style()
    names = [name for name in CONSUMERS if any(consumer["name"] == name for one in found.values() for consumer in one["consumers"])]
    height = 0.8 / len(names)
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(13, 1.5 + 0.92 * len(found)), sharey=True)
    for axis, (title, value) in zip(axes, PANELS):
        panel(axis, found, names, height, value)
        axis.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8)
    axes[0].set_yticks(range(len(found)), [WORKLOADS[name] for name in found])
    axes[0].invert_yaxis()
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=CONSUMERS[name][1]) for name in names]
    labels = [CONSUMERS[name][0] for name in names]
    figure.legend(handles, labels, loc="upper left", ncols=len(names), frameon=False, fontsize=10.5, bbox_to_anchor=(0.005, 1.0))
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.42 / figure.get_figheight()), w_pad=2.2)
    save(figure, folder / "streams.svg")


def panel(axis, found: dict, names: list[str], height: float, value):
    ends = []
    for place, (workload, result) in enumerate(found.items()):
        for turn, name in enumerate(names):
            taken = [value(one, result["rows"]) for consumer in result["consumers"] if consumer["name"] == name for one in consumer["runs"]]
            if not taken:
                continue
            middle, y = statistics.median(taken), place + (turn - (len(names) - 1) / 2) * height
            axis.barh(y, middle, height * 0.88, color=CONSUMERS[name][1], zorder=2)
            if len(taken) > 1:
                axis.plot([min(taken), max(taken)], [y, y], color=INK, linewidth=0.9, zorder=3, solid_capstyle="butt")
            ends.append((max(taken), middle, y))
    widest = max(end for end, _, _ in ends)
    for end, middle, y in ends:
        axis.text(end + widest * 0.02, y, f"{middle:,.0f}" if middle >= 10 else f"{middle:.1f}", va="center", fontsize=8, color=INK)
    axis.set_xlim(0, widest * 1.17)
    axis.set_ylim(-0.55, len(found) - 0.45)
    axis.grid(axis="x", color=FAINT, linewidth=0.8, zorder=0)
    axis.tick_params(axis="both", length=0)


def soak(samples: list[tuple], idle: int, path: pathlib.Path):
    """Memory over time."""
    pyplot = style()
    figure, axis = pyplot.subplots(figsize=(9, 3.2))
    minutes = [sample[0] / 60 for sample in samples]
    sizes = [sample[1] / 2**20 for sample in samples]
    axis.plot(minutes, sizes, color=CONSUMERS["tributary"][1], linewidth=1)
    axis.axvspan(0, idle / 60, color=FAINT, alpha=0.6, linewidth=0)
    axis.text(idle / 60 / 2, max(sizes) * 1.04, "at rest", ha="center", fontsize=9, color=INK)
    axis.set_ylim(0, max(sizes) * 1.15)
    axis.set_xlim(0, max(minutes))
    axis.set_xlabel("minutes")
    axis.set_title("resident memory, MiB", loc="left", fontsize=10.5, color=INK)
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.tick_params(length=0)
    figure.tight_layout()
    save(figure, path)


def style():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({
        "font.family": ["DejaVu Sans"], "font.size": 9.5, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "axes.edgecolor": FAINT, "axes.axisbelow": True,
        # Letters as shapes, so that it looks the same everywhere; and the same bytes for the same numbers.
        "svg.fonttype": "path", "svg.hashsalt": "tributary", "figure.facecolor": "white",
    })
    return pyplot


def save(figure, path: pathlib.Path):
    figure.savefig(path, metadata={"Date": None})
    # Trailing blanks are what matplotlib leaves at the ends of lines.
    path.write_text("".join(line.rstrip() + "\n" for line in path.read_text().splitlines()))


if __name__ == "__main__":
    main()
