"""One picture of a run of bench.compare: every peer's speed relative to fastnn's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Row
from bench.tables import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours that colour-blind readers can tell apart, and a shape of its own for each peer.
MARKS = (
    ("#0072b2", "o"),
    ("#56b4e9", "s"),
    ("#009e73", "D"),
    ("#d55e00", "^"),
    ("#e69f00", "v"),
    ("#cc79a7", "P"),
    ("#777777", "X"),
)
INCHES_PER_ROW, WIDTH = 0.21, 9.5


def draw(rows: list[Row], path: Path) -> None:
    """Training above, prediction below with a panel for each batch size; white behind all."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    able = dict.fromkeys(row["title"] for row in rows if not row["gap"])
    able.pop("fastnn", None)
    marks = dict(zip(able, MARKS, strict=False))
    training = [row for row in rows if row["kind"] == "train"]
    predicting = [row for row in rows if row["kind"] == "predict"]
    batches = list(dict.fromkeys(row["batch_size"] for row in predicting))
    tasks = list(dict.fromkeys(row["row"] for row in training))
    networks = list(dict.fromkeys(map(network, predicting)))
    heights = [(len(names) + 2) * INCHES_PER_ROW for names in (tasks, networks)]
    # text as text, not as outlines of letters, which halves the file
    style = {"font.size": 8, "axes.titlesize": 9, "svg.fonttype": "none", "svg.hashsalt": "fastnn"}
    with plt.rc_context(style):
        figure = plt.figure(figsize=(WIDTH, sum(heights) + 0.8), layout="constrained")
        grid = figure.add_gridspec(2, max(1, len(batches)), height_ratios=heights)
        if training:
            top = figure.add_subplot(grid[0, :], title="training")
            panel(top, [(tasks.index(row["row"]), row) for row in training], tasks, marks)
        first = None
        for i, batch in enumerate(batches):
            axes = figure.add_subplot(grid[1, i], sharex=first, title=f"prediction, batch {batch}")
            placed = [
                (networks.index(network(row)), row)
                for row in predicting
                if row["batch_size"] == batch
            ]
            panel(axes, placed, networks if first is None else [""] * len(networks), marks)
            first = first or axes
        legend = [
            plt.Line2D([], [], color=colour, marker=shape, linestyle="", label=title)
            for title, (colour, shape) in marks.items()
        ]
        figure.legend(handles=legend, loc="outside upper center", ncols=len(able), frameon=False)
        label = "samples per second, as a share of fastnn's, which is the line (and at the right)"
        figure.supxlabel(label, fontsize=8)
        metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=110, facecolor="white", metadata=metadata)
        plt.close(figure)


def network(row: Row) -> str:
    """The layer sizes of a row, such as 784-128-10."""
    return "-".join(map(str, row["layer_sizes"]))


def panel(
    axes: Axes, rows: list[tuple[int, Row]], names: list[str], marks: dict[str, tuple[str, str]]
) -> None:
    """One mark for each (line, row): how fast a peer is. fastnn's own speed ends the line."""
    axes.set(xscale="log", ylim=(len(names) - 0.4, -0.6))
    axes.axvline(1, color="black", linewidth=1.5, zorder=0.9)
    for title, (colour, shape) in marks.items():
        points = [
            (1 / row["ratio"], y) for y, row in rows if row["title"] == title and row.get("ratio")
        ]
        if points:
            axes.plot(*zip(*points, strict=True), shape, color=colour, markersize=5, mew=0)
    for y, row in rows:
        if row["peer"] == "fastnn" and not row["gap"]:
            speed, at = f"{count(row['samples_per_second'])}/s", axes.get_yaxis_transform()
            axes.text(1.01, y, speed, transform=at, va="center", fontsize=7)
    axes.set_yticks(range(len(names)), names)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(lambda x, _: f"1/{1 / x:.0f}" if x < 1 else f"{x:g}")
    axes.tick_params(which="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
