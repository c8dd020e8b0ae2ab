"""What threads pay for working on one network: python -m bench.sharing

Every row is trained by one thread, by as many processes of one thread each as there are cores, at
the same time, each its own network, and by as many threads on one network, in turns. The processes
share nothing but the machine: what the threads lack to their speed is the price of lines of cache
that go from core to core, of work done by each thread, and of waiting.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor

from bench import machine
from bench.networks import IMAGES, ROWS, Case, cases_named
from bench.rounds import PAUSE_SECONDS, Player, begin, demand_all
from bench.tables import count, markdown, percent


def together(players: list[Player], seconds: float) -> float:
    """Samples per second of all, at the same time."""
    with ThreadPoolExecutor(len(players)) as pool:
        rates = list(pool.map(lambda p: p.turn(seconds, PAUSE_SECONDS, settle=False), players))
    for player in players:
        player.settle()
    return sum(rates)


def measured(
    case: Case, alone: list[Player], team: Player, rounds: int, seconds: float
) -> list[str]:
    """One line of the table."""
    players = [*alone, team]
    begin(case, players, seconds)
    peaks = machine.fma_peak(1), machine.fma_peak(len(alone))
    one, apart, shared = [], [], []
    for _ in range(rounds):
        one.append(alone[0].turn(seconds))
        apart.append(together(alone, seconds))
        shared.append(team.turn(seconds))
    demand_all(case, players)
    cells = [case.name]
    for rates, peak in ((one, peaks[0]), (apart, peaks[1]), (shared, peaks[1])):
        rate = statistics.median(rates)
        ratio = statistics.median(a / b for a, b in zip(rates, one, strict=True))
        share = percent(rate * case.flops_per_sample / 1e9 / peak if peak else None)
        cells.append(f"{count(rate)}, {share}" + (f", {ratio:.2f}x" if rates is not one else ""))
    return cells


def main() -> None:
    """Measures, and prints a Markdown table on stdout and progress on stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rows", nargs="+", default=[], help="parts of row names; default: all, and real images")
    add("--rounds", type=int, default=7)
    add("--seconds", type=float, default=0.2, help="a turn")
    args = parser.parse_args()
    cores = machine.n_cores()
    if cores < 2:
        parser.error("threads share nothing on one core")
    alone, team = [Player("fastnn", 1) for _ in range(cores)], Player("fastnn", cores)
    lines = []
    for case in cases_named(args.rows, ROWS + IMAGES):
        if case.kind != "train":
            continue
        lines.append(measured(case, alone, team, args.rounds, args.seconds))
        print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    for player in (*alone, team):
        player.close()
    header = ["samples/s, share of the FMA peak", "one thread", f"{cores} processes"]
    print(f"{machine.describe()}\n\n{markdown([*header, f'{cores} threads'], lines)}")


if __name__ == "__main__":
    main()
