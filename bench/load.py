"""Training beside busy processes: python -m bench.load

fastnn with 1, 2, 4 ... threads and with n_threads=None, where it chooses itself, takes turns beside
0, 1, 2 ... processes that do nothing but keep a core busy. Its own choice has to be worth at least
BAR of the best fixed number under the same load; the exit status is 1 where it is not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import machine
from bench.networks import Case, make_data
from bench.tables import count, markdown, percent
from bench.turns import alternate, train_for
from fastnn import MLP

CASES = (
    Case((784, 128, 10), 32, "sgd", 25_600),
    Case((784, 128, 10), 128, "adam", 25_600),
    Case((784, 512, 512, 10), 128, "sgd", 25_600),
    Case((1024, 1024, 1024, 1024, 10), 256, "sgd", 10_240),
)
BAR = 0.85
SETTLING_SECONDS = 0.3  # until the scheduler has spread what runs


@contextmanager
def competitors(n: int) -> Iterator[None]:
    """So many processes that keep a core busy each, as a neighbour in pure Python would."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        time.sleep(SETTLING_SECONDS)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def thread_counts() -> list[int | None]:
    """1, 2, 4 ... up to all cores, and None for fastnn's own choice."""
    cores = machine.n_cores()
    return [*(2**i for i in range(cores.bit_length()) if 2**i < cores), cores, None]


def measured(case: Case, n_competitors: int, rounds: int, seconds: float) -> dict[str, Any]:
    """The figures of one network under one load."""
    X, y = make_data(case)
    settings = {
        "batch_size": case.batch_size,
        "optimizer": case.optimizer,
        "learning_rate": case.learning_rate,
    }

    def player(n_threads: int | None):
        net = MLP(case.layer_sizes, n_threads=n_threads)
        return lambda: train_for(seconds, net, X, y, **settings).rate

    players = {n: player(n) for n in thread_counts()}
    peak = machine.fma_peak(machine.n_cores())
    with competitors(n_competitors):
        rates = alternate(players, rounds)
    fixed = [n for n in rates if n is not None]
    best = max(fixed, key=lambda n: statistics.median(rates[n]))
    ratio = statistics.median(a / b for a, b in zip(rates[None], rates[best], strict=True))
    return {
        "row": case.name,
        "competitors": n_competitors,
        "rates": {str(n): values for n, values in rates.items()},
        "best_threads": best,
        "ratio": ratio,
        "fma_peak_gflops": peak,
        "gflops": statistics.median(rates[best]) * case.flops_per_sample / 1e9,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """One line per network and load."""
    lines = []
    for row in rows:
        medians = [count(statistics.median(rates)) for rates in row["rates"].values()]
        verdict = f"{row['ratio']:.2f}" + ("" if row["ratio"] >= BAR else " below the bar")
        peak = row["fma_peak_gflops"]
        share = percent(row["gflops"] / peak if peak else None)
        lines.append([row["row"], str(row["competitors"]), *medians, verdict, share])
    threads = [f"{n} thread" + "s" * (n != 1) for n in thread_counts() if n is not None]
    header = ["samples/s", "busy processes", *threads, "own choice", "of the best fixed"]
    return markdown([*header, "best fixed, of the idle FMA peak"], lines)


def main() -> None:
    """Measures, and prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", default=[], help="parts of row names; default: all")
    parser.add_argument("--competitors", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.8, help="a turn")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    rows = []
    for case in CASES:
        if args.rows and not any(part in case.name for part in args.rows):
            continue
        for n in args.competitors:
            rows.append(measured(case, n, args.rounds, args.seconds))
            said = f"{case.name} beside {n}: {rows[-1]['ratio']:.2f}"
            print(said, file=sys.stderr, flush=True)
    print(f"{machine.describe()}\n\n{table(rows)}\n\nThe bar is {BAR}.")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["ratio"] < BAR for row in rows))


if __name__ == "__main__":
    main()
