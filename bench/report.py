"""The figures of bench.compare as Markdown, and as the speed section of the README."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.tables import count, markdown, percent

Row = dict[str, Any]  # one row and peer, as compare.json_rows makes it
KINDS = {"train": "training", "predict": "prediction"}
MARKERS = ("<!-- bench.compare: begin -->", "<!-- bench.compare: end -->")


def by_name(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each name, in order."""
    named: dict[str, list[Row]] = {}
    for row in rows:
        named.setdefault(row["row"], []).append(row)
    return named


def times(ratio: float | None) -> str:
    """A ratio of speeds, such as 1.52x."""
    return "-" if ratio is None else f"{ratio:.3g}x"


def microseconds_per_call(row: Row) -> str:
    """How long one call, or one step, takes."""
    microseconds = row["batch_size"] / row["samples_per_second"] * 1e6
    return f"{microseconds:.3g}" if microseconds < 1000 else f"{microseconds:,.0f}"


def summary(rows: list[Row], kind: str) -> str:
    """One line per row: fastnn's speed, how many times each peer's that is, and how many times the
    best peer's it would be at the FMA peak.
    """
    rows = [row for row in rows if row["kind"] == kind]
    peers = {row["peer"]: row["title"] for row in rows if row["peer"] != "fastnn"}
    able = [name for name in peers if any(row["peer"] == name and not row["gap"] for row in rows)]
    lines = []
    for name, group in by_name(rows).items():
        found = {row["peer"]: row for row in group if not row["gap"]}
        ratios = {peer: found[peer]["ratio"] if peer in found else None for peer in able}
        known = {peer: ratio for peer, ratio in ratios.items() if ratio is not None}
        best = min(known, key=lambda peer: known[peer], default=None)
        against_best = f"**{times(known[best])}** {peers[best]}" if best else "-"
        speed = speed_cells(found["fastnn"]) if "fastnn" in found else ["-"] * 4
        share = found[best]["share_of_peak"] if best else None
        at_peak = times(1 / share if share else None)
        lines.append([name, *speed, against_best, at_peak, *(times(ratios[peer]) for peer in able)])
    per_call = "µs a step" if kind == "train" else "µs a call"
    header = [KINDS[kind], "fastnn samples/s", per_call, "GFLOP/s", "of FMA peak"]
    against = (f"against {peers[peer]}" for peer in able)
    return markdown([*header, "against the best", "at the peak", *against], lines)


def speed_cells(row: Row) -> list[str]:
    """Samples per second, microseconds per call, GFLOP/s and share of the peak."""
    cells = [count(row["samples_per_second"]), microseconds_per_call(row)]
    return [*cells, f"{row['gflops']:.3g}", percent(row["share_of_peak"])]


def detail(rows: list[Row]) -> str:
    """One line per row and peer."""
    lines = []
    for row in rows:
        if row["gap"]:
            lines.append([row["row"], row["title"], "gap", *["-"] * 7])
            continue
        rate, *others = speed_cells(row)
        threads = "own choice" if row["n_threads"] is None else str(row["n_threads"])
        spread = f"{count(row['lowest'])} to {count(row['highest'])}"
        start_up = f"{row['import_seconds']:.2f} + {row['first_step_seconds']:.2f}"
        cells = [rate, spread, times(row["ratio"]), threads, *others, start_up]
        lines.append([row["row"], row["title"], *cells])
    header = ["row", "peer", "samples/s", "spread", "fastnn is", "threads", "µs a step or call"]
    return markdown([*header, "GFLOP/s", "of FMA peak", "start-up s (import + first)"], lines)


def gaps(rows: list[Row]) -> str:
    """The peers without figures, each once with its reason and where."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["gap"]:
            reasons.setdefault(f"{row['title']}: {row['gap']}", []).append(row["row"])
    everywhere = len(by_name(rows))
    lines = [
        f"- gap: {reason} ({'every row' if len(names) == everywhere else ', '.join(names)})"
        for reason, names in reasons.items()
    ]
    if any(row["fma_peak_gflops"] is None for row in rows):
        lines.append("- gap: FMA peak unknown, since the compiled backend is not installed")
    return "\n".join(lines)


def load_note(rows: list[Row]) -> str:
    """What other processes did meanwhile, by row where it was much."""
    busy = {row["row"]: row["others_busy_cores"] for row in rows}
    disturbed = [f"{name} ({cores:.1f})" for name, cores in busy.items() if cores > 0.1]
    note = f"Other processes kept {statistics.mean(busy.values()):.2f} cores busy on average"
    return f"{note}; more than 0.1 during {', '.join(disturbed)}." if disturbed else f"{note}."


def distance_note(rows: list[Row]) -> str:
    """How far apart the cores were, before and after every row."""
    trips = {row["row"]: row["round_trips"] for row in rows}
    known = sorted(1e9 * t for pair in trips.values() for t in pair if t is not None)
    if not known:
        return ""
    return (
        f"A line of cache went from core to core and back in {statistics.median(known):.0f} ns "
        f"(from {known[0]:.0f} to {known[-1]:.0f}, as the host placed the cores)."
    )


def versions(rows: list[Row]) -> str:
    """Every peer's version."""
    known = {row["title"]: row["version"] for row in rows if "version" in row}
    return "Versions: " + ", ".join(f"{title} {version}" for title, version in known.items()) + "."


def about(run: dict[str, Any]) -> str:
    """The command, the machine, and how it was measured."""
    return f"`{run['command']}` on {run['machine']}: {run['settings']}."


def summaries(rows: list[Row]) -> list[str]:
    """One table for each kind of row that there is."""
    present = {row["kind"] for row in rows}
    return [summary(rows, kind) for kind in KINDS if kind in present]


def report(run: dict[str, Any]) -> str:
    """All tables, what they leave out, and how quiet the machine was."""
    rows = run["rows"]
    notes = [about(run), versions(rows), gaps(rows), load_note(rows), distance_note(rows)]
    return "\n\n".join(part for part in [*summaries(rows), detail(rows), *notes] if part)


def write_into(page: Path, run: dict[str, Any], plot: Path | None) -> None:
    """Puts summaries, and the plot, between the page's markers; without a plot the page keeps the
    picture that it has. Raises ValueError without markers.
    """
    rows = run["rows"]
    before, old, after = around_markers(page)
    picture = "\n".join(line for line in old.splitlines() if line.startswith("!["))
    if plot:
        place = os.path.relpath(plot, page.parent)
        picture = f"![Speed of the other libraries relative to fastnn]({place})"
    notes = [about(run), versions(rows), gaps(rows), load_note(rows), distance_note(rows)]
    text = "\n\n".join(part for part in [picture, *summaries(rows), *notes] if part)
    page.write_text(f"{before}\n\n{text}\n\n{after}")


def around_markers(page: Path) -> tuple[str, str, str]:
    """A page up to the first marker's end, what stands between the markers, and the rest."""
    begin, end = MARKERS
    before, found_begin, rest = page.read_text().partition(begin)
    between, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{page} has no lines {begin} and {end}")
    return before + begin, between, end + after
