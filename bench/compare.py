"""Training speed of fastnn and its peers, side by side: python -m bench.compare

Every peer is a process of its own; they take turns, so that whatever else the machine does
hits all of them alike. Ratios are medians of the ratios within one round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench import machine
from bench.networks import CASES, Case, cases_named
from bench.peers import Peer
from bench.rounds import Player, Result, known_peers, measure, thread_counts
from bench.tables import count, markdown, percent


def json_rows(case: Case, results: list[Result], peak: float | None, busy: float) -> list[dict]:
    """One dict per peer, with every figure of every round."""
    ours = next((r for r in results if r.peer == "fastnn" and not r.gap), None)
    rows = []
    for result in results:
        row: dict[str, Any] = {
            "row": case.name,
            "layer_sizes": case.layer_sizes,
            "batch_size": case.batch_size,
            "optimizer": case.optimizer,
            "peer": result.peer,
            "title": result.title,
            "gap": result.gap,
            "fma_peak_gflops": peak,
            "others_busy_cores": busy,
            **result.about,
        }
        if not result.gap:
            row |= figures(case, result, ours, peak)
        rows.append(row)
    return rows


def figures(case: Case, result: Result, ours: Result | None, peak: float | None) -> dict[str, Any]:
    """What follows from a peer's rates; `ratio` is fastnn's speed over this peer's."""
    gflops = result.median * case.flops_per_sample / 1e9
    ratio = None
    if ours is not None:
        pairs = zip(ours.rates, result.rates, strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
    return {
        "samples_per_second": result.median,
        "lowest": min(result.rates),
        "highest": max(result.rates),
        "rates": result.rates,
        "ratio": ratio,
        "gflops": gflops,
        "share_of_peak": gflops / peak if peak else None,
    }


def summary(rows: list[dict]) -> str:
    """One line per network: fastnn's speed, and how many times each peer's that is."""
    titles = list(dict.fromkeys(row["title"] for row in rows if row["peer"] != "fastnn"))
    lines = []
    for name in dict.fromkeys(row["row"] for row in rows):
        by_title = {row["title"]: row for row in rows if row["row"] == name}
        ours = by_title.get("fastnn", {"gap": "left out"})
        line = [name, *(["-"] * 3 if ours["gap"] else speed_cells(ours))]
        for title in titles:
            row = by_title[title]
            known = not row["gap"] and row["ratio"] is not None
            line.append(f"{row['ratio']:.3g}x" if known else "-")
        lines.append(line)
    header = ["training", "fastnn samples/s", "GFLOP/s", "of FMA peak"]
    return markdown([*header, *(f"against {title}" for title in titles)], lines)


def speed_cells(row: dict) -> list[str]:
    """Samples per second, GFLOP/s and share of the peak."""
    gflops = f"{row['gflops']:.3g}"
    return [count(row["samples_per_second"]), gflops, percent(row["share_of_peak"])]


def detail(rows: list[dict]) -> str:
    """One line per network and peer."""
    lines = []
    for row in rows:
        start = [row["row"], row["title"]]
        if row["gap"]:
            lines.append([*start, f"gap: {row['gap']}", *["-"] * 6])
            continue
        rate, gflops, share = speed_cells(row)
        threads = "own choice" if row["n_threads"] is None else str(row["n_threads"])
        spread = f"{count(row['lowest'])} to {count(row['highest'])}"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3g}x"
        start_up = f"{row['import_seconds']:.2f} + {row['first_step_seconds']:.2f}"
        lines.append([*start, rate, spread, ratio, threads, gflops, share, start_up])
    header = ["training", "peer", "samples/s", "spread", "fastnn is", "threads", "GFLOP/s"]
    return markdown([*header, "of FMA peak", "start-up s (import + first step)"], lines)


def gaps(rows: list[dict]) -> str:
    """The peers without figures, each once with its reason and where."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["gap"]:
            reasons.setdefault(f"{row['title']}: {row['gap']}", []).append(row["row"])
    lines = [f"- gap: {reason} ({', '.join(where)})" for reason, where in reasons.items()]
    if any(row["fma_peak_gflops"] is None for row in rows):
        lines.append("- gap: FMA peak unknown, since the compiled backend is not installed")
    return "\n".join(lines)


def load_note(rows: list[dict]) -> str:
    """What other processes did meanwhile, by row where it was much."""
    busy = {row["row"]: row["others_busy_cores"] for row in rows}
    disturbed = [f"{name} ({cores:.1f})" for name, cores in busy.items() if cores > 0.1]
    note = f"Other processes kept {statistics.mean(busy.values()):.2f} cores busy on average"
    return f"{note}; more than 0.1 during {', '.join(disturbed)}." if disturbed else f"{note}."


def report(rows: list[dict]) -> str:
    """Both tables, what they leave out, and how quiet the machine was."""
    versions = {row["title"]: row["version"] for row in rows if "version" in row}
    named = ", ".join(f"{title} {version}" for title, version in versions.items())
    parts = [summary(rows), detail(rows), f"Versions: {named}.", gaps(rows), load_note(rows)]
    return "\n\n".join(part for part in parts if part)


def measured(
    case: Case, competitors: dict[str, Peer], players: list[Player], args: argparse.Namespace
) -> list[dict]:
    """The JSON rows of one case; the peak is the better of two, taken before and after."""
    n_threads = args.threads or machine.n_cores()
    others = machine.Others(player.pid for player in players if player.alive)
    before = machine.fma_peak(n_threads)
    results = measure(case, competitors, players, args.rounds, args.seconds)
    after = machine.fma_peak(n_threads)
    peak = max(before, after) if before and after else None
    return json_rows(case, results, peak, others.busy_cores())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 short rounds, under 3 minutes")
    parser.add_argument(
        "--rows", nargs="+", default=[], help="parts of row names; default: all rows"
    )
    names = list(known_peers())
    parser.add_argument("--peers", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument("--rounds", type=int, help="default: 9, or 3 if --quick")
    parser.add_argument("--seconds", type=float, help="a turn; default: 0.4, or 0.15 if --quick")
    parser.add_argument("--threads", type=int, help="most threads; default: all cores")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 9)
    args.seconds = args.seconds or (0.15 if args.quick else 0.4)
    return args


def main() -> None:
    """Measures, and prints Markdown on stdout and progress on stderr."""
    args = arguments()
    cases = cases_named(args.rows)
    competitors = {name: peer for name, peer in known_peers().items() if name in args.peers}
    begin = time.perf_counter()
    print(f"{machine.describe()}\n", flush=True)
    players = [
        Player(name, n_threads)
        for name, peer in competitors.items()
        for n_threads in thread_counts(peer, args.threads)
    ]
    rows: list[dict] = []
    for i, case in enumerate(cases, 1):
        print(f"[{i}/{len(cases)}] {case.name}", file=sys.stderr, flush=True)
        rows += measured(case, competitors, players, args)
    for player in players:
        player.close()
    print(report(rows))
    turns = f"{args.rounds} rounds of {args.seconds} s"
    duration = time.perf_counter() - begin
    print(f"\n{len(cases)} of {len(CASES)} rows, {turns}, {duration:.0f} s in all.")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
