"""One picture of a run of bench.compare: every peer's speed relative to fastnn's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.report import Row, by_name
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

    titles = dict.fromkeys(row["title"] for row in rows if row["peer"] != "fastnn")
    marks = dict(zip(titles, MARKS, strict=False))
    training = [row for row in rows if row["kind"] == "train"]
    predicting = [row for row in rows if row["kind"] == "predict"]
    batches = list(dict.fromkeys(row["batch_size"] for row in predicting))
    counts = [len(by_name(training)), len({tuple(row["layer_sizes"]) for row in predicting})]
    heights = [(n + 2) * INCHES_PER_ROW for n in counts]
    # text as text, not as outlines of letters, which makes the file a third as large
    style = {"font.size": 8, "axes.titlesize": 9, "svg.fonttype": "none", "svg.hashsalt": "fastnn"}
    with plt.rc_context(style):
        figure = plt.figure(figsize=(WIDTH, sum(heights) + 0.8), layout="constrained")
        grid = figure.add_gridspec(2, max(1, len(batches)), height_ratios=heights)
        panel(figure.add_subplot(grid[0, :]), "training", training, marks)
        first = None
        for i, batch in enumerate(batches):
            axes = figure.add_subplot(grid[1, i], sharex=first)
            these = [row for row in predicting if row["batch_size"] == batch]
            panel(axes, f"prediction, batch {batch}", these, marks, named=first is None)
            first = first or axes
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        label = "samples per second, as a share of fastnn's, which is the line (and at the right)"
        figure.supxlabel(label, fontsize=8)
        metadata = {"Date": None} if path.suffix == ".svg" else None
        figure.savefig(path, dpi=110, facecolor="white", metadata=metadata)
        plt.close(figure)


def panel(
    axes: Axes,
    title: str,
    rows: list[Row],
    marks: dict[str, tuple[str, str]],
    named: bool = True,
) -> None:
    """One line for each network, one mark on it for each peer, fastnn's own speed at its end."""
    groups = by_name(rows)
    axes.set(title=title, xscale="log", ylim=(len(groups) - 0.4, -0.6))
    axes.axvline(1, color="black", linewidth=1.5, zorder=1)
    for name, (colour, shape) in marks.items():
        points = [
            (1 / row["ratio"], y)
            for y, group in enumerate(groups.values())
            for row in group
            if row["title"] == name and not row["gap"] and row["ratio"]
        ]
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.scatter(x, y, s=26, color=colour, marker=shape, label=name, zorder=2, linewidths=0)
    words = [name.removeprefix("predict ").partition(" batch")[0] for name in groups]
    axes.set_yticks(range(len(words)), words if named else [""] * len(words))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(lambda x, _: f"1/{1 / x:.0f}" if x < 1 else f"{x:g}")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    for y, group in enumerate(groups.values()):
        rates = [
            row["samples_per_second"] for row in group if row["peer"] == "fastnn" and not row["gap"]
        ]
        text = f"{count(rates[0])}/s" if rates else ""
        axes.text(1.01, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=7)
