"""Speed of fastnn and its peers, training and predicting, side by side: python -m bench.compare

Every peer is a process of its own; they take turns, so that whatever else the machine does
hits all of them alike. Ratios are medians of the ratios within one round.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from bench import machine
from bench.networks import QUICK_ROWS, ROWS, Case, cases_named
from bench.peers import Peer
from bench.report import Row, report, write_into
from bench.rounds import Player, Result, known_peers, play, prepare, thread_counts

# A turn of training is at least about so many steps: a single one says little of the next.
STEPS_A_TURN, FLOPS_A_SECOND = 4, 2e11


def json_rows(
    case: Case,
    results: list[Result],
    peak: float | None,
    trips: list[float | None],
    busy: float,
) -> list[Row]:
    """One dict per peer, with every figure of every round."""
    ours = next((r for r in results if r.peer == "fastnn" and not r.gap), None)
    rows = []
    for result in results:
        row: Row = {
            "row": case.name,
            "kind": case.kind,
            "layer_sizes": case.layer_sizes,
            "batch_size": case.batch_size,
            "optimizer": case.optimizer,
            "peer": result.peer,
            "title": result.title,
            "gap": result.gap,
            "fma_peak_gflops": peak,
            "round_trips": trips,
            "others_busy_cores": busy,
            **result.about,
        }
        if not result.gap:
            row |= figures(case, result, ours, peak)
        rows.append(row)
    return rows


def figures(case: Case, result: Result, ours: Result | None, peak: float | None) -> Row:
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


def turn_seconds(case: Case, seconds: float) -> float:
    """Of one turn: half as long for a prediction, longer where a step takes that long itself."""
    if case.kind == "predict":
        return seconds / 2
    return max(seconds, STEPS_A_TURN * case.batch_size * case.flops_per_sample / FLOPS_A_SECOND)


def measured(
    case: Case, competitors: dict[str, Peer], players: list[Player], args: argparse.Namespace
) -> list[Row]:
    """The JSON rows of one case; the peak is the better of two, taken before and after."""
    n_threads = args.threads or machine.n_cores()
    seconds = turn_seconds(case, args.seconds)
    results, best = prepare(case, competitors, players, seconds)
    others = machine.Others(player.pid for player in players if player.alive)
    before, trips = machine.fma_peak(n_threads), [machine.round_trip()]
    play(results, best, args.rounds, seconds)
    after, trips = machine.fma_peak(n_threads), [*trips, machine.round_trip()]
    peak = max(before, after) if before and after else None
    return json_rows(case, list(results.values()), peak, trips, others.busy_cores())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="some rows in short turns, under 3 minutes")
    add("--rows", nargs="+", default=[], help="parts of row names; default: all rows")
    names = list(known_peers())
    add("--peers", nargs="+", choices=names, default=names, help="default: all")
    add("--rounds", type=int, help="default: 5, or 3 if --quick")
    add("--seconds", type=float, help="a training turn; default: 0.2, or 0.1 if --quick")
    add("--threads", type=int, help="most threads; default: all cores")
    add("--from", dest="source", type=Path, help="figures of an earlier --json, not measured anew")
    add("--json", type=Path, help="write all figures to this file")
    add("--plot", type=Path, help="draw the speeds into this file, SVG or PNG")
    add("--into", type=Path, help="put summary and plot between the markers of this page")
    args = parser.parse_args()
    args.rounds = args.rounds or (3 if args.quick else 5)
    args.seconds = args.seconds or (0.1 if args.quick else 0.2)
    return args


def run_of(args: argparse.Namespace) -> dict[str, Any]:
    """Measures; all figures, and how they came about. The JSON file has them row by row, so that
    a run that is broken off is not lost.
    """
    begin = time.perf_counter()
    about = machine.describe()
    competitors = {name: peer for name, peer in known_peers().items() if name in args.peers}
    cases = cases_named(args.rows or (QUICK_ROWS if args.quick else []))
    players = [
        Player(name, n_threads)
        for name, peer in competitors.items()
        if not (args.quick and peer.slow_start)
        for n_threads in thread_counts(peer, args.threads)
    ]
    run: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "bench.compare", *sys.argv[1:]]),
        "machine": about,
        "settings": "",
        "rows": [],
    }
    for i, case in enumerate(cases, 1):
        print(f"[{i}/{len(cases)}] {case.name}", file=sys.stderr, flush=True)
        run["rows"] += measured(case, competitors, players, args)
        run["settings"] = settings_of(args, i, time.perf_counter() - begin)
        keep(run, args.json)
    for player in players:
        player.close()
    return run


def keep(run: dict[str, Any], file: Path | None) -> None:
    """Writes all figures to the file, if there is one."""
    if file:
        file.write_text(json.dumps(run, indent=1) + "\n")


def settings_of(args: argparse.Namespace, n_rows: int, seconds: float) -> str:
    """How long, and over which rows, was measured."""
    turns = f"{args.rounds} rounds of {args.seconds} s (prediction: half; wide networks: 4 steps)"
    left_out = ", the others left out," if n_rows < len(ROWS) else ""
    return f"{n_rows} of {len(ROWS)} rows{left_out} in {turns}, {seconds:.0f} s in all"


def main() -> None:
    """Measures, and prints Markdown on stdout and progress on stderr."""
    args = arguments()
    if args.source:
        run = json.loads(args.source.read_text())
        keep(run, args.json)
    else:
        run = run_of(args)
    print(report(run))
    if args.plot:
        from bench.plot import draw

        draw(run["rows"], args.plot)
    if args.into:
        write_into(args.into, run, args.plot)


if __name__ == "__main__":
    main()
