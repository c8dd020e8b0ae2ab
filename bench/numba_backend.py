"""The Numba backend beside the compiled one, taking turns: python -m bench.numba_backend

Training speed of both on the training networks of `bench.networks`, A B A B, with the FMA peak;
with --custom that of a custom activation beside the same built-in one, on the compiled backend;
with --first-call the time of the first step of a new process, with an empty cache on disk and then
a full one. Comparisons with other libraries are `bench.compare`'s, with FASTNN_BACKEND=numba.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from bench import machine
from bench.networks import Case, cases_named, make_data
from fastnn import MLP, activation
from fastnn.callbacks import Callback, Run

CUSTOM = Case((784, 512, 512, 10), 128, "sgd", 12_800, activation="silu")

FIRST_CALL = """
import time
begin = time.perf_counter()
import numpy as np, fastnn
X, y = np.zeros((128, 784), np.float32), np.zeros(128, int)
imported = time.perf_counter()
fastnn.MLP((784, 128, 10), backend="numba", n_threads=2).fit(X, y, epochs=1)
print(imported - begin, time.perf_counter() - imported)
"""


@activation
def own_silu(a: float) -> float:
    """The built-in silu, as a user would write it."""
    return a / (1 + math.exp(-a))


class _Enough(Exception):
    """Ends a fit."""


class _Turn(Callback):
    """Measures the samples per second from the first native call's end on."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.begin, self.samples = seconds, 0.0, 0

    def on_progress(self, run: Run) -> None:
        now, samples = time.perf_counter(), (run.epoch - 1) * run.n_samples + run.position
        if not self.begin:
            self.begin, self.samples = now, samples
        elif now - self.begin > self.seconds:
            self.rate = (samples - self.samples) / (now - self.begin)
            raise _Enough


def rate(net: MLP, case: Case, X: Any, y: Any, seconds: float) -> float:
    """Samples per second in one turn."""
    turn = _Turn(seconds)
    try:
        net.fit(
            X,
            y,
            epochs=sys.maxsize,
            batch_size=case.batch_size,
            optimizer=case.optimizer or "sgd",
            learning_rate=case.learning_rate,
            shuffle=case.shuffled,
            callbacks=(turn,),
        )
    except _Enough:
        return turn.rate
    raise AssertionError("training is to end with the turn")


def compare(case: Case, settings: dict[str, dict[str, Any]], args: argparse.Namespace) -> None:
    """One row: two models of the case, made with these settings, turn by turn."""
    X, y = make_data(case)
    first = slice(0, case.batch_size)
    nets = {}
    for name, setting in settings.items():
        given = {"activation": case.activation, "output": case.output, "n_threads": args.threads}
        nets[name] = MLP(case.layer_sizes, **(given | setting))
        nets[name].fit(X[first], y[first], epochs=1, optimizer=case.optimizer or "sgd")  # compiles
    peak = machine.fma_peak(args.threads)
    rates: dict[str, list[float]] = {name: [] for name in nets}
    for _ in range(args.rounds):
        for name, net in nets.items():
            rates[name].append(rate(net, case, X, y, args.seconds))
    ratio = statistics.median(b / a for a, b in zip(*rates.values(), strict=True))
    figures = " | ".join(f"{statistics.median(r):,.0f}" for r in rates.values())
    ours = statistics.median(list(rates.values())[1]) * case.flops_per_sample / 1e9
    print(f"| {case.name} | {figures} | {ratio:.2f} | {ours:.0f} | {peak or 0:.0f} |", flush=True)


def first_calls() -> None:
    """Import and first step in new processes: cache empty, then full."""
    print("| cache on disk | import | first step, s |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for state in ("empty", "full", "full"):
            done = subprocess.run(
                [sys.executable, "-c", FIRST_CALL],
                env=os.environ | {"NUMBA_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            imported, step = map(float, done.stdout.split())
            print(f"| {state} | {imported:.2f} | {step:.2f} |", flush=True)


def main() -> None:
    """Prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rows", nargs="+", default=[], help="parts of row names; default: all training rows")
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=0.2, help="a turn")
    add("--threads", type=int, default=2)
    add("--custom", action="store_true", help="a custom silu beside the built-in one")
    add("--first-call", action="store_true", help="compiling, and loading what was compiled")
    args = parser.parse_args()
    if args.first_call:
        first_calls()
        return
    names = ("built-in", "custom") if args.custom else ("compiled", "numba")
    print(f"| row | {names[0]}, samples/s | {names[1]} | ratio | GFLOP/s | FMA peak |")
    print("|---|---|---|---|---|---|")
    if args.custom:
        backend = {"backend": "cython"}
        compare(CUSTOM, {"built-in": backend, "custom": backend | {"activation": own_silu}}, args)
        return
    both = {"compiled": {"backend": "cython"}, "numba": {"backend": "numba"}}
    for case in cases_named(args.rows):
        if case.kind == "train":
            compare(case, both, args)


if __name__ == "__main__":
    main()
