"""Builds of fastnn against each other, taking turns: python -m bench.builds OLD NEW --rows 784-128

A build is a folder that `pip install --no-deps --target FOLDER .` has filled; each is a process of
its own, and they take turns A B A B. A folder given twice shows what the machine's noise is worth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from bench import machine
from bench.networks import IMAGES, ROWS, Case, cases_named
from bench.rounds import Player, begin, demand_all
from bench.tables import count, markdown


def measured(case: Case, players: list[Player], rounds: int, seconds: float) -> list[str]:
    """One line of the table."""
    begin(case, players, seconds)
    peak, trip = machine.fma_peak(machine.n_cores()), machine.round_trip()
    rates: list[list[float]] = [[] for _ in players]
    for _ in range(rounds):
        for player, own in zip(players, rates, strict=True):
            own.append(player.turn(seconds))
    demand_all(case, players)
    first, *others = rates
    ratios = [[a / b for a, b in zip(own, first, strict=True)] for own in others]
    cells = [f"{statistics.median(r):.3f} ({min(r):.3f} to {max(r):.3f})" for r in ratios]
    peaks = [value for value in (peak, machine.fma_peak(machine.n_cores())) if value]
    trips = [1e9 * value for value in (trip, machine.round_trip()) if value]
    ends = [", ".join(f"{value:.0f}" for value in values) or "-" for values in (peaks, trips)]
    return [case.name, count(statistics.median(first)), *cells, *ends]


def main() -> None:
    """Measures, and prints a Markdown table on stdout and progress on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("builds", nargs="+", type=Path, help="folders; ratios are to the first one's speed")
    add("--rows", nargs="+", default=[], help="parts of row names; default: all, and real images")
    add("--rounds", type=int, default=9)
    add("--seconds", type=float, default=0.2, help="a turn")
    add("--threads", type=int, help="default: fastnn's own choice")
    args = parser.parse_args()
    for build in args.builds:
        if not (build / "fastnn").is_dir():
            parser.error(f"{build} has no folder fastnn")
    players = [
        Player("fastnn", args.threads, PYTHONPATH=str(build.resolve())) for build in args.builds
    ]
    lines = []
    for case in cases_named(args.rows, ROWS + IMAGES):
        lines.append(measured(case, players, args.rounds, args.seconds))
        print(*lines[-1], sep="  ", file=sys.stderr, flush=True)
    for player in players:
        player.close()
    header = ["row", f"{args.builds[0]}, samples/s", *(f"{build}" for build in args.builds[1:])]
    table = markdown([*header, "FMA peak, GFLOP/s", "round trip, ns"], lines)
    print(f"{machine.describe()}\n\n{table}")


if __name__ == "__main__":
    main()
